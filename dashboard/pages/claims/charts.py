"""The charts of the page `Is it true?`: shares of public rows, held-out steps."""

from collections import defaultdict
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from costmodel import units
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.questions.claims.held_out import HeldOutStep
from costmodel.questions.published.public_bounds import RowBound
from costmodel.recordings.quantities import QUANTITIES
from costmodel.show.text import capitalised
from dashboard.app.figures import SYMBOLS, colour, framed, level

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


def held_out(steps: Sequence[HeldOutStep]) -> go.Figure:
    """Predicted over measured of each step with its interval, one colour for each kind of model.

    A parity plot over its diagonal, the line at 1: in one of both values, each over decades, an
    error of a tenth could not be seen.
    """
    by_kind: dict[str, list[HeldOutStep]] = defaultdict(list)
    for step in steps:
        by_kind[step.kind].append(step)
    figure = go.Figure()
    for index, (kind, some) in enumerate(sorted(by_kind.items())):
        figure.add_trace(
            go.Scatter(
                name=escape(kind),
                x=[one.measured for one in some],
                y=[one.predicted / one.measured for one in some],
                error_y={
                    "symmetric": False,
                    "array": [_beyond(one.high, one) for one in some],
                    "arrayminus": [-_beyond(one.low, one) for one in some],
                    "thickness": 1,
                    "width": 0,
                },
                text=[
                    f"{escape(one.model)}, {one.backend}, {one.phase}, batch {one.batch:,},"
                    f" context {one.context:,}"
                    for one in some
                ],
                hovertemplate="%{text}<br>measured %{x:.3g}, predicted / measured %{y:.3g}",
                mode="markers",
                marker=_marker(index),
            )
        )
    quantity = QUANTITIES[steps[0].quantity]
    return framed(
        figure,
        x_title=f"Measured {quantity.title}, {units.scale(quantity.unit)[0]} a step",
        y_title="Predicted / measured",
        x_log=True,
        layout=level(1, **LINE),
    )


def _beyond(end: float | None, step: HeldOutStep) -> float:
    """How far an end of the interval is above the prediction, over the measured number."""
    return 0.0 if end is None else (end - step.predicted) / step.measured


def _marker(index: int) -> dict[str, object]:
    return {"color": colour(index), "symbol": SYMBOLS[index % len(SYMBOLS)], "size": MARK}
