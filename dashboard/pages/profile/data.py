"""The values of the Profile page, checked, as the command line of a profile."""

import re
import shutil
from dataclasses import dataclass
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from costmodel.errors import InputError
from costmodel.inputs.parse import (
    parse_batches,
    parse_choice,
    parse_contexts,
    parse_counts,
    parse_routing,
)
from costmodel.inputs.workload import MAX_NEW_TOKENS, Backend, Phase
from costmodel.recordings.quantities import QUANTITIES, RUNS
from dashboard.app.selection import OWN, Selection

SCORES = "scores"  # routing by the model's own scores, which can only be measured
NO_TORCH = (
    "PyTorch (torch) is not installed, and this page measures with it. All others do without."
)
CPU_INDEX = "--extra-index-url https://download.pytorch.org/whl/cpu"
DEVICE_FILE = Path("/dev/nvidiactl")  # of NVIDIA's driver on Linux
ON_CPU = {"time": "all but the time as a CUDA graph"}  # by run; the other runs need a GPU
NEEDS_GPU = "not measured (needs an NVIDIA GPU)"
MAX_LIST_CHARS = 400  # of a list of numbers
MAX_FILE_CHARS = 90
MAX_STEM = 60  # characters of a model's name in the name of its file


Device: TypeAlias = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileForm:
    """The values of the page's controls, as typed."""

    model: str  # a preset, or the path of a file
    phase: Phase
    batch: str
    context: str
    new_tokens: str
    routing: tuple[str, ...]
    runs: tuple[str, ...]
    device: Device
    backend: Backend
    standard: bool  # the plan of the committed recordings instead of the lists
    resume: bool


def has_torch() -> bool:
    """Whether torch is installed, without importing it; also if it was while this server ran."""
    invalidate_caches()
    return find_spec("torch") is not None


def has_gpu() -> bool:
    """Whether NVIDIA's driver is installed, without importing torch."""
    return DEVICE_FILE.exists() or shutil.which("nvidia-smi") is not None


def default_file_name(selection: Selection) -> str:
    """The name of a new recording's file: that of the preset, or made of the own model's name."""
    stem = selection.model_name
    if stem == OWN:
        dashed = re.sub(r"[^a-z0-9_-]+", "-", selection.model.name.lower())
        stem = dashed.strip("-_")[:MAX_STEM] or "own-model"
    backend = selection.workload.backend
    return f"{stem}.json" if backend == "torch" else f"{stem}-{backend}.json"


def run_rows(runs: tuple[str, ...]) -> list[dict[str, str]]:
    """What each run measures, and what of it on a CPU."""
    return [
        {
            "Run": run,
            "Measures": ", ".join(
                quantity.title for quantity in QUANTITIES.values() if run in quantity.runs
            ),
            "On a CPU": ON_CPU.get(run, NEEDS_GPU),
        }
        for run in runs
    ]


def arguments(form: ProfileForm, out: Path) -> tuple[str, ...]:
    """The words of the command line after `sparsecost`.

    Raises:
        InputError: A value breaks a rule; the message names it.
    """
    for field, values, known in (
        ("runs", form.runs, RUNS),
        ("device", (form.device,), DEVICES),
        ("phase", (form.phase,), get_args(Phase)),
    ):
        for value in values:
            parse_choice(value, field=field, options=known)
    if not form.runs:
        raise InputError("runs: choose at least one")
    words = ["profile", form.model]
    if form.standard:
        words += ["--plan", "standard"]
    else:
        words += _lists(form)
    words += ["--runs", ",".join(form.runs), "--device", form.device, "--out", str(out)]
    words += ["--backend", form.backend] * (form.backend != "torch")
    return (*words, "--resume") if form.resume else tuple(words)


def _lists(form: ProfileForm) -> list[str]:
    parse_batches(form.batch)
    parse_contexts(form.context)
    if not form.routing:
        raise InputError("routing: choose at least one")
    for value in form.routing:
        if value != SCORES:
            parse_routing(value, files=False)
    words = ["--phase", form.phase, "--batch", form.batch, "--context", form.context]
    if form.phase == "prefill":
        parse_counts(form.new_tokens, field="new_tokens", low=1, high=MAX_NEW_TOKENS)
        words += ["--new-tokens", form.new_tokens]
    return [*words, "--routing", ",".join(form.routing)]
