"""Recordings are found by name alone, read anew when they change, and refused with one message."""

import io
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.files import MAX_FILE_BYTES
from costmodel.recordings import folders
from costmodel.recordings.recording import recording_text
from dashboard.app import recordings
from tests.committed import FOLDER
from tests.recording_values import case, recording, run, written
from tests.steps import tiny_model

OLMOE = "h200-olmoe-1b-7b.json"
TINY = recording(tiny_model(), case(time=run({"graph_s": 0.5})))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the shipped recordings, and none of one's own."""
    monkeypatch.setattr(folders, "SHIPPED", tmp_path)
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path / "none"))
    return tmp_path


def test_names_are_those_of_the_folder_itself_and_of_second_runs(here: Path) -> None:
    (here / "again").mkdir()
    for name in ("b.json", "a.json", "notes.txt", "again/a.json"):
        (here / name).write_text("{}")
    (here / "folder.json").mkdir()
    assert recordings.recording_names() == ("a.json", "b.json")
    assert folders.repeat_names() == ("again/a.json",)


def test_ones_own_recordings_stand_after_the_shipped_and_are_told_apart(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path_factory.mktemp("mine")
    monkeypatch.setenv(folders.VARIABLE, str(own))
    written(TINY, here, "a.json")
    longer = replace(TINY, preset="mine")
    written(longer, own, "a.json")
    assert recordings.recording_names() == ("a.json", "own/a.json")
    assert (recordings.load("a.json"), recordings.load("own/a.json")) == (TINY, longer)
    assert recordings.matching(tiny_model()) == ("a.json", "own/a.json")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.json",
        "/etc/passwd",
        "again/../../secret.json",
        "again/../a.json",
        "./a.json",
        "a.json\0",
        "",
        "A" * 5000,
    ],
)
def test_a_name_never_becomes_a_path(here: Path, name: str) -> None:
    written(TINY, here, "a.json")
    written(TINY, here.parent, "secret.json")
    with pytest.raises(InputError, match="is neither a shipped recording nor one of your own"):
        recordings.load(name)


def test_a_recording_is_read_once_and_anew_when_its_file_changes(here: Path) -> None:
    path = written(TINY, here)
    first = recordings.load(path.name)
    assert first == TINY
    assert recordings.load(path.name) is first
    longer = replace(TINY, preset="changed")
    written(longer, here)
    assert recordings.load(path.name) == longer
    same_size = replace(TINY, preset="CHANGED")
    written(same_size, here)
    os.utime(path, ns=(1, 1))
    assert recordings.load(path.name) == same_size


def test_a_recording_matches_a_model_by_what_it_is_and_not_by_its_name(here: Path) -> None:
    olmoe = load_model("olmoe-1b-7b")
    shutil.copy(FOLDER / OLMOE, here)
    (here / "broken.json").write_text("{")
    (here / "foreign.json").write_text('{"model": 3}')
    renamed = replace(olmoe, name="mine", source="my own", notes=("a note",))
    assert recordings.matching(olmoe) == recordings.matching(renamed) == (OLMOE,)
    wider = replace(olmoe, vocab_size=olmoe.vocab_size + 1)
    assert recordings.matching(wider) == ()


def test_of_several_that_match_the_one_of_the_presets_name_comes_first(here: Path) -> None:
    model = tiny_model()
    for name, preset in (("a.json", None), ("b.json", model.name), ("c.json", "other")):
        written(replace(TINY, preset=preset), here, name)
    assert recordings.matching(model) == ("b.json", "a.json", "c.json")


def test_of_several_that_match_those_of_plain_pytorch_come_first(here: Path) -> None:
    fused = json.loads(written(TINY, here, "b.json").read_text())
    for of_case in fused["cases"]:
        for of_run in of_case["runs"].values():
            of_run["backend"] = "fused"
    (here / "a.json").write_text(json.dumps(fused))
    assert recordings.matching(tiny_model()) == ("b.json", "a.json")
    assert recordings.matching(tiny_model(), backend="fused") == ("a.json",)


def test_an_upload_is_read_as_its_file_would_be() -> None:
    assert recordings.from_upload(recording_text(TINY).encode(), "mine.json") == TINY


def archive() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        packed.writestr("recording.json", recording_text(TINY))
    return made.getvalue()


WRONG_TYPE = recording_text(TINY).replace('"batch":1', '"batch":"1"').encode()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b" " * 50_000_000, f"holds 50,000,000 bytes; at most {MAX_FILE_BYTES:,} are read"),
        (archive(), "is a ZIP archive"),
        (b"\xff\xfe{}", "is not UTF-8 text"),
        (b"{", "is not JSON"),
        (b"[]", "holds a list; an object is expected"),
        (b'{"schema_version": NaN}', "is not finite"),
        (b"[" * 100_000, "is nested deeper"),
        (WRONG_TYPE, "batch"),
        (b"{}", "schema_version"),
    ],
)
def test_a_hostile_upload_gets_one_message_that_names_it(data: bytes, told: str) -> None:
    name = "<script>alert(1)</script>.json"
    with pytest.raises(InputError) as refused:
        recordings.from_upload(data, name)
    assert str(refused.value).startswith(f"recording {name!r}: ")
    assert told in str(refused.value)
    assert "uploaded.json" not in str(refused.value)
    assert "/tmp" not in str(refused.value)  # noqa: S108 - no path of ours is told
