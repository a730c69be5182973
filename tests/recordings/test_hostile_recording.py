"""Recordings that nobody means well with: each is refused in one line, soon."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.recordings.recording import load_recording, recording_text
from tests.commands import refusal
from tests.inputs.damages import DAMAGES, DROPPED, GOOD, TRACE, Place, damaged
from tests.slowness import guarded

QUIET_S = 1.5  # what the largest takes


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_recording_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    place, value, said = DAMAGES[name]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(damaged(place, value)))
    line = refused(path)
    assert line.startswith("recording 'bad.json': ")
    assert said in line


def refused(path: Path) -> str:
    """What the command says of a file that it refuses, in time."""
    with guarded(QUIET_S):
        line = refusal("validate", str(path))
    assert len(line) < 3000
    return line


TEXT = json.dumps(GOOD)
ONE_KEY = '"schema_version": 1'


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("recording.json", TEXT)
    return held.getvalue()


# Bytes of a file, and what the message must say
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is not JSON: Expecting value"),
    "blank": (lambda: b" \n" * 100, "is not JSON: Expecting value"),
    "a zip": (zipped, "is not "),
    "a pickle": (lambda: pickle.dumps(GOOD), "is not "),
    "a pickle of text": (lambda: pickle.dumps(GOOD, protocol=0), "is not JSON"),
    "binary": (lambda: bytes(range(256)), "is not UTF-8 text"),
    "UTF-16": (lambda: TEXT.encode("utf-16"), "is not UTF-8 text (byte 0)"),
    "truncated": (TEXT[: len(TEXT) // 2].encode, "is not JSON"),
    "two documents": ((TEXT + TEXT).encode, "is not JSON: Extra data"),
    "a list": (lambda: b"[1, 2]", "holds a list; an object is expected"),
    "a number": (lambda: b"17", "holds a int; an object is expected"),
    "another JSON": (lambda: b'{"hello": "world"}', "schema_version: is missing"),
    "NaN": (lambda: TEXT.replace('"seed": 0', '"seed": NaN').encode(), "'NaN' is not finite"),
    "infinity": (lambda: TEXT.replace('"seed": 0', '"seed": -Infinity').encode(), "is not finite"),
    "1e999": (lambda: TEXT.replace('"seed": 0', '"seed": 1e999').encode(), "is not finite"),
    "a field twice": (
        lambda: TEXT.replace(ONE_KEY, f"{ONE_KEY}, {ONE_KEY}").encode(),
        "field 'schema_version' stands twice in one object",
    ),
    "half a character": (
        lambda: TEXT.replace('"source": "a test"', r'"source": "\ud800"').encode(),
        "ends in half a character",
    ),
    "deep lists": (lambda: b'{"a":' + b"[" * 100_000, "is nested deeper than 32 levels"),
    "deep objects": (lambda: b'{"a":' * 100_000, "is nested deeper than 32 levels"),
    "an integer of 5000 digits": (
        lambda: TEXT.replace('"seed": 0', f'"seed": {"9" * 5000}').encode(),
        "is not JSON: Exceeds the limit",
    ),
    "50 MB": (lambda: b" " * 50_000_000, "holds 50,000,000 bytes; at most 16,777,216 are read"),
    "16 MB of numbers": (
        lambda: b'{"a":[' + b"0," * 8_000_000 + b"0]}",
        "holds over 1,200,000 values",
    ),
    "many lists": (lambda: b'{"a":[' + b"[]," * 500_000 + b"0]}", "holds over 400,000 lists"),
    "many fields": (
        lambda: json.dumps(dict.fromkeys(map(str, range(200_000)))).encode(),
        "holds over 100,000 fields",
    ),
    "as many fields as are read": (
        lambda: json.dumps(dict.fromkeys(map(str, range(99_900)))).encode(),
        "and 99,899 more broken rules",
    ),
    "as many wrong notes as are read": (
        lambda: json.dumps(damaged(("model", "notes"), [0] * 1_190_000)).encode(),
        "breaks 1,190,000 rules",
    ),
    "a column of a million": (
        lambda: json.dumps(
            damaged((*TRACE, "operators", "launches", "values"), [-1] * 1_000_000)
        ).encode(),
        "launches.exact.values.0=-1",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_recording_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    made, said = FILES[name]
    path = tmp_path / "bad.json"
    path.write_bytes(made())
    assert said in refused(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    folder, fifo, loop = tmp_path / "folder.json", tmp_path / "fifo.json", tmp_path / "loop.json"
    folder.mkdir()
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    assert "is a directory; a file is expected" in refused(folder)
    assert "is not a regular file" in refused(fifo)
    assert "does not exist" in refused(loop)
    assert "does not exist" in refused(tmp_path / "none.json")
    assert "does not exist" in refused(Path("a\x1b[2Jb\n.json"))


def test_more_work_than_a_moment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"

    def line(**changes: object) -> str:
        path.write_text(json.dumps(GOOD | changes))
        return refused(path)

    def cases(count: int, routing: str = "uniform") -> list[Any]:
        bare = {"seed": 0, "runs": {}}
        return [
            {**bare, "workload": {**GOOD["cases"][0]["workload"], "batch": 1 + i, "routing": r}}
            for i, r in enumerate([routing.format(i) for i in range(count)])
        ]

    deep = GOOD["model"] | {"num_hidden_layers": 1024}
    assert "cases: hold 9 routings; at most 8 are read" in line(cases=cases(9, "zipf:0.{}"))
    # 16 cases x (27 paths + 16 x 1024 layers) = 262,576, over 2^18
    assert "cases: hold 262,576 leaves in all" in line(model=deep, cases=cases(16))
    sorts = [{"layers": str(i), "ffn": GOOD["model"]["ffn"]} for i in range(100)]
    odd = GOOD["model"] | {"num_hidden_layers": 100, "overrides": sorts}
    assert "cases: hold 1,111 layer kinds in all" in line(model=odd, cases=cases(11))
    zipf = cases(2, "zipf:0.{}")
    assert "cases: hold 202 layer kinds under Zipf" in line(model=odd, cases=zipf)


def test_a_good_file_beside_a_bad_one_does_not_help(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(TEXT)
    bad.write_text("{}")
    assert "recording 'bad.json'" in refusal("validate", str(good), str(bad))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 4)
    | st.sampled_from([2**31, 2**53, 2**63, 10**30, 10**400])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def places(value: Any, at: Place = ()) -> list[Place]:  # noqa: ANN401 - any part of JSON
    """Every place within."""
    keys = value if isinstance(value, dict) else range(min(len(value), 2))
    here = [(*at, key) for key in keys]
    inner = [(key, value[key]) for key in keys if isinstance(value[key], dict | list)]
    return here + [place for key, child in inner for place in places(child, (*at, key))]


@settings(max_examples=300)
@given(place=st.sampled_from(places(GOOD)), value=ANYTHING | st.just(DROPPED))
def test_any_value_at_any_place_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: Place, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(json.dumps(damaged(place, value)).encode())
    try:
        read = load_recording(path)
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are right
        assert len(str(error)) < 3000  # noqa: PT017
    else:
        assert json.loads(recording_text(read))["paths"]
