"""The Compare page as data: models over batch or context, crossovers, cards and rows.

Numbers are those of `costmodel.questions.sweep` and `costmodel.questions.compare`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isclose, lcm

import numpy as np

from costmodel import units
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.mesh.kept import Same
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import MAX_BATCH, Workload
from costmodel.layers.mesh import ONE_GPU, Mesh
from costmodel.questions.compare import Advantage
from costmodel.questions.crossings import Metric, Metrics, where_lower
from costmodel.questions.grid import Grid
from costmodel.questions.sweep import sweep
from costmodel.show.axis import Axis
from costmodel.show.text import capitalised
from costmodel.show.told_times import MARK, digits_of, transfer_words
from dashboard.app.measured_points import Along
from dashboard.app.selection import KEPT, Selection
from dashboard.app.widgets import Card, plain

BATCHES = tuple(sorted({round(2 ** (i / 4)) for i in range(49)}))  # 1 to 4096
CONTEXTS = tuple(sorted({round(2 ** (i / 2)) for i in range(14, 35)}))  # 128 to 131072
POWERS_OF_4 = tuple(4**i for i in range(9))  # the points that the table lists
PREDICTED_TIME = STEP_QUANTITIES["time.predicted_s"].label
BOUND_TIME = STEP_QUANTITIES["time.floor_s"].label
FORMERLY = {"floor": BOUND_TIME}  # names of choices in older addresses
SAME = 1e-9  # relative difference below which two models need the same


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedQuantity:
    """A quantity that models are compared by, in one unit for all its values."""

    axis: Axis
    crossing: Metric | None = None  # the metric whose crossovers are sought; None: none are


def _compared(name: str, prefix: str = "", crossing: Metric | None = None) -> ComparedQuantity:
    return ComparedQuantity(
        axis=Axis(quantity=STEP_QUANTITIES[name], prefix=prefix), crossing=crossing
    )


COMPARED = {  # by the names of the choices, which addresses keep
    "HBM bytes": _compared("hbm_bytes.compulsory", "G", "hbm_bytes.compulsory"),
    PREDICTED_TIME: _compared("time.predicted_s", "m", "time.predicted_s"),
    BOUND_TIME: _compared("time.floor_s", "m", "time.floor_s"),
    "host bytes": _compared("host_bytes.read", "M"),
    "KV read": _compared("kv_cache.read_bytes", "G"),
    "routing bytes": _compared("routing.hbm_bytes", "M"),
    STEP_QUANTITIES["routing.flops"].label: _compared("routing.flops", "G"),
    "routing share": _compared("routing.share_of_time"),
    "energy": _compared("energy.predicted_j"),
}


def over(models: Sequence[ModelConfig], selection: Selection, axis: Along) -> list[Grid]:
    """Each model swept over `axis`; the sidebar's batch or context is among the points.

    On several GPUs each model keeps the mesh of the sidebar's workload, and batches are those that
    all of these meshes divide.
    """
    workload = selection.workload
    meshes = [_mesh(model, selection) for model in models]
    unit = lcm(*(mesh.dp * mesh.pp for mesh in meshes))
    batches: tuple[int, ...] = (workload.batch,)
    contexts: tuple[int, ...] = (workload.context,)
    if axis == "batch":
        batches = tuple(sorted({*(b for b in BATCHES if not b % unit), workload.batch}))
    else:
        contexts = tuple(sorted({*CONTEXTS, workload.context}))
    return [
        _swept(Same(model), selection, mesh, batches, contexts)
        for model, mesh in zip(models, meshes, strict=True)
    ]


@lru_cache(maxsize=KEPT)
def _swept(
    same: Same,
    selection: Selection,
    mesh: Mesh,
    batches: tuple[int, ...],
    contexts: tuple[int, ...],
) -> Grid:
    """One model's steps, kept: neither a control of the page nor another model changes them."""
    workload = selection.workload
    return sweep(
        same.model,
        replace(workload, mesh=mesh),
        batches=batches,
        contexts=contexts,
        routings=(workload.routing,),
        hardwares=(selection.hardware,),
        calibrations=(selection.calibration,),
    )


def _mesh(model: ModelConfig, selection: Selection) -> Mesh:
    """The mesh on which a model does the sidebar's workload."""
    mesh = selection.workload.mesh
    if not isinstance(mesh, Mesh):
        mesh = selection.predict(model).workload.mesh
    assert isinstance(mesh, Mesh), "a prediction has chosen it"
    return mesh


def meshed_rows(predictions: Sequence[Prediction], grids: Sequence[Grid]) -> list[list[Prediction]]:
    """Predictions of all models at the axis' powers of two, each on its own mesh."""
    at = predictions[0].workload.batch
    batches = [batch for batch in grids[0].batches if batch == at or batch.bit_count() == 1]
    return [
        [
            predict(one.model, replace(one.workload, batch=batch), one.hardware, one.calibration)
            for one in predictions
        ]
        for batch in batches
    ]


def values(grid: Grid, quantity: ComparedQuantity) -> list[float | None]:
    """A quantity at each point of the axis, in its unit; None where it is not known."""
    axis = quantity.axis
    column = grid.column(axis.quantity.name)
    if column is None:
        return [None] * grid.size
    return [None if value is None else axis.scaled(float(value)) for value in column.flat]


def advantages(
    models: Sequence[ModelConfig],
    predictions: Sequence[Prediction],
    selection: Selection,
    quantity: ComparedQuantity,
) -> list[Advantage]:
    """The batches at which each model needs less of a quantity than the first model.

    Empty for a quantity whose crossovers are not sought, or that is not predicted, and on several
    GPUs, which need not divide every batch.
    """
    meshed = any(prediction.gpus > 1 for prediction in predictions)
    if (
        meshed
        or quantity.crossing is None
        or (
            quantity.crossing == "time.predicted_s"
            and any(isinstance(prediction.time, Unknown) for prediction in predictions)
        )
    ):
        return []
    return [
        Advantage(
            model=models[i].name,
            reference=models[0].name,
            metric=quantity.crossing,
            intervals=_intervals(
                Same(models[i]),
                Same(models[0]),
                replace(selection.workload, mesh=ONE_GPU, batch=1),  # of all batches
                selection.hardware,
                metric=quantity.crossing,
                calibration=selection.calibration,
            ),
            max_batch=int(min(predictions[0].memory.max_batch, predictions[i].memory.max_batch)),
            backend=selection.workload.backend,
        )
        for i in range(1, len(models))
    ]


@lru_cache(maxsize=KEPT)
def _intervals(
    model: Same,
    reference: Same,
    workload: Workload,
    hardware: Hardware,
    *,
    metric: Metric,
    calibration: Curves | Unknown,
) -> tuple[tuple[int, int | None], ...]:
    """The batches at which a model needs less, kept: they are the same at every batch."""
    mine, others = (_metrics(each, workload, hardware, calibration) for each in (model, reference))
    return where_lower(mine, others, metric, MAX_BATCH)


@lru_cache(maxsize=KEPT)
def _metrics(
    same: Same, workload: Workload, hardware: Hardware, calibration: Curves | Unknown
) -> Metrics:
    """The metrics of one model along the batch, kept: all that it is compared with share them."""
    return Metrics(same.model, workload, hardware, calibration)


def answer(predictions: Sequence[Prediction], grids: Sequence[Grid], name: str) -> str:
    """The page's title: the model that needs least at the sidebar's workload, and the next one."""
    workload = predictions[0].workload
    compared = COMPARED[name].axis.quantity
    what, at = compared.label, f"at batch {workload.batch:,}"
    needs = []
    for prediction, grid in zip(predictions, grids, strict=True):
        value = values(grid, COMPARED[name])[place(grid, workload.batch, workload.context)]
        if value is None:
            return f"Not predicted: {what} {at}"
        needs.append((value, prediction.model.name))
    if compared.calibrated:  # other kernels have other times
        at += f" with the backend {workload.backend}"
    least, model = min(needs)
    same = [other for value, other in needs if isclose(value, least, rel_tol=SAME)]
    if len(same) > 1:
        return f"{' and '.join(same)} need equal {what} {at}"
    following, other = min(need for need in needs if need[1] != model)
    if not least:
        return f"{model} needs no {what} {at}, {other} does"
    return f"{model} needs {units.ratio(least / following)} the {what} of {other} {at}"


def too_large(predictions: Sequence[Prediction]) -> list[str]:
    """The names of the models whose step does not fit into the GPU's memory."""
    return [prediction.model.name for prediction in predictions if not prediction.memory.fits]


def cards(predictions: Sequence[Prediction], grids: Sequence[Grid], name: str) -> list[Card]:
    """Each model's quantity at the sidebar's workload, and its largest batch that fits."""
    quantity, workload = COMPARED[name], predictions[0].workload
    axis = quantity.axis
    at = f"at batch {workload.batch:,}, context {workload.context:,}"
    cards = []
    for prediction, grid in zip(predictions, grids, strict=True):
        value = values(grid, quantity)[place(grid, workload.batch, workload.context)]
        words = transfer_words([prediction]) if axis.quantity.calibrated else ""
        digits = axis.quantity.digits
        if axis.quantity.calibrated:
            digits = digits_of(prediction.time)
        cards.append(
            Card(
                label=plain(prediction.model.name),
                value=units.NOT_KNOWN
                if value is None
                else f"{MARK * bool(words)}{units.significant(value, digits)} {axis.unit}",
                help=f"{capitalised(axis.quantity.label)} {at}: {axis.quantity.counts}. Below: the"
                f" largest batch that fits.{f' {capitalised(words)}.' if words else ''}",
                note=f"fits up to batch {units.count(prediction.memory.max_batch)}",
            )
        )
    return cards


def place(grid: Grid, batch: int, context: int) -> int:
    """The index of a workload among the points of a grid of one routing and one GPU."""
    return grid.batches.index(batch) * len(grid.contexts) + grid.contexts.index(context)


def along(grid: Grid, axis: Along) -> tuple[int, ...]:
    """The values of the axis."""
    return grid.batches if axis == "batch" else grid.contexts


def rows(
    grids: Sequence[Grid], predictions: Sequence[Prediction], axis: Along
) -> list[dict[str, object]]:
    """Every quantity of every model at some points of the axis."""
    chosen = predictions[0].workload
    at = chosen.batch if axis == "batch" else chosen.context
    points = [x for x in along(grids[0], axis) if x == at or x in POWERS_OF_4]
    compared = [[values(grid, quantity) for quantity in COMPARED.values()] for grid in grids]
    fitting = [grid.columns["memory.fits"] for grid in grids]
    cells: list[dict[str, object]] = []
    for x in points:
        for grid, columns, fits in zip(grids, compared, fitting, strict=True):
            index = along(grid, axis).index(x)
            told = "yes" if np.broadcast_to(fits, grid.shape).flat[index] else "NO"
            row: dict[str, object] = {axis.capitalize(): x, "Model": grid.model, "Fits": told}
            for quantity, column in zip(COMPARED.values(), columns, strict=True):
                value = column[index]
                digits = quantity.axis.quantity.digits
                row[quantity.axis.heading] = None if value is None else units.rounded(value, digits)
            cells.append(row)
    return cells
