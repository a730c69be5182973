"""The targets of the held-out measurement: figures that the predictions of an H200 should reach."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.held_out.summary import Point
from docs.error_measures import errors_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A target: the quantity and phase, the most that its figures may be, as shares."""

    quantity: str
    phase: str
    measure: str
    of: Callable[[Sequence[Point]], float]
    most: float


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
    Target(quantity="energy_j", phase="decode", measure="MAPE", of=_mape, most=0.08),
    Target(quantity="energy_j", phase="prefill", measure="MAPE", of=_mape, most=0.12),
)
