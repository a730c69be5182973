"""The style of all charts: palette, marks, and the frame around a figure.

Predicted is solid blue, measured is hatched orange: never colour alone. The palette is Okabe and
Ito's, which colour-blind readers can tell apart. Pages and reports draw the same figures.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import plotly.graph_objects as go
from plotly.basedatatypes import BasePlotlyType

from costmodel.costs.quantities.quantity import DIGITS

PALETTE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#7F7F7F",
    "#B5A900",
    "#8C564B",
    "#5D3A9B",
)
PREDICTED, MEASURED = PALETTE[0], PALETTE[1]
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star", "x", "pentagon")
HATCH = "/"  # of measured bars
_AXIS = {
    "gridcolor": "#EBF0F8",
    "linecolor": "#EBF0F8",
    "zerolinecolor": "#EBF0F8",
    "zerolinewidth": 2,
    "ticks": "",
    "title": {"standoff": 15},
}
STYLE = go.layout.Template(  # what our charts need of `plotly_white`, which takes 20 times as long
    layout={
        "font": {"color": "#2a3f5f"},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    },
    data={
        "bar": [
            {
                "marker": {
                    "line": {"color": "white", "width": 0.5},
                    "pattern": {"fillmode": "overlay", "size": 10, "solidity": 0.2},
                }
            }
        ]
    },
)
HEIGHT = 420


def colour(index: int) -> str:
    """The colour of the n-th series."""
    return PALETTE[index % len(PALETTE)]


def framed(
    figure: go.Figure,
    *,
    x_title: str,
    y_title: str,
    x_log: bool = False,
    y_log: bool = False,
    height: int = HEIGHT,
    digits: int = DIGITS,
    layout: Mapping[str, Any] = MappingProxyType({}),
) -> go.Figure:
    """The figure with titled axes (units in them), the legend above, and room for its labels.

    A trace that says nothing of its own under the pointer says its text, if it has any, and the
    titles of the axes with its values there, to `digits` significant ones. `layout` counts before
    all of this: shapes, annotations, ranges, which Plotly takes ten times as long over one by one.
    """
    for trace in figure.data:
        if trace.hovertemplate is None and trace.hoverinfo is None:
            trace.hovertemplate = _hover(trace, x_title, y_title, digits)
    given = figure.layout.to_plotly_json()
    own = {
        "template": STYLE,
        "colorway": list(PALETTE),
        "height": height,
        "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"namelength": -1},
        "xaxis": _titled(x_title, log=x_log),
        "yaxis": _titled(y_title, log=y_log),
    }
    figure.layout = _merged(_merged(given, own), layout)  # at once: updates take ten times as long
    return figure


def level(y: float, words: str = "", **line: object) -> dict[str, Any]:
    """The layout of a horizontal line across a chart of linear height, with words on its right."""
    shape = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}
    told = {"xref": "x domain", "x": 1, "xanchor": "right", "y": y, "yanchor": "bottom"}
    return {
        "shapes": [shape],
        "annotations": [{**told, "text": words, "showarrow": False}] if words else [],
    }


def _merged(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Both layouts; `own` counts where they differ, and within what both have."""
    both = {key: (given[key], own[key]) for key in given.keys() & own.keys()}
    return {**given, **own} | {
        key: _merged(theirs, ours)
        for key, (theirs, ours) in both.items()
        if isinstance(theirs, Mapping) and isinstance(ours, Mapping)
    }


def _titled(title: str, *, log: bool) -> dict[str, object]:
    """The layout of an axis."""
    return {"title": {"text": title}, "type": "log" if log else None, "automargin": True}


def _hover(trace: BasePlotlyType, x_title: str, y_title: str, digits: int) -> str:
    """What stands under the pointer at a point of a trace."""
    words = ["%{text}"] if trace.text is not None else []
    for axis, title in (("x", x_title), ("y", y_title)):
        values = [value for value in trace[axis] if value is not None]
        form = f":,.{digits}~r"
        if any(isinstance(value, str) for value in values):
            form = ""
        elif all(float(value).is_integer() for value in values):
            form = ":,"
        words.append(f"{title}: %{{{axis}{form}}}" if title else f"%{{{axis}{form}}}")
    return "<br>".join(words) + "<extra>%{fullData.name}</extra>"


def line(
    name: str, x: Sequence[float], y: Sequence[float | None], index: int, *, markers: bool = False
) -> go.Scatter:
    """A line with the colour, the dash and, where it has markers, the symbol of its index."""
    return go.Scatter(
        name=name,
        x=list(x),
        y=list(y),
        mode="lines+markers" if markers else "lines",
        line={"color": colour(index), "dash": DASHES[index % len(DASHES)]},
        marker={"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 8},
    )


def measured_marks(
    name: str, x: Sequence[float], y: Sequence[float], index: int, *, sources: Sequence[str] = ()
) -> go.Scatter:
    """Measured points: open, in the colour and symbol of the predicted line of the same index.

    `sources` says where each is from, for the text that appears beside it.
    """
    return go.Scatter(
        name=name,
        x=list(x),
        y=list(y),
        mode="markers",
        text=list(sources) or None,
        marker={
            "symbol": f"{SYMBOLS[index % len(SYMBOLS)]}-open",
            "size": 13,
            "color": colour(index),
            "line": {"width": 2.5},
        },
    )
