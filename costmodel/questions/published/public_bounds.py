"""Published times of whole models beside the roofline bound and the prediction of the same step.

A row says less than a workload does. What it leaves open is taken so that the bound holds whatever
the truth is; then bound / measured is the share of the roofline that the engine reached at least,
and a share above 1 is a fault of ours or of the row.

- Batch: the sequences that decode on average, rounded down; in `dp` groups, the multiple below.
- Formats: all weights in the format that the row names, though engines leave some in 16 bits; 4-bit
  formats that the cost model does not know as int4 with a scale for each 128. A KV cache whose
  format is not stated as fp8 beside weights of 8 bits or fewer.
- Experts: expected distinct ones of uniform routing where prompts are real or random text. Where
  what fills a batch is not stated, or one prompt is repeated, all tokens take the same experts:
  sequences that are alike choose alike.
- Layout: the mesh that the row states; where it makes none of ours, the bound of one GPU over the
  number of GPUs, which holds for any layout, since copies and exchanges only add.

A prediction stands beside the bound where a calibration of that GPU gives one for these formats.
Where experts or layout are taken so that the bound holds, nothing says the likely time.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from costmodel.costs.bounded import bounded
from costmodel.costs.calibrations import calibrated
from costmodel.costs.gpu import Gpu
from costmodel.costs.latency import StepTime, Unknown, not_timed
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import ALIASES, hardware_names, load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_workload
from costmodel.inputs.workload import CHECKPOINT
from costmodel.layers.mesh import ONE_GPU, Mesh
from costmodel.layers.moe import MoeFfn
from costmodel.layers.numbers import Number
from costmodel.questions.published.alike import Alike
from costmodel.questions.published.public_rows import PublicRow
from costmodel.routing.popularity import Uniform

Layout: TypeAlias = Literal["one GPU", "mesh", "any layout"]
Experts: TypeAlias = Literal["none", "uniform", "the same"]

NOT_STATED = "not stated"
GPUS: Mapping[str, str] = {**ALIASES, "gb200": "gb200-nvl72"}  # a100: the faster card
FOUR_BITS = "int4:128"
WEIGHTS: Mapping[str, str] = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8": "fp8:tensor",
    "fp8-block": "fp8:128x128",
    "int8": "int8:tensor",
    "int8:32": "int8:32",
    "gptq-int8": "int8:tensor",
    "int4:64": FOUR_BITS,
    "awq-int4": FOUR_BITS,
    "gptq-int4": FOUR_BITS,
    "q4_k_m": FOUR_BITS,
    "nvfp4": "nvfp4",
    "mxfp4": CHECKPOINT,  # stated of the experts of gpt-oss alone, whose checkpoints are so
}
BY_ENGINE: Mapping[tuple[str, str], str] = {  # where an engine's own files differ
    ("llama.cpp", "mxfp4"): "int8:32,experts=mxfp4",  # ggml-org's files: all else in Q8_0
}
CACHES: Mapping[str, str] = {
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8": "fp8:tensor",
    "int8": "int8:tensor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What rows have in common that differ in batch and context alone."""

    model: str
    gpu: str  # a preset
    dtype: str  # as `--dtype`
    kv_dtype: str
    experts: Experts
    layout: Layout
    mesh: Mesh
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A row as a workload."""

    row: PublicRow
    setting: Setting
    batch: int
    context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBound:
    """A row with the bound of its step and the prediction, or why there is none.

    Times are in seconds; `predicted_j` is the energy of a step of all GPUs, in joules.
    """

    point: Point
    bound_s: float
    predicted_s: float | None = None
    predicted_j: float | None = None
    reason: str | None = None  # why something is not predicted

    @property
    def row(self) -> PublicRow:
        """What was measured."""
        return self.point.row

    @property
    def share(self) -> float:
        """Bound / measured: the share of the roofline that was reached, at the least."""
        return self.bound_s / self.row.measured_s


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicBounds:
    """Rows with their bounds, and why others have none."""

    bounds: tuple[RowBound, ...]  # in the order of the rows
    skipped: Mapping[str, str]  # the reason, by the id of the row

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were skipped for each reason, the most frequent first."""
        return dict(Counter(self.skipped.values()).most_common())

    @property
    def layouts(self) -> dict[Layout, int]:
        """How many bounds are of each layout."""
        return dict(Counter(bound.point.setting.layout for bound in self.bounds).most_common())


def public_bounds(
    rows: Iterable[PublicRow], models: Mapping[str, ModelConfig] | None = None
) -> PublicBounds:
    """The bounds of all rows that can be said as a workload.

    Args:
        rows: From `public_rows`.
        models: More models than the presets, by the name that rows have.
    """
    rows = tuple(rows)
    known = {name: load_model(name) for name in {row.model for row in rows} & set(model_names())}
    known |= models or {}
    skipped: dict[str, str] = {}
    points: dict[Setting, list[Point]] = defaultdict(list)
    order: dict[str, int] = {}
    for place, row in enumerate(rows):
        order[row.id] = place
        reason = _reason(row, known)
        if reason is None:
            point = as_point(row, known[row.model])
            points[point.setting].append(point)
        else:
            skipped[row.id] = reason
    found = [
        bound
        for setting, some in points.items()
        for bound in _bounds(known[setting.model], setting, some)
    ]
    found.sort(key=lambda bound: order[bound.row.id])
    return PublicBounds(bounds=tuple(found), skipped=skipped)


def _reason(row: PublicRow, models: Mapping[str, ModelConfig]) -> str | None:
    """Why a row cannot be said as a workload; None: it can."""
    if row.model not in models:
        return f"no preset of the model {row.model}"
    if GPUS.get(row.gpu, row.gpu) not in hardware_names():
        return f"no preset of the GPU {row.gpu}"
    if row.weights not in WEIGHTS:
        stated = "is not stated" if row.weights == NOT_STATED else f"{row.weights} is not known"
        return f"the format of the weights {stated}"
    return None


def as_point(row: PublicRow, model: ModelConfig) -> Point:
    """A row as a workload, by the rules above; its formats must be known."""
    batch = max(1, int(row.running))  # a step that was timed had a sequence
    mesh = _mesh(row, batch)
    layout: Layout = "one GPU" if row.gpus == 1 else "any layout"
    if mesh is not None:
        layout, batch = "mesh", batch // mesh.dp * mesh.dp
    dtype = BY_ENGINE.get((row.engine, row.weights), WEIGHTS[row.weights])
    return Point(
        row=row,
        setting=Setting(
            model=row.model,
            gpu=GPUS.get(row.gpu, row.gpu),
            dtype=dtype,
            kv_dtype=CACHES.get(row.kv) or ("bf16" if dtype in ("bf16", "fp16") else "fp8:tensor"),
            experts=_experts(row, model),
            layout=layout,
            mesh=mesh or ONE_GPU,
            gpus=row.gpus,
        ),
        batch=batch,
        context=int(row.context),
    )


def _mesh(row: PublicRow, batch: int) -> Mesh | None:
    """The mesh that a row states, if it is one of ours and each group has a sequence."""
    if row.gpus == 1 or row.tp * row.dp != row.gpus or row.gpus % row.ep or batch < row.dp:
        return None
    return Mesh(tp=row.tp, ep=row.ep, dp=row.dp)


def _experts(row: PublicRow, model: ModelConfig) -> Experts:
    if not any(isinstance(ffn, MoeFfn) for ffn, _ in model.ffn_groups):
        return "none"
    return "the same" if row.prompts in (NOT_STATED, "one prompt repeated") else "uniform"


def _bounds(model: ModelConfig, setting: Setting, points: list[Point]) -> list[RowBound]:
    """The bounds of points of one setting, along the axis of the batch."""
    hardware = load_hardware(setting.gpu)
    workload = parse_workload(
        phase="decode",
        batch=1,
        context=0,
        dtype=setting.dtype,
        kv_dtype=setting.kv_dtype,
        routing=Alike() if setting.experts == "the same" else Uniform(),
        mesh=setting.mesh,
    ).of_model(model)
    batch, context = (
        np.array(values, dtype=np.int64).reshape(1, -1, 1)
        for values in ([p.batch for p in points], [p.context for p in points])
    )
    step = workload.step(batch=batch, context=context)
    gpu = Gpu(hardware=hardware, calibration=calibrated(setting.gpu, transfer=False))
    ceilings = gpu.ceilings(workload)
    try:
        at_best = bounded(model, step, workload, ceilings, [hardware])
    except InputError:
        if setting.layout != "mesh":
            raise
        return _bounds(model, replace(setting, layout="any layout", mesh=ONE_GPU), points)
    floor = at_best.floor_s
    if setting.layout == "any layout":
        floor = floor / setting.gpus
    # A transferred time is no prediction to hold against a measurement.
    refused = _no_prediction(setting) or not_timed(gpu.calibration, workload)
    time = refused or at_best.time(workload, gpu)
    predicted_s, predicted_j, reason = _predicted(time, len(points))
    return [
        RowBound(
            point=replace(point, setting=setting),
            bound_s=bound_s,
            predicted_s=second,
            predicted_j=joule,
            reason=reason,
        )
        for point, bound_s, second, joule in zip(
            points, _along(floor, len(points)), predicted_s, predicted_j, strict=True
        )
    ]


def _no_prediction(setting: Setting) -> Unknown | None:
    """Why the step of a setting is bounded only, whatever its GPU; None: it can be predicted."""
    if setting.experts == "the same":
        return Unknown(reason="what fills the batch is not stated, nor so how experts are chosen")
    if setting.layout == "any layout":
        return Unknown(reason="the layout over the GPUs is none that can be said as a mesh")
    return None


def _predicted(
    time: StepTime | Unknown, points: int
) -> tuple[Sequence[float | None], Sequence[float | None], str | None]:
    """Seconds and joules of each point, None where unknown, and why something is unknown."""
    nothing = [None] * points
    if isinstance(time, Unknown):
        return nothing, nothing, time.reason
    seconds = _along(time.predicted_s, points)
    if isinstance(time.energy_j, Unknown):
        return seconds, nothing, time.energy_j.reason
    return seconds, _along(time.energy_j, points), None


def _along(value: Number, points: int) -> list[float]:
    """A quantity of a grid along the batch, as numbers."""
    return [float(one) for one in np.broadcast_to(value, (1, points, 1)).flat]
