"""From the floor of a step to its measured time: which share each cause has, by measured numbers.

Levels, each a time of the whole step: the floor; the measured HBM traffic at the datasheet's
bandwidth; the sum of the kernels' times; the time of the CUDA graph. A cause is the difference of
two neighbouring levels, negative ones included. A level that was not measured leaves its cause to
the next one.
"""

from dataclasses import dataclass

import plotly.graph_objects as go

from costmodel import units
from costmodel.achieved import NO_DATASHEET, Figure, step_figure
from costmodel.beside import Side
from costmodel.inputs.recording import Case
from dashboard.figures import HATCH, MEASURED, PALETTE, PREDICTED, framed

FLOOR, GRAPH = "floor", "measured as a CUDA graph"
CAUSES = ("traffic beyond compulsory", "kernels below the bandwidth", "gaps between kernels")
LESS = "\\"  # the hatch of a cause that takes time away
MS = 1e3  # milliseconds in a second
FORMULA = """
| step | computed as |
| --- | --- |
| floor | the longer of compulsory bytes / datasheet bandwidth and FLOPs / dense peak |
| traffic beyond compulsory | measured HBM bytes read and written / datasheet bandwidth - floor |
| kernels below the bandwidth | measured sum of kernel times - measured traffic / bandwidth |
| gaps between kernels | measured time of the CUDA graph - sum of kernel times |

Traffic, kernel times and the time of the graph come from runs of their own. A negative step is a
finding: traffic below the floor of a step that FLOPs bound, or kernels that overlap. Kernel times
come from a trace, which can slow them.
"""


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


def levels(case: Case, side: Side) -> tuple[Level, ...]:
    """The levels of a measured case, floor first; seconds."""
    floor = traffic = Figure(value=None, reason=NO_DATASHEET)
    if side.prediction is not None:
        floor = Figure(value=side.prediction.floor_s)
        moved = _moved(case)
        bandwidth = side.prediction.hardware.hbm_bytes_per_s
        traffic = moved if moved.value is None else Figure(value=moved.value / bandwidth)
    times = (traffic, step_figure(case, "trace", "kernel_s"), step_figure(case, "time", "graph_s"))
    causes = (Level(cause=each, time=time) for each, time in zip(CAUSES, times, strict=True))
    return (Level(cause=FLOOR, time=floor), *causes)


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
            x=[bar.name.replace(" and ", "<br>and ") for bar in shown],
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
    return framed(figure, x_title="from the floor to the measured time", y_title="time, ms")


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
