"""What the Profile page asks for, checked: the command line of a profile."""

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from costmodel.errors import InputError, shown
from costmodel.inputs.parse import parse_batches, parse_contexts, parse_counts, parse_routing
from costmodel.inputs.workload import MAX_NEW_TOKENS, Phase
from costmodel.recordings.quantities import QUANTITIES, RUNS

SCORES = "scores"  # the model's own choices, which only a measurement knows
NO_TORCH = 'This machine has no torch. Install it with: pip install "sparsecost[gpu]"'
DEVICE_FILE = Path("/dev/nvidiactl")  # of NVIDIA's driver on Linux
ON_CPU = {"time": "all but the time as a CUDA graph"}  # of the runs; the others need a GPU
NEEDS_GPU = "not measured (needs an NVIDIA GPU)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The page's values as typed."""

    model: str  # a preset, or the path of a file
    phase: Phase
    batch: str
    context: str
    new_tokens: str
    routing: tuple[str, ...]
    runs: tuple[str, ...]
    device: Literal["auto", "cpu", "cuda"]
    standard: bool  # the plan of the committed recordings instead of the lists
    resume: bool


def has_torch() -> bool:
    """Whether torch is installed; it is not imported."""
    return find_spec("torch") is not None


def has_gpu() -> bool:
    """Whether NVIDIA's driver is installed; torch is not asked."""
    return DEVICE_FILE.exists() or shutil.which("nvidia-smi") is not None


def run_rows(runs: tuple[str, ...]) -> list[dict[str, str]]:
    """What each run measures, and what of it on a CPU."""
    return [
        {
            "Run": run,
            "Measures": ", ".join(each.title for each in QUANTITIES.values() if run in each.runs),
            "On a CPU": ON_CPU.get(run, NEEDS_GPU),
        }
        for run in runs
    ]


def arguments(asked: Asked, out: Path) -> tuple[str, ...]:
    """What follows `sparsecost` on the command line.

    Raises:
        InputError: A value breaks a rule; the message names it.
    """
    for field, values, known in (
        ("runs", asked.runs, RUNS),
        ("device", (asked.device,), ("auto", "cpu", "cuda")),
        ("phase", (asked.phase,), ("decode", "prefill")),
    ):
        for value in values:
            if value not in known:
                raise InputError(f"{field}={shown(value)}: is not one of {', '.join(known)}")
    if not asked.runs:
        raise InputError("runs: choose at least one")
    found = ["profile", asked.model]
    if asked.standard:
        found += ["--plan", "standard"]
    else:
        found += _lists(asked)
    found += ["--runs", ",".join(asked.runs), "--device", asked.device, "--out", str(out)]
    return (*found, "--resume") if asked.resume else tuple(found)


def _lists(asked: Asked) -> list[str]:
    parse_batches(asked.batch)
    parse_contexts(asked.context)
    if not asked.routing:
        raise InputError("routing: choose at least one")
    for value in asked.routing:
        if value != SCORES:
            parse_routing(value)
    found = ["--phase", asked.phase, "--batch", asked.batch, "--context", asked.context]
    if asked.phase == "prefill":
        parse_counts(asked.new_tokens, field="new_tokens", low=1, high=MAX_NEW_TOKENS)
        found += ["--new-tokens", asked.new_tokens]
    return [*found, "--routing", ",".join(asked.routing)]
