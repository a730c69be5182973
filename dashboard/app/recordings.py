"""Recordings that the app may open: shipped ones and a user's own by name, and uploaded files.

A name from an address is looked up among the folder's files and never becomes a path. A recording
is read once and kept until its file changes.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st
from pydantic import TypeAdapter, ValidationError

from costmodel.errors import InputError, shown
from costmodel.inputs.files import MAX_FILE_BYTES, read_json_object
from costmodel.inputs.model import ModelConfig
from costmodel.recordings.folders import (
    is_own,
    listed_files,
    own_names,
    recording_file,
    shipped_names,
)
from costmodel.recordings.recording import Recording, load_recording
from costmodel.validation.measured_model import comparable
from dashboard.app.given_file import read_given

ZIP = b"PK\x03\x04"  # how an archive begins
KEPT = 16
USUAL_BACKEND = "torch"


def recording_names() -> tuple[str, ...]:
    """The shipped recordings, then the user's own, each as `own/NAME`."""
    return (*shipped_names(), *own_names())


def load(name: str) -> Recording:
    """The recording of one of `recording_names` or `repeat_names`.

    Raises:
        InputError: There is none of that name, or it is no valid recording.
    """
    return _loaded(*_file(name))


def matching(
    model: ModelConfig, names: Sequence[str] | None = None, *, backend: str | None = None
) -> tuple[str, ...]:
    """The names of recordings that measured a model, whatever it is called; its preset's first.

    Of several, those that are shipped come first, and of these those of plain PyTorch's kernels.
    Looks among `names`, or among all `recording_names`; with `backend`, only for recordings of its
    kernels.
    """
    files = listed_files()
    sought = comparable(model)
    equal = []
    for name in files if names is None else names:
        path = files[name] if name in files else recording_file(name)
        preset, recorded, measured = _head(*_stated(path))
        if backend not in {None, measured}:
            continue
        if recorded == sought:
            equal.append((is_own(name), preset != model.name, measured != USUAL_BACKEND, name))
    return tuple(name for *_, name in sorted(equal))


def from_upload(data: bytes, name: str) -> Recording:
    """The recording in an uploaded file; `name` is used in messages only.

    Raises:
        InputError: The file is too large, or no valid recording.
    """
    where = f"recording {shown(name)}"
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"{where}: holds {len(data):,} bytes; at most {MAX_FILE_BYTES:,} are read")
    if data.startswith(ZIP):
        raise InputError(f"{where}: is a ZIP archive; the JSON file of a recording is expected")
    return read_given(data, "uploaded.json", where, load_recording)


def _file(name: str) -> tuple[str, int, int]:
    """The path of a recording, its time of change and its size: the key under which it is kept."""
    return _stated(recording_file(name))


def _stated(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path.absolute()), status.st_mtime_ns, status.st_size


@st.cache_resource(max_entries=KEPT, show_spinner=False)
def _loaded(path: str, changed_ns: int, size_bytes: int) -> Recording:  # noqa: ARG001 - the key
    return load_recording(Path(path))


@lru_cache(maxsize=KEPT * KEPT)  # asked for all of them at every redraw: Streamlit's takes longer
def _head(
    path: str,
    changed_ns: int,  # noqa: ARG001 - the key
    size_bytes: int,  # noqa: ARG001
) -> tuple[str | None, ModelConfig | None, str]:
    """The preset's name, the comparable model and the backend of a recording; nothing measured.

    None where the file holds none; the usual backend where it names none.
    """
    try:
        table = read_json_object(Path(path))
        model = TypeAdapter(ModelConfig).validate_json(json.dumps(table.get("model")))
    except (InputError, ValidationError):
        return None, None, USUAL_BACKEND
    preset = table.get("preset")
    return preset if isinstance(preset, str) else None, comparable(model), _backend(table)


def _backend(table: dict[str, Any]) -> str:
    """The backend of the first run in a file, which need not be a valid recording."""
    try:
        runs = [run for case in table["cases"] for run in case["runs"].values()]
        return str(runs[0]["backend"])
    except (AttributeError, IndexError, KeyError, TypeError):
        return USUAL_BACKEND
