"""The inputs of a report as its JSON holds them: models, workload, GPU, calibration, recordings."""

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import (
    AttentionFlops,
    Backend,
    Fp32Math,
    Logits,
    Mla,
    MlaCache,
    Phase,
    WindowCache,
)
from costmodel.layers.mesh import ONE_GPU
from costmodel.questions.request import MAX_PRICE_PER_HOUR
from costmodel.recordings.machine import Commit, Label, Moment
from costmodel.strict import STRICT

MAX_MODELS = 8
MAX_COMPARED = 64  # batches
MAX_RECORDINGS = 8
MOST = 10**45  # more than any count of a step within the bounds of a workload


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise InputError(f"{shown(text)}: holds a character that cannot be printed")
    return text


Line: TypeAlias = Annotated[str, Field(max_length=2100), AfterValidator(_one_line)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)]
Whole: TypeAlias = Annotated[int, Field(ge=0, le=MOST)]
Real: TypeAlias = Annotated[float, Field(ge=0, le=float(MOST))]
Amount: TypeAlias = Whole | Real
Size: TypeAlias = Annotated[int, Field(ge=0, le=2**30)]
Sizes: TypeAlias = Annotated[tuple[Size, ...], Field(min_length=1, max_length=MAX_COMPARED)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class WorkloadGiven:
    """The workload of every step of the report; batches and contexts are lists."""

    phase: Phase
    batches: Sizes
    contexts: Sizes
    compared_batches: Sizes
    new_tokens: Size
    dtype: Label
    dtype_stored_as: Line
    kv_dtype: Label
    kv_dtype_stored_as: Line
    routing: Label
    routing_source: Line | None  # of a histogram
    attention_flops: AttentionFlops
    logits: Logits
    fp32_math: Fp32Math
    mla: Mla
    mla_cache: MlaCache = "latent"  # reports of earlier versions state neither
    window_cache: WindowCache = "window"
    placement: Label = "tables=hbm"
    hot_rows_bytes: Whole = 0
    mesh: Label = ONE_GPU.label
    backend: Backend


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class CalibrationGiven:
    """Which measurements predict times, and when they were taken."""

    name: Label
    machine: Label
    started: Moment
    driver: Label | None
    torch: Label
    commit: Commit | None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RecordingGiven:
    """A recording that is compared; `cases` are those of the report's workload."""

    name: Name
    model: Name
    machine: Label
    started: Moment
    cases: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Inputs:
    """All that was given."""

    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1, max_length=MAX_MODELS)]
    workload: WorkloadGiven
    hardware: Hardware
    calibration: CalibrationGiven | None
    no_calibration: Line | None  # why there is none
    price_per_hour: Annotated[float, Field(ge=0, le=MAX_PRICE_PER_HOUR)] | None
    recordings: Annotated[tuple[RecordingGiven, ...], Field(max_length=MAX_RECORDINGS)]
