"""The charts of the page Compare: a line for each model, with measured points.

Crossovers, and the largest batches that fit, are marked. Names of models come from outside: they
are escaped, since Plotly reads tags in its texts.
"""

from collections.abc import Sequence
from html import escape
from math import log10
from typing import Any

import plotly.graph_objects as go

from costmodel import units
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.questions.compare import Advantage, sentences
from costmodel.questions.grid import Grid
from costmodel.show.axis import Axis
from dashboard.app.figures import framed, line, measured_marks
from dashboard.app.measured_points import Along, Point
from dashboard.pages.compare.data import BATCHES, COMPARED, ComparedQuantity, along, values

LABEL_ROW = 0.06  # height of the label of a vertical line, as a share of the chart's
EDGE = 0.05  # room below the lowest curve, as a share of the range of all curves
DISTINCT = {
    kind: ComparedQuantity(axis=Axis(quantity=STEP_QUANTITIES[f"routing.expected_distinct_{kind}"]))
    for kind in ("experts", "rows")
}


def main_chart(
    grids: Sequence[Grid],
    name: str,
    axis: Along,
    *,
    advantages: Sequence[Advantage],
    max_batches: Sequence[int],
    points: Sequence[Sequence[Point]],
) -> go.Figure:
    """A line for each model, with measured points open and in its colour, and vertical marks.

    The marks stand at crossovers and at the largest batch of each model that fits.
    """
    quantity, figure = COMPARED[name], go.Figure()
    for index, grid in enumerate(grids):
        x = along(grid, axis)
        drawn = line(escape(grid.model), x, values(grid, quantity), index, markers=True)
        figure.add_trace(drawn.update(marker={"maxdisplayed": 14}))
    for index, (grid, measured) in enumerate(zip(grids, points, strict=True)):
        if measured:
            label = f"{escape(grid.model)}, measured"
            figure.add_trace(_measured(label, measured, index, quantity.axis))
    marks: list[tuple[int, str, str]] = []
    if axis == "batch":
        marks = [
            *(
                (batch, words, "dash")
                for advantage in advantages
                for batch, words in crossovers(advantage)
            ),
            *(
                (most, f"largest batch of {escape(grid.model)} that fits: {most:,}", "dot")
                for grid, most in zip(grids, max_batches, strict=True)
                if BATCHES[0] <= most <= BATCHES[-1]
            ),
        ]
    heights = [log10(y) for trace in figure.data for y in trace.y if y]
    x_title = {"batch": "Batch, sequences", "context": "Context, cached tokens a sequence"}[axis]
    return framed(
        figure,
        x_title=x_title,
        y_title=quantity.axis.title,
        x_log=True,
        y_log=True,
        digits=quantity.axis.quantity.digits,
        layout=_marked(marks, heights),
    )


def _measured(label: str, points: Sequence[Point], index: int, axis: Axis) -> go.Scatter:
    return measured_marks(
        label,
        [point.x for point in points],
        [axis.scaled(point.value) for point in points],
        index,
        sources=[escape(f"{point.maker}; {point.source}") for point in points],
    )


def crossovers(advantage: Advantage) -> list[tuple[int, str]]:
    """The batches of the chart at which an advantage begins or ends, with their labels."""
    model = escape(advantage.model)
    marks = []
    for first, last in advantage.intervals:
        if 1 < first <= BATCHES[-1]:
            marks.append((first, f"{model} needs less from {first:,}"))
        if last is not None and last <= BATCHES[-1]:
            marks.append((last, f"{model} needs less up to {last:,}"))
    return marks


def _marked(marks: Sequence[tuple[int, str, str]], heights: Sequence[float]) -> dict[str, Any]:
    """The layout of vertical lines with their labels, each on a row of its own above the curves.

    A mark is a batch, a label and a dash. A label stands on the inner side of its line. Lines
    nearer to an edge are higher, so that no label crosses the line of another. `heights` are the
    logarithms of all values of the curves.
    """
    middle = BATCHES[-1] ** 0.5
    rows = [
        *sorted((mark for mark in marks if mark[0] > middle), reverse=True),
        *sorted(mark for mark in marks if mark[0] <= middle),
    ]
    layout: dict[str, Any] = {"shapes": [], "annotations": []}
    for index, (x, words, dash) in enumerate(rows):
        top = 1 - LABEL_ROW * index
        line = {"dash": dash, "color": "#7F7F7F"}
        vertical = {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": top, "yref": "paper"}
        layout["shapes"].append({**vertical, "line": line})
        layout["annotations"].append(
            {
                "x": log10(x),  # Plotly takes annotations, unlike shapes, in the axis's own scale
                "y": top,
                "yref": "paper",
                "xanchor": "right" if x > middle else "left",
                "yanchor": "top",
                "text": words,
                "showarrow": False,
            }
        )
    if rows and heights:
        low, high = min(heights), max(heights)
        room = LABEL_ROW * (len(rows) + 1)
        ends = [low - (high - low) * EDGE, low + (high - low) / (1 - room)]
        layout["yaxis"] = {"range": ends}
    return layout


def main_alt(grids: Sequence[Grid], name: str, axis: Along, advantages: Sequence[Advantage]) -> str:
    """The main chart in words."""
    quantity = COMPARED[name]
    ends = "; ".join(
        f"{grid.model} from {_short(values(grid, quantity)[0])} to"
        f" {_short(values(grid, quantity)[-1])}"
        for grid in grids
    )
    x = along(grids[0], axis)
    return (
        f"{quantity.axis.title} over {axis} {x[0]:,} to {x[-1]:,}, both axes logarithmic:"
        f" {ends}. {' '.join(sentences(advantages))}"
    ).strip()


def _short(value: float | None) -> str:
    return units.NOT_KNOWN if value is None else units.significant(value)


def distinct_chart(
    grids: Sequence[Grid], points: Sequence[dict[str, list[Point]]]
) -> go.Figure | None:
    """Expected distinct experts and rows of a layer over batch; None if no model has any."""
    figure = go.Figure()
    for index, (grid, measured) in enumerate(zip(grids, points, strict=True)):
        for kind, quantity in DISTINCT.items():
            expected = values(grid, quantity)
            if expected[0] is None:
                continue
            name = f"{escape(grid.model)}, {kind}"
            figure.add_trace(line(f"{name} expected", grid.batches, expected, index))
            if measured.get(kind):
                drawn = _measured(f"{name} measured", measured[kind], index, quantity.axis)
                figure.add_trace(drawn)
    if not figure.data:
        return None
    return framed(
        figure,
        x_title="Batch, sequences",
        y_title="Distinct experts or rows a layer, count",
        x_log=True,
        y_log=True,
    )
