"""The scatter of swept designs: measures, the front among what is allowed, chart, rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from costmodel import units
from costmodel.questions.designs.evaluate import Evaluated, Quantity
from dashboard.app.figures import PALETTE, framed
from dashboard.pages.tradeoffs.data import SPELT, Value, drawn_by_lot, label
from dashboard.pages.tradeoffs.pareto import pareto_front

MAX_DRAWN = 5000  # points: beyond, a browser is slow
SIGNIFICANT = 5  # digits in a table


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A quantity of a design: how an axis names it, and which way is better."""

    quantity: Quantity
    unit: str
    scale: float  # values in `unit`
    more: bool = False  # is better

    def title(self, name: str) -> str:
        """For an axis: the unit, and which way is better where it is not less."""
        return f"{name}, {self.unit}{' (more is better)' if self.more else ''}"


MEASURES = {
    "total parameters": Measure(
        quantity="parameters.total_without_embeddings", unit="B", scale=1e-9, more=True
    ),
    "active parameters": Measure(
        quantity="parameters.active_without_embeddings", unit="B", scale=1e-9
    ),
    "HBM bytes": Measure(quantity="hbm_bytes.compulsory", unit="GB", scale=1e-9),
    "predicted time": Measure(quantity="time.predicted_s", unit="ms", scale=1e3),
    "floor": Measure(quantity="time.floor_s", unit="ms", scale=1e3),
    "memory": Measure(quantity="memory.total_bytes", unit="GiB", scale=2.0**-30),
    "KV cache": Measure(quantity="kv_cache.stored_bytes", unit="GB", scale=1e-9),
}


def column(evaluated: Evaluated, name: str) -> NDArray[np.float64]:
    """A measure in its unit, one value for every design x batch x context, flat."""
    measure = MEASURES[name]
    return (evaluated.columns[measure.quantity] * measure.scale).ravel()


def front(evaluated: Evaluated, x: str, y: str, allowed: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The points of the Pareto front among those allowed, along x."""
    at = np.flatnonzero(allowed)
    axes = [
        -column(evaluated, name)[at] if MEASURES[name].more else column(evaluated, name)[at]
        for name in (x, y)
    ]
    chosen = at[pareto_front(*axes)]
    return chosen[np.argsort(column(evaluated, x)[chosen], kind="stable")]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sweep:
    """Evaluated designs x batches x contexts; the base model comes last, and is not one of them."""

    evaluated: Evaluated
    values: Sequence[Mapping[str, Value]]  # of each design
    batches: Sequence[int]
    contexts: Sequence[int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Designs with the base model, batches, contexts."""
        return len(self.values) + 1, len(self.batches), len(self.contexts)

    @property
    def evaluated_points(self) -> int:
        """Designs x workloads, without the base model."""
        return len(self.values) * len(self.batches) * len(self.contexts)

    def at(self, index: int) -> tuple[int, int, int]:
        """Design, batch and context of a point."""
        design, batch, context = np.unravel_index(index, self.shape)
        return int(design), self.batches[int(batch)], self.contexts[int(context)]

    def words(self, index: int) -> str:
        """What makes a point."""
        design, batch, context = self.at(index)
        made = label(self.values[design]) if design < len(self.values) else "the model itself"
        return f"{made}; batch {batch:,}, context {context:,}"


def allowed(
    sweep: Sweep,
    *,
    workload: tuple[int, int] | None,
    limits: Mapping[str, float],
) -> NDArray[np.bool_]:
    """Which points a workload (None: any) and limits leave; the base model is none of them.

    `limits` are the most that measures may be, by name and in their units.
    """
    mask = np.ones(sweep.shape, dtype=np.bool_)
    mask[-1] = False
    if workload is not None:
        batch, context = workload
        mask &= np.reshape(np.array(sweep.batches) == batch, (1, -1, 1))
        mask &= np.reshape(np.array(sweep.contexts) == context, (1, 1, -1))
    flat = mask.ravel()
    for name, most in limits.items():
        flat = flat & (column(sweep.evaluated, name) <= most)
    return flat


def scatter(
    sweep: Sweep,
    mask: NDArray[np.bool_],
    best: NDArray[np.intp],
    *,
    x: str,
    y: str,
    coloured: str,
    logarithmic: bool,
) -> go.Figure:
    """Points coloured by a measure, the front as a line of stars, the base model as a cross."""
    at = drawn_by_lot(np.flatnonzero(mask), MAX_DRAWN)
    xs, ys, colours = (column(sweep.evaluated, name) for name in (x, y, coloured))
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            name="designs",
            x=xs[at].tolist(),
            y=ys[at].tolist(),
            mode="markers",
            marker={
                "size": 8,
                "line": {"color": PALETTE[6], "width": 1},  # seen on white and on black
                "color": colours[at].tolist(),
                "colorscale": "Cividis",
                "showscale": True,
                "colorbar": {"title": {"text": MEASURES[coloured].title(coloured)}},
            },
            text=[sweep.words(int(index)) for index in at],
        )
    )
    figure.add_trace(
        go.Scatter(
            name="Pareto front",
            x=xs[best].tolist(),
            y=ys[best].tolist(),
            mode="lines+markers",
            line={"color": PALETTE[5], "dash": "dash"},
            marker={"symbol": "star", "size": 13, "color": PALETTE[5]},
            text=[sweep.words(int(index)) for index in best],
        )
    )
    base = base_points(sweep, mask)
    figure.add_trace(
        go.Scatter(
            name="the model itself",
            x=xs[base].tolist(),
            y=ys[base].tolist(),
            mode="markers",
            marker={"symbol": "x-open", "size": 12, "color": PALETTE[6], "line": {"width": 2}},
            text=[sweep.words(int(index)) for index in base],
        )
    )
    framed(
        figure,
        x_title=MEASURES[x].title(x),
        y_title=MEASURES[y].title(y),
        x_log=logarithmic,
        y_log=logarithmic,
        height=520,
    )
    return figure


def base_points(sweep: Sweep, mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The points of the base model at the workloads of those allowed."""
    shown = mask.reshape(sweep.shape).any(axis=0).ravel()
    first = (sweep.shape[0] - 1) * shown.size
    return first + np.flatnonzero(shown)


def scatter_alt(sweep: Sweep, best: NDArray[np.intp], x: str, y: str, shown: int) -> str:
    """What the chart shows, in words."""
    said = f"{shown:,} designs at their workloads, {y} against {x}; {len(best)} stand on the front"
    if not len(best):
        return f"{said}."
    ends = [
        f"{sweep.words(int(index))} ({units.significant(column(sweep.evaluated, x)[index])}"
        f" {MEASURES[x].unit}, {units.significant(column(sweep.evaluated, y)[index])}"
        f" {MEASURES[y].unit})"
        for index in (best[0], best[-1])
    ]
    return f"{said}, from {ends[0]} to {ends[1]}."


def front_rows(sweep: Sweep, best: NDArray[np.intp]) -> list[dict[str, object]]:
    """A row for each point of the front, with every measure that is known."""
    known = {
        name: column(sweep.evaluated, name)
        for name, measure in MEASURES.items()
        if measure.quantity in sweep.evaluated.columns
    }
    found: list[dict[str, object]] = []
    for index in best:
        design, batch, context = sweep.at(int(index))
        made = {SPELT.get(name, name): value for name, value in sweep.values[design].items()}
        row: dict[str, object] = {**made, "Batch": batch, "Context": context}
        for name, values in known.items():
            unit = MEASURES[name].unit
            row[f"{name[0].upper()}{name[1:]}, {unit}"] = float(f"{values[index]:.{SIGNIFICANT}g}")
        found.append(row)
    return found
