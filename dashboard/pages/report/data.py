"""The report page without its widgets: what was chosen becomes a report, a command, file names."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from costmodel.costs.latency import Unknown
from costmodel.errors import InputError, shown
from costmodel.inputs.catalog import load_model, model_names, numbered
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_batches
from costmodel.inputs.workload import Workload
from costmodel.recordings.recording import Recording, load_recording
from costmodel.validation.counterparts import Gpus
from dashboard.app.selection import OWN, OWN_FILE, Selection
from dashboard.report.build import Asked, build, compared_batches, now
from dashboard.report.document import CONTENTS, Content, Report
from dashboard.report.inputs import MAX_RECORDINGS
from dashboard.report.measured import measured_model

MAX_MORE = 3  # models beside the sidebar's
FOLDER = Path("recordings")  # where `sparsecost profile` writes, and the app looks
MAX_STEM = 80  # characters of a file's name
LABELS = {
    "summary": "Summary",
    "operators": "Operators",
    "comparison": "Comparison over the batch",
    "measured": "Predicted beside measured",
    "method": "Method and sources",
}
MIME = {
    ".html": "text/html",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".json": "application/json",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the page's own controls say: `compared` is the list of batches as typed."""

    more: tuple[str, ...] = ()  # presets
    contents: tuple[Content, ...] = CONTENTS
    compared: str = ""  # empty: the usual batches
    price_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The recordings that are here: of the chosen models, and what is wrong with others."""

    recordings: tuple[tuple[Path, Recording], ...] = ()
    unread: tuple[str, ...] = ()


def models_of(selection: Selection, wanted: Wanted) -> tuple[ModelConfig, ...]:
    """The sidebar's model and the others, under different names.

    Raises:
        InputError: A name is no preset, or there are too many.
    """
    if len(wanted.more) > MAX_MORE:
        raise InputError(f"rep_models={len(wanted.more)}: at most {MAX_MORE} more models")
    for name in wanted.more:  # names only: what comes from outside must not become a path
        if name not in model_names():
            raise InputError(f"rep_models={shown(name)}: is not one of {', '.join(model_names())}")
    return tuple(numbered([selection.model, *map(load_model, wanted.more)]))


def asked(selection: Selection, wanted: Wanted, found: Found) -> Asked:
    """What the report is to be of.

    Raises:
        InputError: A choice breaks a rule; the message names it.
    """
    batch = (selection.workload.batch,)
    return Asked(
        models=models_of(selection, wanted),
        workload=selection.workload,
        batches=batch,
        contexts=(selection.workload.context,),
        compared_batches=parse_batches(wanted.compared)
        if wanted.compared
        else compared_batches(batch),
        hardware=selection.hardware,
        calibration=selection.calibration,
        recordings=tuple((path.stem, recording) for path, recording in found.recordings),
        gpus=Gpus(),
        price_per_hour=wanted.price_per_hour,
        contents=wanted.contents,
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def recording_at(path: str, changed_ns: int) -> Recording:
    """A recording, read once for each change of its file; frozen, so that all sessions share it."""
    del changed_ns
    return load_recording(Path(path))


def recordings_of(models: tuple[ModelConfig, ...], folder: Path = FOLDER) -> Found:
    """The recordings in the folder that measured one of the models."""
    recordings, unread = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            recording = recording_at(str(path), path.stat().st_mtime_ns)
        except (InputError, OSError) as error:
            unread.append(str(error))
            continue
        if measured_model(models, recording) is not None:
            recordings.append((path, recording))
    return Found(recordings=tuple(recordings[:MAX_RECORDINGS]), unread=tuple(unread))


def report_on(of: Asked, recordings: Sequence[tuple[Path, Recording]]) -> Report:
    """The report, built once for what is asked of it and the state of the files."""
    files = [(str(path), path.stat().st_mtime_ns) for path, _ in recordings]
    calibration = of.calibration
    by = None if isinstance(calibration, Unknown) else calibration.calibration
    plain = (of.models, of.workload, of.compared_batches, of.hardware, of.price_per_hour)
    return _built(repr((plain, of.contents, files, by and (by.name, by.conditions.started))), of)


@st.cache_resource(max_entries=32, show_spinner="Building the report")
def _built(key: str, _of: Asked) -> Report:
    del key
    return build(_of, now())


def command(selection: Selection, wanted: Wanted, found: Found, suffix: str) -> str:
    """The command that writes the same report."""
    work = selection.workload
    model = OWN_FILE if selection.model_name == OWN else selection.model_name
    words = ["sparsecost", "report", model, *wanted.more, *_workload_options(work)]
    if selection.hardware_name != "h200":
        words += ["--hardware", selection.hardware_name]
    if wanted.compared:
        words += ["--compare-batch", wanted.compared]
    if wanted.price_per_hour is not None:
        words += ["--price-per-hour", repr(wanted.price_per_hour)]
    if set(wanted.contents) != set(CONTENTS):
        words += ["--contents", ",".join(wanted.contents)]
    for path, _ in found.recordings:
        words += ["--recording", str(path)]
    return shlex.join([*words, "--out", f"report{suffix}"])


def _workload_options(work: Workload) -> list[str]:
    words = [
        *("--phase", work.phase),
        *("--batch", str(work.batch)),
        *("--context", str(work.context)),
    ]
    usual = Workload()
    for option, value, default in (
        ("--new-tokens", str(work.new_tokens), str(usual.new_tokens)),
        ("--dtype", work.dtype.label, usual.dtype.label),
        ("--routing", work.routing.label, usual.routing.label),
        ("--attention-flops", work.attention_flops, usual.attention_flops),
        ("--logits", work.logits, usual.logits),
        ("--mla", work.mla, usual.mla),
        ("--backend", work.backend, usual.backend),
    ):
        if value is not None and value != default:
            words += [option, value]
    if (work.dtype.label, work.kv_dtype.label) != (usual.dtype.label, usual.kv_dtype.label):
        words += ["--kv-dtype", work.kv_dtype.label]
    return words


def file_name(report: Report, suffix: str) -> str:
    """`sparsecost-OLMoE-1B-7B.html`: letters, digits, dots, dashes and underscores only."""
    names = "-".join(model.name for model in report.inputs.models)
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", names).strip("-.")[:MAX_STEM].strip("-.")
    return f"sparsecost-{stem or 'report'}{suffix}"
