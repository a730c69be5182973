"""The chart of ratios on the page Compare: each model over the first, along batch or context.

Curves of the values themselves, on logarithmic axes, hide the 10 % that decide.
"""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from costmodel import units
from costmodel.questions.grid import Grid
from dashboard.app.figures import DASHES, colour, framed, level, line, measured_marks
from dashboard.app.measured_points import Along, Point
from dashboard.pages.compare.data import COMPARED, along, values

HEIGHT = 340
DIGITS = 3  # significant ones of a ratio under the pointer
X_TITLES = {"batch": "Batch, sequences", "context": "Context, cached tokens a sequence"}


def ratios(grids: Sequence[Grid], name: str) -> list[list[float | None]]:
    """A quantity of each model but the first over that of the first, along the axis."""
    first = values(grids[0], COMPARED[name])
    return [
        [
            mine / reference if mine is not None and reference else None
            for mine, reference in zip(values(grid, COMPARED[name]), first, strict=True)
        ]
        for grid in grids[1:]
    ]


def measured_ratios(points: Sequence[Sequence[Point]]) -> list[dict[int, float]]:
    """The same as measured, by place: where both models were by the same machine and backend."""
    first = {(point.x, point.maker): point.value for point in points[0]}
    return [
        {
            point.x: point.value / first[point.x, point.maker]
            for point in of_model
            if first.get((point.x, point.maker))
        }
        for of_model in points[1:]
    ]


def ratio_chart(
    grids: Sequence[Grid], name: str, axis: Along, points: Sequence[Sequence[Point]]
) -> go.Figure | None:
    """A line for each model but the first, and a line at 1; None where nothing is known."""
    figure, reference = go.Figure(), escape(grids[0].model)
    computed = ratios(grids, name)
    if all(value is None for of_model in computed for value in of_model):
        return None
    for index, (grid, of_model) in enumerate(zip(grids[1:], computed, strict=True), start=1):
        label = f"{escape(grid.model)} / {reference}"
        figure.add_trace(line(label, along(grid, axis), of_model, index))
    for index, seen in enumerate(measured_ratios(points), start=1):
        if seen:
            label = f"{escape(grids[index].model)} / {reference}, measured"
            figure.add_trace(measured_marks(label, list(seen), list(seen.values()), index))
    return framed(
        figure,
        x_title=X_TITLES[axis],
        y_title=f"{COMPARED[name].axis.quantity.label} over {reference}'s",
        x_log=True,
        height=HEIGHT,
        digits=DIGITS,
        layout=level(1, f"{reference}: 1", color=colour(0), dash=DASHES[0], width=1),
    )


def ratio_alt(grids: Sequence[Grid], name: str, axis: Along) -> str:
    """The ratios in words."""
    ends = []
    for grid, of_model in zip(grids[1:], ratios(grids, name), strict=True):
        known = [value for value in of_model if value is not None]
        if known:
            ends.append(f"{grid.model} from {units.ratio(known[0])} to {units.ratio(known[-1])}")
    return (
        f"{COMPARED[name].axis.quantity.label} of each model over {grids[0].model}'s, along {axis}"
        f" on a logarithmic axis, a line at 1: {'; '.join(ends)}."
    )
