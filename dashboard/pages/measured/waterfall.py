"""From the roofline bound of a step to its measured time: how much time each cause takes.

Four levels, each a time of the whole step: the roofline bound; the bound with the measured HBM
traffic in place of the compulsory bytes; the sum of the kernels' times; the time as a CUDA graph. A
cause is the difference of two neighbouring levels and may be negative. Where a level was not
measured, the next level includes its cause.
"""

from dataclasses import dataclass
from textwrap import wrap

import plotly.graph_objects as go

from costmodel import units
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.recordings.recording import Case
from costmodel.validation.case_prediction import CasePrediction
from costmodel.validation.utilisation import NO_DATASHEET, Figure, step_figure
from dashboard.app.figures import HATCH, MEASURED, PALETTE, PREDICTED, framed

FLOOR, GRAPH = STEP_QUANTITIES["time.floor_s"].label, "measured as a CUDA graph"
CAUSES = ("traffic beyond compulsory", "kernels below bandwidth and peak", "gaps between kernels")
LESS = "\\"  # the hatch of a cause that takes time away
MS = 1e3  # milliseconds in a second
REACHED = {  # the time at the end of each bar
    FLOOR: "the longer of compulsory bytes / datasheet bandwidth and model FLOPs / dense peak",
    CAUSES[0]: "the roofline bound with measured HBM bytes, read and written, for compulsory ones",
    CAUSES[1]: "the measured sum of kernel times",
    CAUSES[2]: "the measured time as a CUDA graph",
    GRAPH: "the measured time: the sum of the bars before it",
}
NOTE = (
    "HBM bytes, kernel times and the time of the graph are measured in separate runs, and a trace"
    " can slow kernels. A negative bar has a meaning: less traffic than compulsory, since L2 held"
    " the rest, or kernels that overlap."
)
LABEL = 16  # characters of a line under a bar


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLevel:
    """A time of the whole step, and the cause of its difference from the level before."""

    cause: str
    time: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar from `start_s` to `end_s`; None: it is not drawn, for a reason."""

    name: str
    start_s: float = 0.0
    end_s: float | None = None
    reason: str = ""

    @property
    def seconds(self) -> float | None:
        """The bar's height; negative where the cause shortens the step."""
        return None if self.end_s is None else self.end_s - self.start_s


def levels(case: Case, side: CasePrediction) -> tuple[TimeLevel, ...]:
    """The levels of a measured case in seconds, the roofline bound first."""
    floor = traffic = Figure(value=None, reason=NO_DATASHEET)
    if side.prediction is not None:
        floor = Figure(value=side.prediction.floor_s)
        traffic = _hbm_bytes(case)
        if traffic.value is not None:
            traffic = Figure(value=_floor_of(traffic.value, side.prediction))
    times = (traffic, step_figure(case, "trace", "kernel_s"), step_figure(case, "time", "graph_s"))
    causes = (TimeLevel(cause=cause, time=time) for cause, time in zip(CAUSES, times, strict=True))
    return (TimeLevel(cause=FLOOR, time=floor), *causes)


def _floor_of(hbm_bytes: float, prediction: Prediction) -> float:
    """The roofline bound of the step in seconds, if it had to move so many bytes."""
    costs, ceilings = prediction.costs, prediction.ceilings
    flops = ceilings.at_peak(costs.operators, costs.totals.flops)
    return float(ceilings.floor_s(hbm_bytes, flops))


def _hbm_bytes(case: Case) -> Figure:
    """The measured HBM bytes of the step, read and written."""
    read, written = (
        step_figure(case, "counters", name) for name in ("hbm_read_bytes", "hbm_written_bytes")
    )
    if read.value is not None and written.value is not None:
        return Figure(value=read.value + written.value)
    both = step_figure(case, "counters", "hbm_bytes")
    return both if both.value is not None else read if read.value is None else written


def bars(levels: tuple[TimeLevel, ...]) -> tuple[Bar, ...]:
    """The bars: the roofline bound, the cause of each further level, and the measured time.

    A bar that includes the causes of unmeasured levels names them all.
    """
    drawn: list[Bar] = []
    reached: float | None = None
    included: list[str] = []  # causes of the unmeasured levels before
    for level in levels:
        value = level.time.value
        if value is None:
            drawn.append(Bar(name=level.cause, reason=level.time.reason or ""))
            included.append(level.cause)
            continue
        name = " and ".join([*included, level.cause])
        drawn.append(Bar(name=name, start_s=reached or 0.0, end_s=value))
        reached, included = value, []
    last = levels[-1].time.value
    if last is not None:
        drawn.append(Bar(name=GRAPH, end_s=last))
    return tuple(drawn)


def chart(bars: tuple[Bar, ...]) -> go.Figure:
    """Bars from the roofline bound (solid blue) to the measured time (hatched orange)."""
    known = [bar for bar in bars if bar.end_s is not None]
    heights = [(bar.seconds or 0.0) * MS for bar in known]
    figure = go.Figure(
        go.Bar(
            x=["<br>".join(wrap(bar.name, LABEL)) for bar in known],
            base=[bar.start_s * MS for bar in known],
            y=heights,
            text=[_height(bar) for bar in known],
            textposition="outside",
            cliponaxis=False,
            marker={
                "color": [_colour(bar) for bar in known],
                "pattern": {"shape": [_hatch(bar) for bar in known]},
            },
            hovertemplate="%{x}: %{text}<extra></extra>",
        )
    )
    framed(figure, x_title="", y_title="time, ms")
    return figure.update_xaxes(tickangle=0)


def rows(bars: tuple[Bar, ...]) -> list[dict[str, str]]:
    """The bars as rows of a table, also those that are not drawn."""
    measured = bars[-1].end_s if bars[-1].name == GRAPH else None
    return [
        {
            "Bar": bar.name,
            "Time": _height(bar),
            "Share": ""
            if bar.seconds is None or not measured
            else f"{100 * bar.seconds / measured:.1f} %",
            "Reaches": [REACHED[name] for name in REACHED if name in bar.name][-1],
        }
        for bar in bars
    ]


def in_words(bars: tuple[Bar, ...]) -> str:
    """The waterfall in words."""
    heights = ", ".join(f"{bar.name} {_height(bar)}" for bar in bars)
    return f"Waterfall of the step's time, linear axis in ms: {heights}."


def _height(bar: Bar) -> str:
    if bar.seconds is None:
        return bar.reason if bar.reason.startswith("not ") else f"not measured ({bar.reason})"
    sign = "" if bar.name in {FLOOR, GRAPH} else "-" if bar.seconds < 0 else "+"
    return f"{sign}{units.seconds(abs(bar.seconds))}"


def _colour(bar: Bar) -> str:
    if bar.name == FLOOR:
        return PREDICTED
    return PALETTE[6] if (bar.seconds or 0.0) < 0 else MEASURED


def _hatch(bar: Bar) -> str:
    if bar.name == FLOOR:
        return ""
    return LESS if (bar.seconds or 0.0) < 0 else HATCH
