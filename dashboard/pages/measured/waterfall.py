"""Where a step's measured time goes, drawn: from the roofline bound up to the time of its graph.

What the parts are: `costmodel/validation/attribution.py`.
"""

from dataclasses import dataclass
from textwrap import wrap

import plotly.graph_objects as go

from costmodel import units
from costmodel.costs.quantities.quantity import DIGITS_OF_TIMES
from costmodel.show.tables.attribution import KINDS_NOTES, SUM_NOTES, parts_table, signed
from costmodel.show.text import capitalised
from costmodel.validation.attribution import PARTS, Attribution
from costmodel.validation.case_attribution import CaseAttribution
from dashboard.app.figures import HATCH, MEASURED, PALETTE, PREDICTED, framed

GRAPH = "measured as a CUDA graph"
LESS = "\\"  # the hatch of a cause that takes time away
MS = 1e3  # milliseconds in a second
KINDS_NOTE = " ".join(KINDS_NOTES)
LABEL = 16  # characters of a line under a bar
NOTE = (
    f"{' '.join(SUM_NOTES)} HBM bytes, kernel times and the time of the graph are measured in"
    " separate runs."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar from `start_s` to `end_s`: a part of the time, or at last all of it."""

    name: str
    meaning: str
    start_s: float = 0.0
    end_s: float

    @property
    def seconds(self) -> float:
        """The bar's height; negative where the cause shortens the step."""
        return self.end_s - self.start_s


def bars(step: Attribution) -> tuple[Bar, ...]:
    """The parts one upon the other, and the measured time."""
    drawn: list[Bar] = []
    reached = 0.0
    for field, seconds in step.parts.items():
        bar = Bar(
            name=PARTS[field][0],
            meaning=step.meaning(field),
            start_s=reached,
            end_s=reached + seconds,
        )
        drawn.append(bar)
        reached += seconds
    drawn.append(Bar(name=GRAPH, meaning="the sum of the bars before it", end_s=step.measured_s))
    return tuple(drawn)


def chart(bars: tuple[Bar, ...]) -> go.Figure:
    """Bars from the roofline bound (solid blue) to the measured time (hatched orange)."""
    figure = go.Figure(
        go.Bar(
            x=["<br>".join(wrap(bar.name, LABEL)) for bar in bars],
            base=[bar.start_s * MS for bar in bars],
            y=[bar.seconds * MS for bar in bars],
            text=[_height(bar) for bar in bars],
            textposition="outside",
            cliponaxis=False,
            marker={
                "color": [_colour(bar) for bar in bars],
                "pattern": {"shape": [_hatch(bar) for bar in bars]},
            },
            hovertemplate="%{x}: %{text}<extra></extra>",
        )
    )
    framed(figure, x_title="", y_title="time, ms")
    return figure.update_xaxes(tickangle=0)


def rows(bars: tuple[Bar, ...]) -> list[dict[str, str]]:
    """The bars as rows of a table, with their shares of the measured time."""
    return [
        {
            "Bar": bar.name,
            "Time": _height(bar),
            "Share": f"{100 * bar.seconds / bars[-1].end_s:.1f} %",
            "What it is": bar.meaning,
        }
        for bar in bars
    ]


def kinds(case: CaseAttribution) -> list[dict[str, str]]:
    """The parts of the kernels' time by kind of operator, as rows of a table."""
    table = parts_table("", "kind of operator", case.by_kind)
    names = ("kind of operator", "measured", *(name for name, _ in PARTS.values()))
    heads = [capitalised(name) for name in names]
    return [dict(zip(heads, row, strict=True)) for row in table.rows]


def in_words(bars: tuple[Bar, ...]) -> str:
    """The waterfall in words."""
    heights = ", ".join(f"{bar.name} {_height(bar)}" for bar in bars)
    return f"Waterfall of the step's time, linear axis in ms: {heights}."


def sentence(step: Attribution) -> str:
    """The largest cause of what is beyond the bound, in plain words."""
    beyond = {field: seconds for field, seconds in step.parts.items() if field != "bound_s"}
    field = max(beyond, key=beyond.__getitem__)
    name = PARTS[field][0]
    over = units.ratio(step.measured_s / step.bound_s)
    share = f"{100 * beyond[field] / step.measured_s:.0f} %"
    return (
        f"The step takes {over} its {PARTS['bound_s'][0]}. The largest cause beyond the bound is"
        f" {name}, {share} of the time: {step.meaning(field)}."
    )


def _height(bar: Bar) -> str:
    plain = bar.name in {PARTS["bound_s"][0], GRAPH}
    sign = "+" if not plain and bar.seconds >= 0 else ""
    return f"{sign}{signed(units.rounded(bar.seconds, DIGITS_OF_TIMES))}"


def _colour(bar: Bar) -> str:
    if bar.name == PARTS["bound_s"][0]:
        return PREDICTED
    return PALETTE[6] if bar.seconds < 0 else MEASURED


def _hatch(bar: Bar) -> str:
    if bar.name == PARTS["bound_s"][0]:
        return ""
    return LESS if bar.seconds < 0 else HATCH
