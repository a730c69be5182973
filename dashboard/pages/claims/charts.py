"""The charts of the page `Is it true?`: shares of public rows, predicted against measured."""

from collections import defaultdict
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.questions.claims.parity import ParityPoint
from costmodel.questions.published.public_bounds import RowBound
from costmodel.show.text import capitalised
from dashboard.app.figures import SYMBOLS, colour, framed

BOUND = STEP_QUANTITIES["time.floor_s"].label
MARK = 7  # pixels
LINE = {"color": "#555555", "dash": "dash"}


def shares(bounds: Sequence[RowBound]) -> go.Figure:
    """Bound over measured of each row by its batch, one colour for each engine; a line at 1."""
    by_engine: dict[str, list[RowBound]] = defaultdict(list)
    for bound in bounds:
        by_engine[bound.row.engine].append(bound)
    figure = go.Figure()
    for index, engine in enumerate(sorted(by_engine)):
        some = by_engine[engine]
        figure.add_trace(
            go.Scatter(
                name=escape(engine),
                x=[one.point.batch for one in some],
                y=[one.share for one in some],
                text=[f"{escape(one.row.model)}, {one.row.gpus} x {one.row.gpu}" for one in some],
                hovertemplate="%{text}<br>batch %{x:,}, bound / measured %{y:.3g}",
                mode="markers",
                marker=_marker(index),
            )
        )
    figure.add_hline(y=1, line=LINE, annotation_text="the bound")
    return framed(
        figure,
        x_title="Batch, sequences that decode",
        y_title=f"{capitalised(BOUND)} / measured time",
        x_log=True,
        y_log=True,
    )


def parity(points: Sequence[ParityPoint]) -> go.Figure:
    """Predicted over measured of each step, one colour for each model; a line where both agree."""
    by_model: dict[str, list[ParityPoint]] = defaultdict(list)
    for point in points:
        by_model[point.model].append(point)
    figure = go.Figure()
    for index, (model, some) in enumerate(sorted(by_model.items())):
        figure.add_trace(
            go.Scatter(
                name=escape(model),
                x=[one.measured for one in some],
                y=[one.predicted for one in some],
                text=[
                    f"batch {one.batch:,}, context {one.context:,}, {one.routing}" for one in some
                ],
                hovertemplate="%{text}<br>measured %{x:.3g}, predicted %{y:.3g}",
                mode="markers",
                marker=_marker(index),
            )
        )
    ends = [
        end(value for one in points for value in (one.measured, one.predicted))
        for end in (min, max)
    ]
    figure.add_trace(go.Scatter(name="both agree", x=ends, y=ends, mode="lines", line=LINE))
    unit = "s" if points[0].quantity == "graph_s" else "J"
    return framed(
        figure,
        x_title=f"Measured, {unit} a step",
        y_title=f"Predicted, {unit} a step",
        x_log=True,
        y_log=True,
    )


def _marker(index: int) -> dict[str, object]:
    return {"color": colour(index), "symbol": SYMBOLS[index % len(SYMBOLS)], "size": MARK}
