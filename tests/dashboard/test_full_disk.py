"""A disk that refuses the dashboard's own temporary files is told on the page, without a path."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import streamlit as st

from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from dashboard.app import recordings
from dashboard.app.own_model import model_text, packed, read_model
from dashboard.app.widgets import plain
from dashboard.pages.profile import data as profiling
from dashboard.pages.profile.jobs import Jobs
from tests.dashboard.pages import page_at
from tests.recording_values import case, recording, written
from tests.steps import tiny_model

OWN = model_text(tiny_model())
REFUSED = "this server's disk refuses a temporary file: "
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/secret/folder")


@contextmanager
def small_files() -> Iterator[None]:
    """A system on which no file may grow beyond 100 bytes (Python ignores SIGXFSZ)."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def refuse(*_: object, **__: object) -> None:
    raise FULL


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, of the test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_model_and_a_recording_whose_file_is_cut_short_are_refused_and_leave_nothing(
    temporary: Path, tmp_path: Path
) -> None:
    uploaded = written(recording(tiny_model(), case()), tmp_path).read_bytes()
    upload = partial(recordings.from_upload, uploaded, "mine.json")
    for where, read in (("model", partial(read_model, OWN)), ("recording 'mine.json'", upload)):
        with small_files(), pytest.raises(InputError) as refused:
            read()
        assert str(refused.value) == f"{where}: {REFUSED}{os.strerror(errno.EFBIG)}"
        assert not list(temporary.iterdir())
        read()  # once there is room again


def test_a_disk_without_room_for_a_folder_is_told_without_its_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(InputError) as refused:
        read_model(OWN)
    assert str(refused.value) == f"model: {REFUSED}No space left on device"
    assert Jobs().current is None  # the page Profile needs no folder for a preset


def test_the_file_of_a_profiles_model_is_whole_or_absent(
    monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    jobs = Jobs()
    with monkeypatch.context() as patch, small_files():
        patch.setattr("dashboard.pages.profile.jobs.read_model", lambda _: tiny_model())
        with pytest.raises(InputError, match=rf"^model: {REFUSED}File too large$"):
            jobs.model_file(OWN)
    assert not [path for path in temporary.rglob("*") if path.is_file()]
    assert load_model(str(jobs.model_file(OWN))) == tiny_model()


@pytest.mark.slow  # each draws a page
@pytest.mark.parametrize(
    ("view", "refuses"), [("explore", "write_bytes"), ("profile", "write_text")]
)
def test_a_page_of_a_model_of_ones_own_says_why_it_has_no_answer(
    monkeypatch: pytest.MonkeyPatch, view: str, refuses: str
) -> None:
    monkeypatch.setattr(profiling, "has_torch", lambda: True)
    monkeypatch.setattr(Path, refuses, refuse)
    st.cache_resource.clear()  # the jobs of another test may have the model's file
    at = page_at(view)
    at.query_params.update(own=str(packed(OWN)), model="your own")
    at.run()
    assert not at.exception
    told = f"model: {REFUSED}No space left on device"
    assert plain(told) in [error.value for error in at.error]
