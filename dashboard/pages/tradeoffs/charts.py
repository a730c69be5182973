"""The charts of the page Trade-offs: the scatter of a sweep, and the ratios of a match."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from costmodel import units
from costmodel.questions.match import Match
from costmodel.questions.match_differences import Difference
from dashboard.app.figures import PALETTE, SYMBOLS, colour, framed
from dashboard.pages.tradeoffs.data import sample
from dashboard.pages.tradeoffs.match import ratios
from dashboard.pages.tradeoffs.sweep import (
    DESIGN_QUANTITIES,
    Sweep,
    base_points,
    column,
    is_size,
    title,
)

MAX_DRAWN = 5000  # points: beyond, a browser is slow
MAX_NAMED = 12  # points of the front: beyond, names lie upon one another
SIDES = ("bottom center", "top center")  # of a point, for its name, in turn
FRAME_HEIGHT, LINE_HEIGHT = 150, 26  # pixels of the frame of the ratios, and of each line
TICKS = (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 1000)


def scatter(
    sweep: Sweep,
    mask: NDArray[np.bool_],
    best: NDArray[np.intp],
    *,
    x: str,
    y: str,
    coloured: str,
    logarithmic: bool,
    from_zero: bool = True,
) -> go.Figure:
    """The points of a mask, coloured by a quantity; the front as stars, the base model as a cross.

    Of more than `MAX_DRAWN` points a sample is drawn. A short front carries its names. Axes begin
    at 0, or say how far apart their points are.
    """
    drawn = sample(np.flatnonzero(mask), MAX_DRAWN)
    xs, ys, colours = (column(sweep, name) for name in (x, y, coloured))
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            name="designs",
            x=xs[drawn].tolist(),
            y=ys[drawn].tolist(),
            mode="markers",
            marker={
                "size": 8,
                "line": {"color": PALETTE[6], "width": 1},  # visible on white and on black
                "color": colours[drawn].tolist(),
                "colorscale": "Cividis",
                "showscale": True,
                "colorbar": {"title": {"text": title(coloured), "side": "right"}},
            },
            text=[sweep.words(int(point)) for point in drawn],
        )
    )
    figure.add_trace(
        go.Scatter(
            name=front_name(x, y),
            x=xs[best].tolist(),
            y=ys[best].tolist(),
            mode="lines+markers+text" if len(best) <= MAX_NAMED else "lines+markers",
            textposition=[SIDES[index % 2] for index in range(len(best))],
            line={"color": PALETTE[5], "dash": "dash"},
            marker={"symbol": "star", "size": 13, "color": PALETTE[5]},
            text=[sweep.words(int(point)) for point in best],
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
            text=[sweep.words(int(point)) for point in base],
        )
    )
    framed(
        figure,
        x_title=_titled(title(x), xs[drawn], logarithmic=logarithmic, from_zero=from_zero),
        y_title=_titled(title(y), ys[drawn], logarithmic=logarithmic, from_zero=from_zero),
        x_log=logarithmic,
        y_log=logarithmic,
        height=520,
    )
    if from_zero and not logarithmic:
        figure.update_xaxes(rangemode="tozero")
        figure.update_yaxes(rangemode="tozero")
    figure.update_traces(cliponaxis=False)  # names at the edge
    return figure


def front_name(x: str, y: str) -> str:
    """What the stars are: the Pareto front, or where an axis is a size the best at each value."""
    size = next((name for name in (x, y) if is_size(name)), None)
    return "Pareto front" if size is None else f"best at each {title(size)}"


def _titled(words: str, values: NDArray[np.float64], *, logarithmic: bool, from_zero: bool) -> str:
    """The title of an axis; of one that does not begin at 0, with how far apart its points are."""
    if from_zero and not logarithmic:
        return words
    kind = "logarithmic" if logarithmic else "not from 0"
    least, most = float(values.min()), float(values.max())
    apart = f", points up to {100 * (most / least - 1):.3g} % apart" if least > 0 else ""
    return f"{words} ({kind}{apart})"


def scatter_alt(sweep: Sweep, best: NDArray[np.intp], x: str, y: str, count: int) -> str:
    """The scatter of `count` points in words."""
    text = f"{count:,} designs at their workloads, {y} against {x}; {len(best)} are on the front"
    if not len(best):
        return f"{text}."
    ends = [
        f"{sweep.words(int(point))} ({_value(sweep, x, point)}, {_value(sweep, y, point)})"
        for point in (best[0], best[-1])
    ]
    return f"{text}, from {ends[0]} to {ends[1]}."


def _value(sweep: Sweep, name: str, point: np.intp) -> str:
    unit = "" if is_size(name) else DESIGN_QUANTITIES[name].axis.unit
    return f"{units.significant(column(sweep, name)[point])} {unit}".strip()


def ratio_chart(answer: Match, lines: Sequence[Difference]) -> go.Figure:
    """Dots of match over target: a line for each quantity, a symbol for each batch."""
    dots = ratios(answer, lines)
    figure = go.Figure()
    for index, batch in enumerate(dict.fromkeys(dot.batch for dot in dots)):
        of_batch = [dot for dot in dots if dot.batch == batch]
        figure.add_scatter(
            name="any batch" if batch is None else f"batch {batch:,}",
            mode="markers",
            x=[dot.ratio for dot in of_batch],
            y=[dot.name for dot in of_batch],
            marker={
                "symbol": f"{SYMBOLS[index]}-open",  # open: equal ratios lie upon one another
                "size": 11,
                "color": colour(index),
                "line": {"width": 2},
            },
            customdata=[units.ratio(dot.ratio) for dot in of_batch],
            hovertemplate="%{y}: %{customdata}<extra>%{fullData.name}</extra>",
        )
    figure.add_vline(x=1, line={"color": PALETTE[6], "dash": "dash"})
    names = list(dict.fromkeys(dot.name for dot in dots))
    framed(
        figure,
        x_title="match / target, logarithmic; 1: equal",
        y_title="",
        x_log=True,
        height=FRAME_HEIGHT + LINE_HEIGHT * len(names),
    )
    figure.update_xaxes(tickvals=TICKS, ticktext=[f"{tick:g}x" for tick in TICKS], tickangle=0)
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], tickmode="linear")
    return figure


def ratio_alt(answer: Match, lines: Sequence[Difference]) -> str:
    """The ratios in words."""
    dots = ratios(answer, lines)
    farthest = max(dots, key=lambda dot: max(dot.ratio, 1 / dot.ratio))
    where = "" if farthest.batch is None else f" at batch {farthest.batch:,}"
    return (
        f"Dots of match over target for {len(dots)} numbers on a logarithmic axis with a line at 1."
        f" Farthest from it: {farthest.name}{where}, {units.ratio(farthest.ratio)}."
    )
