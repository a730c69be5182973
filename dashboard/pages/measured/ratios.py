"""The chart of measured over predicted, operator by operator, as dots around 1.

Identical layers are one dot: the median over them, with a bar from the smallest to the largest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log2, log10
from statistics import median

import plotly.graph_objects as go

from costmodel import units
from costmodel.validation.joined import Row
from dashboard.app.figures import SYMBOLS, framed
from dashboard.app.paths import pattern_of

NO_KIND = "not predicted"
DOT_HEIGHT, FRAME_HEIGHT = 22, 150  # pixels
SCALE = [[0.0, "#0072B2"], [0.5, "#F2F2F2"], [1.0, "#D55E00"]]  # less, as predicted, more
EDGE = "#7F7F7F"
MARGIN = 1.05  # of the axis, beyond the farthest dot
LEAST_RANGE = 1.0  # of the scale's ends, in doublings
NEAR = (0.5, 0.65, 0.8, 1, 1.25, 1.5, 2)  # ticks, where all dots lie between them
FAR = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One operator over all its layers; ratios are measured over predicted."""

    pattern: str  # its path, with a star for the layer
    kind: str
    layers: int
    low: float
    middle: float
    high: float


def dots(rows: Iterable[Row]) -> tuple[Dot, ...]:
    """The operators that are both measured and predicted, in the order of the model."""
    groups: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    for row in rows:
        if row.path is not None and row.ratio:  # no logarithm of 0
            pattern = pattern_of(row.path)
            groups.setdefault(pattern, []).append(row.ratio)
            kinds[pattern] = row.kind or NO_KIND
    return tuple(
        Dot(
            pattern=pattern,
            kind=kinds[pattern],
            layers=len(ratios),
            low=min(ratios),
            middle=median(ratios),
            high=max(ratios),
        )
        for pattern, ratios in groups.items()
    )


def ratio_plot(dots: Sequence[Dot], quantity: str) -> go.Figure:
    """Dots on a logarithmic axis with a line at 1; colour by the ratio, symbol by the kind."""
    end = max([LEAST_RANGE, *(abs(log2(dot.middle)) for dot in dots)])
    figure = go.Figure()
    for index, kind in enumerate(dict.fromkeys(dot.kind for dot in dots)):
        of_kind = [dot for dot in dots if dot.kind == kind]
        figure.add_scatter(
            name=kind,
            mode="markers",
            x=[dot.middle for dot in of_kind],
            y=[dot.pattern for dot in of_kind],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [dot.high - dot.middle for dot in of_kind],
                "arrayminus": [dot.middle - dot.low for dot in of_kind],
                "color": EDGE,
                "thickness": 1,
            },
            marker={
                "symbol": SYMBOLS[index % len(SYMBOLS)],
                "size": 11,
                "color": [log2(dot.middle) for dot in of_kind],
                "coloraxis": "coloraxis",
                "line": {"color": EDGE, "width": 1},
            },
            customdata=[
                (units.ratio(dot.middle), units.ratio(dot.low), units.ratio(dot.high), dot.layers)
                for dot in of_kind
            ],
            hovertemplate="%{y}: %{customdata[0]}, from %{customdata[1]} to %{customdata[2]}"
            " over %{customdata[3]} leaves<extra>%{fullData.name}</extra>",
        )
    figure.add_vline(x=1, line={"color": EDGE, "dash": "dash"})
    framed(
        figure,
        x_title=f"measured / predicted {quantity}, logarithmic",
        y_title="",
        x_log=True,
        height=FRAME_HEIGHT + DOT_HEIGHT * len(dots),
    )
    scale = {"colorscale": SCALE, "cmin": -end, "cmid": 0.0, "cmax": end, "showscale": False}
    figure.update_layout(coloraxis=scale)
    low, high = min(dot.low for dot in dots), max(dot.high for dot in dots)
    ticks = NEAR if low >= NEAR[0] and high <= NEAR[-1] else FAR
    figure.update_xaxes(
        range=[log10(min(low, 0.8) / MARGIN), log10(max(high, 1.25) * MARGIN)],
        tickvals=ticks,
        ticktext=[f"{tick:g}x" for tick in ticks],
        tickangle=0,
    )
    order = [dot.pattern for dot in reversed(dots)]  # the first operator on top
    figure.update_yaxes(categoryorder="array", categoryarray=order, tickmode="linear")
    return figure


def in_words(dots: Sequence[Dot], quantity: str) -> str:
    """The chart in words."""
    farthest = max(dots, key=lambda dot: abs(log2(dot.middle)))
    return (
        f"Dots of measured over predicted {quantity} for {len(dots)} operators on a logarithmic"
        f" axis with a line at 1. Farthest from it: {farthest.pattern} at"
        f" {units.ratio(farthest.middle)}."
    )
