"""What recordings of both backends hold of pairs of models: an MoE and a memory layer of like size.

A recording that does not exist, a case that does not fit and a run that was never made give None,
with the reason.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, TypeAlias

from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.folders import SHIPPED
from costmodel.recordings.measured import Spread
from costmodel.recordings.quantities import QUANTITIES
from costmodel.recordings.recording import Recording, load_recording
from docs.recorded import PREFIX

GROUPED = SHIPPED / "grouped"
GPU = "h200"
BACKENDS: tuple[Backend, ...] = ("torch", "fused")
BATCHES = (1, 4, 16, 64, 256, 1024)
CONTEXTS = (512, 2048, 8192)
PROMPTS = (512, 2048, 8192)
USUAL_CONTEXT = 2048
GROUPED_BATCHES = BATCHES[:-1]  # that were measured with 4 key-value heads
SKEWED = "zipf:1.0"

Side: TypeAlias = Literal["moe", "memory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The names of two models: of presets, or of the files of `recordings/grouped`."""

    moe: str
    memory: str

    @property
    def title(self) -> str:
        """`OLMoE-1B-7B over UltraMemV2-1B/7B`."""
        return " over ".join(short(name) for name in (self.moe, self.memory))


SMALL = Pair(moe="olmoe-227m-1.2b", memory="ultramemv2-227m-1.2b")
LARGE = Pair(moe="olmoe-1b-7b", memory="ultramemv2-1b-7b")
GROUPED_PAIR = Pair(
    moe="olmoe-1b-7b-4-kv-heads", memory="ultramemv2-1b-7b-4-kv-heads-reconstruction"
)
PAIRS = (SMALL, LARGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Why a number is not there."""

    reason: str


def decode(batch: int, context: int = USUAL_CONTEXT, routing: str = "uniform") -> CaseWorkload:
    """The workload of a decode step."""
    return CaseWorkload(
        phase="decode",
        batch=batch,
        context=context,
        new_tokens=1,
        dtype="bf16",
        routing=routing,
    )


def prompt(tokens: int) -> CaseWorkload:
    """The workload of the prefill of one prompt."""
    return replace(decode(1, 0), phase="prefill", new_tokens=tokens)


@cache
def model_of(name: str) -> ModelConfig:
    """The model of this name."""
    return load_model(name if name in model_names() else str(GROUPED / f"{name}.toml"))


def short(name: str) -> str:
    """The model's name without `(reconstruction)`."""
    return model_of(name).name.partition(" (")[0]


@cache
def recording_of(name: str, backend: Backend) -> Recording | None:
    """The recording of a model by the kernels of a backend; None where there is none."""
    folder = SHIPPED if name in model_names() else GROUPED
    kernels = "" if backend == "torch" else f"-{backend}"
    path = folder / f"{PREFIX}{name}{kernels}.json"
    return load_recording(path) if path.exists() else None


@cache
def measured(name: str, backend: Backend, workload: CaseWorkload, quantity: str) -> float | Lack:
    """The median of a quantity of the step, in its unit."""
    recording = recording_of(name, backend)
    if recording is None:
        return Lack(reason=f"not measured (no {backend} recording)")
    case = next((case for case in recording.cases if case.workload == workload), None)
    if case is None:
        return Lack(reason="not measured (no case of the plan)")
    (run_name,) = QUANTITIES[quantity].runs
    run = case.runs.get(run_name)
    if run is None:
        fits = "fit" not in case.lacking.get(run_name, "")
        return Lack(reason="not measured (no such run)" if fits else "does not fit the GPU")
    value = run.step.get(quantity)
    return float(value.median) if isinstance(value, Spread) else Lack(reason="not measured")


@cache
def predicted(name: str, workload: CaseWorkload) -> Prediction:
    """The prediction without a calibration: counts, compulsory bytes and the roofline bound."""
    return predict(model_of(name), workload.to_workload(), load_hardware(GPU))


def bound_s(name: str, workload: CaseWorkload) -> float:
    """The roofline bound of the step, in seconds."""
    return predicted(name, workload).floor_s


def promised_bytes(name: str, workload: CaseWorkload) -> float:
    """Compulsory HBM bytes of the step."""
    return float(predicted(name, workload).costs.totals.compulsory_bytes)


def measured_share(
    pair: Pair, backend: Backend, workload: CaseWorkload, quantity: str
) -> float | Lack:
    """The MoE's measured value over the memory model's: above 1, the memory model needs less."""
    moe, memory = (measured(name, backend, workload, quantity) for name in (pair.moe, pair.memory))
    if isinstance(moe, Lack):
        return moe
    return memory if isinstance(memory, Lack) else moe / memory


def bound_share(pair: Pair, workload: CaseWorkload) -> float:
    """The MoE's roofline bound over the memory model's."""
    return bound_s(pair.moe, workload) / bound_s(pair.memory, workload)


def bytes_share(pair: Pair, workload: CaseWorkload) -> float:
    """The MoE's compulsory bytes over the memory model's."""
    return promised_bytes(pair.moe, workload) / promised_bytes(pair.memory, workload)


def kernel_gain(name: str, workload: CaseWorkload) -> float | Lack:
    """The step's measured time by PyTorch's kernels over that by fused ones."""
    torch, fused = (measured(name, backend, workload, "graph_s") for backend in BACKENDS)
    if isinstance(torch, Lack):
        return torch
    return fused if isinstance(fused, Lack) else torch / fused
