"""The targets of the held-out measurement: figures that the predictions of an H200 should reach."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.held_out.summary import Point
from costmodel.recordings.error_measures import errors_of

FEWEST_INSIDE = 3  # of the six decode steps of a model
COVERAGE = (0.80, 0.98)  # of all decode steps by 90 % intervals
HALF_WIDTH, HALF_WIDTH_OF_ALL = 0.10, 0.08  # medians; the second where every step lies within


def covers(inside: int, count: int, half_width: float) -> bool:
    """Whether intervals hold the target: neither too narrow nor so wide that they say nothing."""
    if inside == count:
        return half_width <= HALF_WIDTH_OF_ALL
    low, high = COVERAGE
    return low <= inside / count <= high and half_width <= HALF_WIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A target: the quantity and phase, the most that its figures may be, as shares.

    Those of energy are meant with the card's own loops: `anchored`.
    """

    quantity: str
    phase: str
    measure: str
    of: Callable[[Sequence[Point]], float]
    most: float
    anchored: bool = False


def _mape(of: Sequence[Point]) -> float:
    return errors_of([point.ratio for point in of]).mape


def off(of: Sequence[Point]) -> list[float]:
    """|predicted / measured - 1| of each."""
    return [abs(1 / point.ratio - 1) for point in of]


TARGETS = (
    Target(quantity="graph_s", phase="decode", measure="MAPE", of=_mape, most=0.05),
    Target(
        quantity="graph_s",
        phase="decode",
        measure="worst",
        of=lambda of: max(off(of)),
        most=0.15,
    ),
    Target(quantity="graph_s", phase="prefill", measure="MAPE", of=_mape, most=0.08),
    Target(
        quantity="hbm_read_bytes",
        phase="decode",
        measure="median",
        of=lambda of: median(off(of)),
        most=0.02,
    ),
    Target(
        quantity="hbm_read_bytes",
        phase="decode",
        measure="worst",
        of=lambda of: max(off(of)),
        most=0.08,
    ),
    Target(
        quantity="hbm_read_bytes",
        phase="prefill",
        measure="median",
        of=lambda of: median(off(of)),
        most=0.08,
    ),
    Target(quantity="energy_j", phase="decode", measure="MAPE", of=_mape, most=0.08, anchored=True),
    Target(
        quantity="energy_j", phase="prefill", measure="MAPE", of=_mape, most=0.12, anchored=True
    ),
)
