"""How many distinct experts, or rows of a memory table, a step is expected to touch.

Notation: T independent tokens (or pairs of a token and a head) each draw k different items out of
N. The number of distinct items touched is random; these formulas give its expectation, exactly
where popularity is uniform or measured, and to the error stated in `zipf.inclusion` otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import expm1, inf, log1p
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import InputError
from costmodel.routing.zipf import Inclusion, inclusion

Kind = Literal["experts", "rows"]
Trials = int | NDArray[Any]  # an array of int64, or of Python ints
Expected = float | NDArray[np.float64]
Floats = NDArray[np.float64]


class Routing(Protocol):
    """How popular the items are among which tokens choose."""

    @property
    def label(self) -> str:
        """The routing as people see it, such as `zipf:1.0`."""

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: Kind, copies: int = 1
    ) -> Expected:
        """The expected number of distinct items that `trials` draws of `draws` items touch.

        Args:
            population: N, the experts of a layer or the rows its window of a table holds.
            draws: k, the different items one token (or token and head) draws, 1 <= k <= N.
            trials: T, the tokens (or tokens times heads); 0 touches nothing.
            kind: which section of a measured histogram speaks; formulas ignore it.
            copies: count copies instead of items: each item has so many, and a draw of it takes
                any of them alike (the virtual rows that stand for one table row).

        Returns:
            A float for an int, an array for an array; the same numbers either way, to the bit.
        """


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every item is equally popular: the most distinct items a routing can touch."""

    @property
    def label(self) -> str:
        """Always `uniform`."""
        return "uniform"

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: Kind, copies: int = 1
    ) -> Expected:
        """N (1 - (1 - k/N)^T): each item escapes a token with probability 1 - k/N; copies add to N.

        Leaves out: load-balancing losses and capacity limits, which tie tokens to one another.
        Source: linearity of expectation; the birthday problem with draws of k.
        """
        del kind
        _check_draws(population, draws)
        found = population * copies
        log_missed = log1p(-draws / found) if draws < found else -inf

        def distinct(trials: int) -> float:
            return found * -expm1(trials * log_missed)

        return _per_value(distinct, trials, found, draws)


@dataclass(frozen=True, slots=True)
class Zipf:
    """Item i has weight i^-exponent; a token draws by weight, without replacement."""

    exponent: float

    @property
    def label(self) -> str:
        """`zipf:` and the exponent."""
        return f"zipf:{self.exponent}"

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: Kind, copies: int = 1
    ) -> Expected:
        """Sum over items of 1 - (1 - pi_i)^T, pi_i from `zipf.inclusion`.

        Leaves out: that tokens of one text choose alike; they share popularity, nothing more.
        Source: linearity of expectation.
        """
        del kind
        _check_draws(population, draws)
        found = _zipf_inclusion(population, draws, self.exponent)
        distinct = _union(found.items, found.probability, copies)
        return _per_value(distinct, trials, population * copies, draws)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessCounts:
    """How often the items of one population were drawn in a measurement."""

    population: int  # items, drawn or not
    trials: int  # tokens, or pairs of a token and a head
    draws: int  # items per trial
    counts: tuple[tuple[int, int], ...]  # (accesses of an item, items with as many)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Popularity as measured: an item drawn c times in n trials is drawn with probability c/n."""

    label: str
    source: str  # where the counts come from, in words
    experts: AccessCounts | None = None
    rows: AccessCounts | None = None

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: Kind, copies: int = 1
    ) -> Expected:
        """Sum over items of 1 - (1 - c_i/n)^T.

        Leaves out: items that the measurement missed count as never drawn, so T well above n
        underestimates.
        Source: linearity of expectation.
        """
        measured = self.experts if kind == "experts" else self.rows
        if measured is None:
            raise InputError(f"routing={self.label}: has no section {kind!r}, which the model uses")
        for field, given, needed in (
            ("population", measured.population, population),
            ("draws", measured.draws, draws),
        ):
            if given != needed:
                raise InputError(
                    f"routing={self.label}: {kind}.{field}={given}: the model has {needed}"
                )
        accesses, items = np.array(measured.counts, dtype=np.float64).T
        distinct = _union(items, accesses / measured.trials, copies)
        return _per_value(distinct, trials, population * copies, draws)


@dataclass(frozen=True, slots=True)
class RoutingAxis:
    """Several routings side by side: a new first axis of a sweep's arrays."""

    routings: tuple[Routing, ...]

    @property
    def label(self) -> str:
        """The labels, joined by commas."""
        return ",".join(routing.label for routing in self.routings)

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: Kind, copies: int = 1
    ) -> Expected:
        """What each routing expects, stacked along a new leading axis."""
        return np.stack(
            [
                np.asarray(
                    routing.expected_distinct(population, draws, trials, kind=kind, copies=copies)
                )
                for routing in self.routings
            ]
        )


def _check_draws(population: int, draws: int) -> None:
    if not 1 <= draws <= population:
        raise InputError(f"draws={draws}: must lie between 1 and population={population}")


@lru_cache(maxsize=64)
def _zipf_inclusion(population: int, draws: int, exponent: float) -> Inclusion:
    """`zipf.inclusion`, remembered: a memo of a pure function, for sweeps."""
    found = inclusion(population, draws, exponent)
    for array in (found.items, found.probability):
        array.flags.writeable = False
    return found


def _union(items: Floats, probability: Floats, copies: int) -> Callable[[int], float]:
    """Copies touched in T draws, of groups of `items` drawn with `probability` each."""
    with np.errstate(divide="ignore"):
        log_missed = np.log1p(-probability / copies)

    def distinct(trials: int) -> float:
        return float((items * copies * -np.expm1(trials * log_missed)).sum())

    return distinct


def _per_value(
    distinct: Callable[[int], float], trials: Trials, population: int, draws: int
) -> Expected:
    """`distinct` of each value, kept within k, N and k T, which rounding may pass; 0 for none."""

    def bounded(count: int) -> float:
        if count < 0:
            raise InputError(f"trials={count}: must not be negative")
        if count == 0:
            return 0.0
        return min(max(distinct(count), float(draws)), float(min(population, draws * count)))

    if not isinstance(trials, np.ndarray):
        return bounded(int(trials))
    values, places = np.unique(trials, return_inverse=True)
    results = np.array([bounded(count) for count in values.tolist()], dtype=np.float64)
    return results[places.ravel()].reshape(trials.shape)
