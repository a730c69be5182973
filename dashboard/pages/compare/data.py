"""Models side by side as data: values over batch or context, crossovers, cards and rows.

Numbers are those of `costmodel.questions.sweep` and `costmodel.questions.compare`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.inputs.model import ModelConfig
from costmodel.questions.compare import Advantage, Metric, advantage
from costmodel.questions.grid import Grid
from costmodel.questions.sweep import sweep
from dashboard.app.selection import Selection
from dashboard.app.widgets import Card, plain
from dashboard.pages.compare.measured_points import Axis

BATCHES = tuple(sorted({round(2 ** (i / 4)) for i in range(49)}))  # 1 to 4096
CONTEXTS = tuple(sorted({round(2 ** (i / 2)) for i in range(14, 35)}))  # 128 to 131072
POWERS_OF_4 = tuple(4**i for i in range(9))  # of which the table tells
SIGNIFICANT = 5  # digits in a table
SAME = 1e-9  # relative difference below which two models need the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A quantity that models are compared by: its column, and how it is written."""

    column: str
    unit: str
    scale: float = 1.0  # column values in `unit`
    crossing: Metric | None = None  # whose crossovers are sought

    def written(self, name: str) -> str:
        """The quantity with its unit, as an axis or a header shows it."""
        return f"{name}, {self.unit}"


SHOWN = {
    "HBM bytes": Shown(
        column="hbm_bytes.compulsory", unit="GB", scale=1e-9, crossing="hbm_bytes.compulsory"
    ),
    "predicted time": Shown(
        column="time.predicted_s", unit="ms", scale=1e3, crossing="time.predicted_s"
    ),
    "floor": Shown(column="time.floor_s", unit="ms", scale=1e3, crossing="time.floor_s"),
    "KV read": Shown(column="kv_cache.read_bytes", unit="GB", scale=1e-9),
    "routing bytes": Shown(column="routing.hbm_bytes", unit="MB", scale=1e-6),
    "routing FLOPs": Shown(column="routing.flops", unit="GFLOP", scale=1e-9),
    "routing share": Shown(column="routing.share_of_time", unit="% of time", scale=100),
    "energy": Shown(column="energy.predicted_j", unit="J a step", scale=1),
}


def over(models: Sequence[ModelConfig], found: Selection, axis: Axis) -> list[Grid]:
    """Each model over `axis`, "batch" or "context", with the sidebar's value among its points."""
    workload = found.workload
    batches: Sequence[int] = (workload.batch,)
    contexts: Sequence[int] = (workload.context,)
    if axis == "batch":
        batches = sorted({*BATCHES, workload.batch})
    else:
        contexts = sorted({*CONTEXTS, workload.context})
    return [
        sweep(
            model,
            workload,
            batches=batches,
            contexts=contexts,
            routings=(workload.routing,),
            hardwares=(found.hardware,),
            calibrations=(found.calibration,),
        )
        for model in models
    ]


def values(grid: Grid, shown: Shown) -> list[float | None]:
    """A quantity at each point of the axis, in its unit; None where it is not known."""
    table = grid.table()
    if shown.column not in table:
        return [None] * grid.size
    return [None if v is None else float(v) * shown.scale for v in table[shown.column].flat]


def findings(
    models: Sequence[ModelConfig], predictions: Sequence[Prediction], found: Selection, shown: Shown
) -> list[Advantage]:
    """Where each model needs less than the first, over all batches; none of other quantities."""
    if shown.crossing is None or (
        shown.crossing == "time.predicted_s" and isinstance(predictions[0].time, Unknown)
    ):
        return []
    return [
        Advantage(
            model=models[i].name,
            reference=models[0].name,
            metric=shown.crossing,
            intervals=advantage(
                models[i],
                models[0],
                found.workload,
                found.hardware,
                shown.crossing,
                calibration=found.calibration,
            ),
            max_batch=int(min(predictions[0].memory.max_batch, predictions[i].memory.max_batch)),
        )
        for i in range(1, len(models))
    ]


def answer(predictions: Sequence[Prediction], grids: Sequence[Grid], name: str) -> str:
    """The page's title: which model needs least at the sidebar's workload, beside the next one."""
    shown, workload = SHOWN[name], predictions[0].workload
    what = {"floor": "floor time"}.get(name, name)
    at = f"at batch {workload.batch:,}"
    found = []
    for prediction, grid in zip(predictions, grids, strict=True):
        value = values(grid, shown)[place(grid, workload.batch, workload.context)]
        if value is None:
            return f"Not predicted: {what} {at}"
        found.append((value, prediction.model.name))
    least, model = min(found)
    same = [each for value, each in found if isclose(value, least, rel_tol=SAME)]
    if len(same) > 1:
        return f"{' and '.join(same)} need equal {what} {at}"
    following, other = min(each for each in found if each[1] != model)
    if not least:
        return f"{model} needs no {what} {at}, {other} does"
    return f"{model} needs {units.ratio(least / following)} the {what} of {other} {at}"


def too_large(predictions: Sequence[Prediction]) -> list[str]:
    """The models whose step does not fit the GPU."""
    return [each.model.name for each in predictions if not each.memory.fits]


def cards(predictions: Sequence[Prediction], grids: Sequence[Grid], name: str) -> list[Card]:
    """Each model's quantity at the sidebar's workload, and its largest batch that fits."""
    shown, workload = SHOWN[name], predictions[0].workload
    at = f"at batch {workload.batch:,}, context {workload.context:,}"
    found = []
    for prediction, grid in zip(predictions, grids, strict=True):
        value = values(grid, shown)[place(grid, workload.batch, workload.context)]
        found.append(
            Card(
                label=plain(prediction.model.name),
                value=units.NOT_KNOWN
                if value is None
                else f"{units.significant(value)} {shown.unit}",
                help=f"{shown.written(name)}, {at}. Below: the sequences that fit its memory.",
                beside=f"fits up to batch {units.count(prediction.memory.max_batch)}",
            )
        )
    return found


def place(grid: Grid, batch: int, context: int) -> int:
    """Where a workload stands among the points of a grid of one routing and one GPU."""
    return grid.batches.index(batch) * len(grid.contexts) + grid.contexts.index(context)


def along(grid: Grid, axis: Axis) -> tuple[int, ...]:
    """The values of the axis."""
    return grid.batches if axis == "batch" else grid.contexts


def rows(
    grids: Sequence[Grid], predictions: Sequence[Prediction], axis: Axis
) -> list[dict[str, object]]:
    """Every quantity of every model at some points of the axis."""
    chosen = predictions[0].workload
    at = chosen.batch if axis == "batch" else chosen.context
    points = [x for x in along(grids[0], axis) if x == at or x in POWERS_OF_4]
    found: list[dict[str, object]] = []
    for x in points:
        for grid in grids:
            index = along(grid, axis).index(x)
            fits = "yes" if grid.table()["memory.fits"].flat[index] else "NO"
            row: dict[str, object] = {axis.capitalize(): x, "Model": grid.model, "Fits": fits}
            for name, shown in SHOWN.items():
                value = values(grid, shown)[index]
                row[shown.written(name[0].upper() + name[1:])] = (
                    None if value is None else float(f"{value:.{SIGNIFICANT}g}")
                )
            found.append(row)
    return found
