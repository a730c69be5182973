"""The Report page as data: the chosen report, the command that writes it, its file names."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from costmodel.costs.latency import Unknown
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names, numbered
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_batches, parse_choice
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import default_kv_dtype
from costmodel.layers.mesh import ONE_GPU, AskedMesh, Mesh
from costmodel.recordings.folders import is_shipped, recording_file, recording_title
from costmodel.recordings.recording import Recording
from costmodel.validation.machines import Gpus
from dashboard.app.own_gpu import GPU_FILE
from dashboard.app.recordings import load, recording_names
from dashboard.app.selection import OWN, OWN_FILE, Selection
from dashboard.report.build import Asked, build, compared_batches, now
from dashboard.report.document import CONTENTS, Content, Report
from dashboard.report.inputs import MAX_RECORDINGS
from dashboard.report.measured import measured_model

MAX_MORE = 3  # models besides the sidebar's
MAX_LIST_CHARS = 400  # of a list of batches
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
class ReportForm:
    """The values of the page's own controls; `compared` is the list of batches as typed."""

    more: tuple[str, ...] = ()  # presets
    contents: tuple[Content, ...] = CONTENTS
    compared: str = ""  # empty: the usual batches
    price_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The recordings of the chosen models with their paths, and why other files cannot be read."""

    recordings: tuple[tuple[Path, Recording], ...] = ()
    errors: tuple[str, ...] = ()


def models_of(selection: Selection, form: ReportForm) -> tuple[ModelConfig, ...]:
    """The sidebar's model and the other chosen ones, under different names.

    Raises:
        InputError: A name is no preset, or there are too many.
    """
    if len(form.more) > MAX_MORE:
        raise InputError(f"rep_models={len(form.more)}: at most {MAX_MORE} more models")
    for name in form.more:  # names only: what comes from outside must not become a path
        parse_choice(name, field="rep_models", options=model_names())
    return tuple(numbered([selection.model, *map(load_model, form.more)]))


def asked(selection: Selection, form: ReportForm, recorded: Recorded) -> Asked:
    """What the report is made from: models, workload, GPU, recordings and contents.

    Raises:
        InputError: A choice breaks a rule; the message names it.
    """
    batch = (selection.workload.batch,)
    return Asked(
        models=models_of(selection, form),
        workload=selection.workload,
        batches=batch,
        contexts=(selection.workload.context,),
        compared_batches=parse_batches(form.compared) if form.compared else compared_batches(batch),
        hardware=selection.hardware,
        calibration=selection.calibration,
        recordings=tuple(
            (recording_title(path), recording) for path, recording in recorded.recordings
        ),
        gpus=Gpus(),
        price_per_hour=form.price_per_hour,
        contents=form.contents,
    )


def recordings_of(models: tuple[ModelConfig, ...]) -> Recorded:
    """The recordings in the app's folder that measured one of the models."""
    recordings, errors = [], []
    for name in recording_names():
        try:
            recording = load(name)
        except (InputError, OSError) as error:
            errors.append(str(error))
            continue
        if measured_model(models, recording) is not None:
            recordings.append((recording_file(name), recording))
    return Recorded(recordings=tuple(recordings[:MAX_RECORDINGS]), errors=tuple(errors))


def report_on(inputs: Asked, recordings: Sequence[tuple[Path, Recording]]) -> Report:
    """The report, built once for the same inputs and unchanged files."""
    files = [(str(path), path.stat().st_mtime_ns) for path, _ in recordings]
    curves = inputs.calibration
    calibration = None if isinstance(curves, Unknown) else curves.calibration
    measured = calibration and (calibration.name, calibration.conditions.started)
    key = (
        inputs.models,
        inputs.workload,
        inputs.compared_batches,
        inputs.hardware,
        inputs.price_per_hour,
        inputs.contents,
        files,
        measured,
    )
    return _built(repr(key), inputs)


@st.cache_resource(max_entries=32, show_spinner="Building the report")
def _built(key: str, _inputs: Asked) -> Report:
    del key
    return build(_inputs, now())


def command(selection: Selection, form: ReportForm, recorded: Recorded, suffix: str) -> str:
    """The command that writes the same report."""
    workload = selection.workload
    model = OWN_FILE if selection.model_name == OWN else selection.model_name
    words = ["sparsecost", "report", model, *form.more, *_workload_options(workload)]
    if selection.hardware_name != "h200":
        gpu = GPU_FILE if selection.hardware_name == OWN else selection.hardware_name
        words += ["--hardware", gpu]
    if selection.memory_fraction != 1:
        words += ["--memory-fraction", f"{selection.memory_fraction:g}"]
    if selection.memory_reserve_gib:
        words += ["--memory-reserve", f"{selection.memory_reserve_gib:g}GiB"]
    if form.compared:
        words += ["--compare-batch", form.compared]
    if form.price_per_hour is not None:
        words += ["--price-per-hour", repr(form.price_per_hour)]
    if set(form.contents) != set(CONTENTS):
        words += ["--contents", ",".join(form.contents)]
    for path, _ in recorded.recordings:
        words += ["--recording", path.stem if is_shipped(path) else str(path)]
    return shlex.join([*words, "--out", f"report{suffix}"])


def _workload_options(workload: Workload) -> list[str]:
    words = [
        *("--phase", workload.phase),
        *("--batch", str(workload.batch)),
        *("--context", str(workload.context)),
    ]
    usual = Workload()
    for option, value, default in (
        ("--new-tokens", str(workload.new_tokens), str(usual.new_tokens)),
        *_format_options(workload),
        ("--routing", workload.routing.label, usual.routing.label),
        ("--attention-flops", workload.attention_flops, usual.attention_flops),
        ("--logits", workload.logits, usual.logits),
        ("--fp32-math", workload.fp32_math, usual.fp32_math),
        ("--mla", workload.mla, usual.mla),
        ("--mla-cache", workload.mla_cache, usual.mla_cache),
        ("--window-cache", workload.window_cache, usual.window_cache),
        ("--placement", workload.placement.label, usual.placement.label),
        ("--backend", workload.backend, usual.backend),
    ):
        if value is not None and value != default:
            words += [option, value]
    return words + _mesh_options(workload.mesh)


def _mesh_options(mesh: Mesh | AskedMesh) -> list[str]:
    """The GPUs; none where there is one."""
    if mesh == ONE_GPU:
        return []
    gpus = None
    if isinstance(mesh, AskedMesh):
        gpus = "auto" if mesh.fewest else mesh.gpus
    sizes = {name: getattr(mesh, name) for name in ("tp", "ep", "pp", "dp")}
    stated = {"gpus": gpus, **sizes, "split-tables": mesh.tables}
    unset = (None, "width") if isinstance(mesh, AskedMesh) else (None, "width", 1)
    return [
        word
        for name, value in stated.items()
        if value not in unset
        for word in (f"--{name}", str(value))
    ]


def _format_options(workload: Workload) -> list[tuple[str, str | None, str | None]]:
    """The formats with their defaults; those that a user's file states are left to it."""
    asked, kv_dtype = workload.of_checkpoint, workload.kv_dtype
    if asked is None:
        usual = default_kv_dtype(workload.formats.default).label
        return [("--dtype", workload.dtype_label, None), ("--kv-dtype", kv_dtype.label, usual)]
    dtype = workload.dtype_label if asked.required else None
    cache = None if asked.kv_dtype is None else kv_dtype.label
    return [("--dtype", dtype, None), ("--kv-dtype", cache, None)]


def file_name(report: Report, suffix: str) -> str:
    """`sparsecost-OLMoE-1B-7B.html`: letters, digits, dots, dashes and underscores only."""
    names = "-".join(model.name for model in report.inputs.models)
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", names).strip("-.")[:MAX_STEM].strip("-.")
    return f"sparsecost-{stem or 'report'}{suffix}"
