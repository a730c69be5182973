"""Coefficients of energy: non-negative least squares over a calibration's steady loops.

A loop says what one round of it reads, writes, moves within L2 and computes, how long it takes, and
what it draws. Loops at the power limit are left out: there the energy no longer grows with work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from costmodel.costs.intervals import COVERAGE
from costmodel.errors import InputError

if TYPE_CHECKING:  # reading loops takes pydantic models that a prediction does not need
    from costmodel.recordings.energy_loop import EnergyLoop

LIMITED = "power cap"  # among the reasons why clocks are held down
CARD = 0.1  # two cards of a kind differed by 2 to 10 % at equal time
NOTHING, COPY, PRODUCT = "kernels that do nothing", "copy", "product of"  # anchors, by name


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCoefficients:
    """What a GPU draws when it is awake, and what each kind of work takes besides.

    `error` is the share of a loop's energy that nine in ten loops stay within, each predicted from
    the others, unless it is the only one of its kind; `anchored` says whether the loops are of the
    card that is predicted.
    """

    awake_w: float  # of a GPU that launches kernels which do nothing
    read_j_per_byte: float  # from HBM
    written_j_per_byte: float
    on_chip_j_per_byte: float  # read or written within L2
    j_per_flop: float  # executed ones
    error: float
    anchored: bool = False

    @property
    def numbers(self) -> NDArray[np.float64]:
        """The coefficients in the order of `_work`."""
        return np.array(
            [
                self.awake_w,
                self.read_j_per_byte,
                self.written_j_per_byte,
                self.on_chip_j_per_byte,
                self.j_per_flop,
            ]
        )

    def interval_j(
        self, energy_j: float, time: tuple[float, float, float] | None = None
    ) -> tuple[float, float]:
        """The interval of 90 % about a predicted energy.

        Its half is the root of the sum of squares of: the loops' error; 10 % between cards, unless
        these loops are of the card; and the half width of the time's interval, of which the awake
        power takes at most all. Source of the 10 %: docs/measuring.md, two occasions.

        Args:
            energy_j: As predicted.
            time: The predicted time, and both ends of its interval; None: it is known.
        """
        predicted, first, last = time or (1.0, 1.0, 1.0)
        below, above = 1 - first / predicted, last / predicted - 1
        card = 0.0 if self.anchored else CARD
        low, high = ((self.error**2 + card**2 + of**2) ** 0.5 for of in (below, above))
        return energy_j * max(0.0, 1 - low), energy_j * (1 + high)


def fitted(loops: Sequence["EnergyLoop"]) -> EnergyCoefficients:
    """The coefficients that come nearest to the loops' energies, in relative squares.

    Source: energy is linear in the work below the power limit; the loops' energy counters.

    Raises:
        InputError: Fewer loops below the power limit than coefficients, or their kinds of work
            cannot be told apart.
    """
    used = [loop for loop in loops if not _limited(loop)]
    work = np.array([_work(loop) for loop in used]).reshape(len(used), 5)
    energy = np.array([_median(loop) for loop in used])
    if len(used) < work.shape[1]:
        raise InputError(
            f"loops: {len(used)} are below the power limit; a fit takes {work.shape[1]} or more"
        )
    if not _tells_apart(work):
        raise InputError("loops: do not tell time, bytes and FLOPs apart; each needs its own load")
    best = nonnegative(work / energy[:, None], np.ones(len(used)))
    errors = []
    for left in range(len(used)):
        others = np.arange(len(used)) != left
        if not _tells_apart(work[others]):  # the only loop of its kind
            others[left] = True
        of_others = nonnegative(work[others] / energy[others, None], np.ones(int(others.sum())))
        errors.append(abs(float(work[left] @ of_others) / energy[left] - 1))
    awake_w, read, written, on_chip, flop = map(float, best)
    return EnergyCoefficients(
        awake_w=awake_w,
        read_j_per_byte=read,
        written_j_per_byte=written,
        on_chip_j_per_byte=on_chip,
        j_per_flop=flop,
        error=float(np.quantile(errors, COVERAGE, method="higher")),
    )


def of_card(
    coefficients: EnergyCoefficients, anchors: Sequence["EnergyLoop"]
) -> EnergyCoefficients:
    """The coefficients for a card, scaled by its own three loops: nothing, a copy, a product.

    The first gives the awake power. What the copy draws above that scales all bytes, what the
    product draws above its bytes and that scales the FLOPs.
    Source: at equal time, cards of a kind differ in power, not in the kinds of work.

    Raises:
        InputError: One of the three loops is absent, or was at the power limit.
    """
    nothing, copy, product = (_named(anchors, name) for name in (NOTHING, COPY, PRODUCT))
    awake_w = _median(nothing) / nothing.round_s
    numbers = coefficients.numbers
    scales = np.ones(5)
    scales[0] = awake_w / coefficients.awake_w if coefficients.awake_w else 1.0

    def scale(loop: "EnergyLoop", places: slice) -> float:
        of = np.array(_work(loop)) * numbers * scales
        wanted = _median(loop) - (of.sum() - of[places].sum())
        return max(0.0, float(wanted / of[places].sum())) if of[places].sum() else 1.0

    scales[1:4] = scale(copy, slice(1, 4))
    scales[4] = scale(product, slice(4, 5))
    read, written, on_chip, flop = (numbers * scales)[1:]
    return replace(
        coefficients,
        awake_w=awake_w,
        read_j_per_byte=float(read),
        written_j_per_byte=float(written),
        on_chip_j_per_byte=float(on_chip),
        j_per_flop=float(flop),
        anchored=True,
    )


def nonnegative(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x >= 0 that makes |a x - b| least, by trying which elements are zero.

    Exact for few columns: the best x is that of least squares over the columns that are not zero.
    Source: Lawson and Hanson, Solving Least Squares Problems, chapter 23.
    """
    columns = a.shape[1]
    scale = np.maximum(np.abs(a).max(axis=0), 1e-300)
    best, least = np.zeros(columns), float(b @ b)
    for size in range(1, columns + 1):
        for chosen in combinations(range(columns), size):
            places = list(chosen)
            solved = np.linalg.lstsq(a[:, places] / scale[places], b, rcond=None)[0]
            if (solved < 0).any():
                continue
            x = np.zeros(columns)
            x[places] = solved / scale[places]
            left = b - a @ x
            if float(left @ left) < least:
                best, least = x, float(left @ left)
    return best


def _tells_apart(work: NDArray[np.float64]) -> bool:
    """Whether every kind of work has a load of its own."""
    scaled = work / np.maximum(work.max(axis=0), 1e-300)
    return bool(np.linalg.matrix_rank(scaled, tol=1e-3) == work.shape[1])


def _work(loop: "EnergyLoop") -> tuple[float, ...]:
    """Seconds, bytes read, written and within L2, and FLOPs of one round."""
    return loop.round_s, loop.bytes_read, loop.bytes_written, loop.l2_bytes, loop.flops


def _median(loop: "EnergyLoop") -> float:
    """Joules of one round."""
    energy = getattr(loop.energy_j, "median", None)
    if energy is None:
        raise InputError(f"loops: {loop.name} has no energy")
    return float(energy)


def _limited(loop: "EnergyLoop") -> bool:
    return any(LIMITED in reason for reason in loop.conditions.event_reasons)


def _named(loops: Sequence["EnergyLoop"], name: str) -> "EnergyLoop":
    for loop in loops:
        if name in loop.name and not _limited(loop):
            return loop
    raise InputError(f"loops: none is called {name!r} and below the power limit")
