"""A sweep as data: evaluated designs, the quantities of its axes, limits, the Pareto front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.errors import InputError
from costmodel.inputs.parse import parse_batches, parse_contexts
from costmodel.questions.designs.evaluate import Evaluated, Quantity, evaluate
from costmodel.show.axis import Axis
from costmodel.units import rounded, scale
from dashboard.app.selection import Selection
from dashboard.pages.tradeoffs.data import (
    MAX_POINTS,
    MAX_WORKLOADS,
    SPELT,
    Designs,
    SweptField,
    Value,
    designs,
    label,
    parse_range,
)
from dashboard.pages.tradeoffs.pareto import pareto_front


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignQuantity:
    """A quantity of a design, in one unit for all its values, and whether more of it is better."""

    column: Quantity
    axis: Axis
    more_is_better: bool = False

    @property
    def title(self) -> str:
        """The title of an axis: label, unit, and which way is better where it is not less."""
        return f"{self.axis.title}{' (more is better)' if self.more_is_better else ''}"


def _design(column: Quantity, prefix: str, *, more_is_better: bool = False) -> DesignQuantity:
    axis = Axis(quantity=STEP_QUANTITIES[column], prefix=prefix)
    return DesignQuantity(column=column, axis=axis, more_is_better=more_is_better)


TOTAL = STEP_QUANTITIES["parameters.total"].label  # short for: without embeddings
PREDICTED_TIME = STEP_QUANTITIES["time.predicted_s"].label
BOUND_TIME = STEP_QUANTITIES["time.floor_s"].label
FORMERLY = {"floor": BOUND_TIME}  # names of choices in older addresses
DESIGN_QUANTITIES = {  # by the names of the choices, which addresses keep
    TOTAL: _design("parameters.total_without_embeddings", "B", more_is_better=True),
    "active parameters": _design("parameters.active_without_embeddings", "B"),
    "HBM bytes": _design("hbm_bytes.compulsory", "G"),
    PREDICTED_TIME: _design("time.predicted_s", "m"),
    BOUND_TIME: _design("time.floor_s", "m"),
    "memory": _design("memory.total_bytes", "Gi"),
    "KV cache": _design("kv_cache.stored_bytes", "G"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """Evaluated designs x batches x contexts; the base model comes after the designs.

    A point is an index into the flat array of all of them.
    """

    evaluated: Evaluated
    values: Sequence[Mapping[str, Value]]  # of the swept fields, for each design
    batches: Sequence[int]
    contexts: Sequence[int]
    base: Mapping[str, Value] = field(default_factory=dict)  # swept fields of the base model

    @property
    def shape(self) -> tuple[int, int, int]:
        """Designs and the base model, batches, contexts."""
        return len(self.values) + 1, len(self.batches), len(self.contexts)

    @property
    def design_points(self) -> int:
        """Designs x workloads, without the base model."""
        return len(self.values) * len(self.batches) * len(self.contexts)

    def at(self, point: int) -> tuple[int, int, int]:
        """The index of the design, the batch and the context of a point."""
        design, batch, context = np.unravel_index(point, self.shape)
        return int(design), self.batches[int(batch)], self.contexts[int(context)]

    def words(self, point: int) -> str:
        """What tells a point from the others: its swept fields, and its batch and context."""
        design, batch, context = self.at(point)
        own = design == len(self.values) or self.values[design].items() <= self.base.items()
        words = ["the model itself" if own else label(self.values[design])]
        words += [f"batch {batch:,}"] if len(self.batches) > 1 else []
        words += [f"context {context:,}"] if len(self.contexts) > 1 else []
        return ", ".join(words)

    def sizes(self, name: str) -> NDArray[np.float64]:
        """A swept field at every point."""
        of_designs = [float(values.get(name, self.base[name])) for values in self.values]
        column = np.reshape([*of_designs, float(self.base[name])], (-1, 1, 1))
        return np.broadcast_to(column, self.shape).ravel()


def run_sweep(
    selection: Selection, fields: Sequence[SweptField], texts: Mapping[str, str]
) -> tuple[Sweep, Designs]:
    """Evaluate every design at every workload.

    `texts` are the ranges of the fields as typed, and the lists of batches and contexts.

    Raises:
        InputError: A range is not valid, or the sweep is too large.
    """
    batches, contexts = parse_batches(texts["batch"]), parse_contexts(texts["context"])
    workloads = len(batches) * len(contexts)
    if workloads > MAX_WORKLOADS:
        raise InputError(f"workloads={workloads:,}: at most {MAX_WORKLOADS:,} are costed at once")
    ranges = {field.name: parse_range(texts[field.name], field) for field in fields}
    made = designs(selection.model, ranges)
    points = (len(made.models) + 1) * workloads
    if points > MAX_POINTS:
        raise InputError(f"sweep={points:,} designs x workloads: at most {MAX_POINTS:,} are costed")
    evaluated = evaluate(
        [*made.models, selection.model],
        selection.workload,
        selection.hardware,
        selection.calibration,
        batches=batches,
        contexts=contexts,
    )
    sweep = Sweep(
        evaluated=evaluated,
        values=made.values,
        batches=batches,
        contexts=contexts,
        base={field.name: field.value for field in fields},
    )
    return sweep, made


def is_size(name: str) -> bool:
    """Whether an axis is a swept field, of which neither more nor less is better by itself."""
    return name not in DESIGN_QUANTITIES


def title(name: str) -> str:
    """The title of an axis: a quantity with its unit, or a swept field."""
    return SPELT.get(name, name) if is_size(name) else DESIGN_QUANTITIES[name].title


def column(sweep: Sweep, name: str) -> NDArray[np.float64]:
    """A quantity of `DESIGN_QUANTITIES` in its unit, or a swept field, at every point."""
    if is_size(name):
        return sweep.sizes(name)
    quantity = DESIGN_QUANTITIES[name]
    _, one = scale(quantity.axis.quantity.unit, quantity.axis.prefix)
    return (sweep.evaluated.columns[quantity.column] / one).ravel()


def allowed(
    sweep: Sweep, *, workload: tuple[int, int] | None, limits: Mapping[str, float]
) -> NDArray[np.bool_]:
    """Which points have the workload (None: any) and keep the limits; never the base model's.

    `workload` is a batch and a context. `limits` are the largest values of quantities, by name and
    in their units.
    """
    mask = np.ones(sweep.shape, dtype=np.bool_)
    mask[-1] = False
    if workload is not None:
        batch, context = workload
        mask &= np.reshape(np.array(sweep.batches) == batch, (1, -1, 1))
        mask &= np.reshape(np.array(sweep.contexts) == context, (1, 1, -1))
    flat = mask.ravel()
    for name, largest in limits.items():
        flat = flat & (column(sweep, name) <= largest)
    return flat


def front(sweep: Sweep, x: str, y: str, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The points of the Pareto front of two quantities among those of a mask, sorted along x.

    Where an axis is a swept field: the point that is best in the other one, for each of its values.
    """
    points = np.flatnonzero(mask)
    axes = [
        -column(sweep, name)[points]
        if not is_size(name) and DESIGN_QUANTITIES[name].more_is_better
        else column(sweep, name)[points]
        for name in (x, y)
    ]
    if is_size(x) or is_size(y):
        size, cost = axes if is_size(x) else axes[::-1]
        order = np.lexsort((cost, size))
        _, first = np.unique(size[order], return_index=True)
        best = points[order[first]]
    else:
        best = points[pareto_front(*axes)]
    return best[np.argsort(column(sweep, x)[best], kind="stable")]


def base_points(sweep: Sweep, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The points of the base model at the workloads of the points of a mask."""
    workloads = mask.reshape(sweep.shape).any(axis=0).ravel()
    first = (sweep.shape[0] - 1) * workloads.size
    return first + np.flatnonzero(workloads)


def front_rows(sweep: Sweep, points: NDArray[np.intp]) -> list[dict[str, object]]:
    """A row for each point: swept fields, workload, and every quantity that is known."""
    known = {
        name: column(sweep, name)
        for name, quantity in DESIGN_QUANTITIES.items()
        if quantity.column in sweep.evaluated.columns
    }
    rows: list[dict[str, object]] = []
    for point in points:
        design, batch, context = sweep.at(int(point))
        fields = {SPELT.get(name, name): value for name, value in sweep.values[design].items()}
        row: dict[str, object] = {**fields, "Batch": batch, "Context": context}
        for name, values in known.items():
            axis = DESIGN_QUANTITIES[name].axis
            row[axis.heading] = rounded(float(values[point]), axis.quantity.digits)
        rows.append(row)
    return rows
