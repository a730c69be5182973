"""From the floor of a step to its measured time: which share each cause has, by measured numbers.

Levels, each a time of the whole step: the floor; the same with the measured HBM traffic in place of
the compulsory bytes; the sum of the kernels' times; the time of the CUDA graph. A cause is the
difference of two neighbouring levels, negative ones included. A level that was not measured leaves
its cause to the next one.
"""

from dataclasses import dataclass
from textwrap import wrap

import plotly.graph_objects as go

from costmodel import units
from costmodel.costs.predict import Prediction
from costmodel.costs.roofline import floor_s
from costmodel.recordings.recording import Case
from costmodel.validation.case_prediction import CasePrediction
from costmodel.validation.utilisation import NO_DATASHEET, Figure, step_figure
from dashboard.app.figures import HATCH, MEASURED, PALETTE, PREDICTED, framed

FLOOR, GRAPH = "floor", "measured as a CUDA graph"
CAUSES = ("traffic beyond compulsory", "kernels below bandwidth and peak", "gaps between kernels")
LESS = "\\"  # the hatch of a cause that takes time away
MS = 1e3  # milliseconds in a second
REACHED = {  # by each bar: the level at its end
    FLOOR: "the longer of compulsory bytes / datasheet bandwidth and useful FLOPs / dense peak",
    CAUSES[0]: "the floor of the measured HBM bytes, read and written, instead of the compulsory",
    CAUSES[1]: "the measured sum of kernel times",
    CAUSES[2]: "the measured time as a CUDA graph",
    GRAPH: "measured: the sum of the bars before",
}
NOTE = (
    "HBM bytes, kernel times and the time of the graph come from runs of their own, and a trace can"
    " slow kernels. A negative bar is a finding: less traffic than compulsory, since L2 held the"
    " rest, or kernels that overlap."
)
LABEL = 16  # characters of a line under a bar


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A time of the whole step, and what lies between the level before and it."""

    cause: str
    time: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One bar: it goes from `start_s` to `end_s`, or is not there for a reason."""

    name: str
    start_s: float = 0.0
    end_s: float | None = None
    reason: str = ""

    @property
    def seconds(self) -> float | None:
        """Its height; negative where the cause takes time away."""
        return None if self.end_s is None else self.end_s - self.start_s


def levels(case: Case, side: CasePrediction) -> tuple[Level, ...]:
    """The levels of a measured case, floor first; seconds."""
    floor = traffic = Figure(value=None, reason=NO_DATASHEET)
    if side.prediction is not None:
        floor = Figure(value=side.prediction.floor_s)
        traffic = _moved(case)
        if traffic.value is not None:
            traffic = Figure(value=_floor_of(traffic.value, side.prediction))
    times = (traffic, step_figure(case, "trace", "kernel_s"), step_figure(case, "time", "graph_s"))
    causes = (Level(cause=each, time=time) for each, time in zip(CAUSES, times, strict=True))
    return (Level(cause=FLOOR, time=floor), *causes)


def _floor_of(moved_bytes: float, prediction: Prediction) -> float:
    """The floor of the step, had it to move these bytes; seconds."""
    hardware = prediction.hardware
    peak, _ = hardware.peak_flops_per_s(prediction.workload.dtype.name)
    flops = prediction.costs.totals.flops
    return float(floor_s(moved_bytes, flops, hardware.hbm_bytes_per_s, peak))


def _moved(case: Case) -> Figure:
    """HBM bytes read and written by the step."""
    read, written = (
        step_figure(case, "counters", each) for each in ("hbm_read_bytes", "hbm_written_bytes")
    )
    if read.value is not None and written.value is not None:
        return Figure(value=read.value + written.value)
    both = step_figure(case, "counters", "hbm_bytes")
    return both if both.value is not None else read if read.value is None else written


def steps(found: tuple[Level, ...]) -> tuple[Step, ...]:
    """The bars: the floor, a cause for each further level, and the measured time where it is."""
    bars: list[Step] = []
    reached: float | None = None
    untold: list[str] = []  # causes that the next known level holds as well
    for level in found:
        value = level.time.value
        if value is None:
            bars.append(Step(name=level.cause, reason=level.time.reason or ""))
            untold.append(level.cause)
            continue
        joined = " and ".join([*untold, level.cause])
        bars.append(Step(name=joined, start_s=reached or 0.0, end_s=value))
        reached, untold = value, []
    last = found[-1].time.value
    if last is not None:
        bars.append(Step(name=GRAPH, end_s=last))
    return tuple(bars)


def waterfall(bars: tuple[Step, ...]) -> go.Figure:
    """Bars from the floor (solid blue) over the causes to the measured time (hatched orange)."""
    shown = [bar for bar in bars if bar.end_s is not None]
    heights = [(bar.seconds or 0.0) * MS for bar in shown]
    figure = go.Figure(
        go.Bar(
            x=["<br>".join(wrap(bar.name, LABEL)) for bar in shown],
            base=[bar.start_s * MS for bar in shown],
            y=heights,
            text=[_told(bar) for bar in shown],
            textposition="outside",
            cliponaxis=False,
            marker={
                "color": [_colour(bar) for bar in shown],
                "pattern": {"shape": [_hatch(bar) for bar in shown]},
            },
            hovertemplate="%{x}: %{text}<extra></extra>",
        )
    )
    framed(figure, x_title="", y_title="time, ms")
    return figure.update_xaxes(tickangle=0)


def rows(bars: tuple[Step, ...]) -> list[dict[str, str]]:
    """Every bar, drawn or not, as a table."""
    measured = bars[-1].end_s if bars[-1].name == GRAPH else None
    return [
        {
            "Bar": bar.name,
            "Time": _told(bar),
            "Share": ""
            if bar.seconds is None or not measured
            else f"{100 * bar.seconds / measured:.1f} %",
            "Reaches": [REACHED[name] for name in REACHED if name in bar.name][-1],
        }
        for bar in bars
    ]


def in_words(bars: tuple[Step, ...]) -> str:
    """All steps in one sentence, for those who do not see the chart."""
    said = [f"{bar.name} {_told(bar)}" for bar in bars]
    return "Waterfall of the step's time, linear axis in ms: " + ", ".join(said) + "."


def _told(bar: Step) -> str:
    if bar.seconds is None:
        return bar.reason if bar.reason.startswith("not ") else f"not measured ({bar.reason})"
    sign = "" if bar.name in {FLOOR, GRAPH} else "-" if bar.seconds < 0 else "+"
    return f"{sign}{units.seconds(abs(bar.seconds))}"


def _colour(bar: Step) -> str:
    if bar.name == FLOOR:
        return PREDICTED
    return PALETTE[6] if (bar.seconds or 0.0) < 0 else MEASURED


def _hatch(bar: Step) -> str:
    if bar.name == FLOOR:
        return ""
    return LESS if (bar.seconds or 0.0) < 0 else HATCH
