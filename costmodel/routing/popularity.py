"""Routings: how popular items are, and how many distinct ones a step is expected to touch.

An item is an expert of an MoE layer or a row of a memory table. T independent tokens (or pairs of a
token and a head) each draw k different items out of N. The number of distinct items drawn is
random; the formulas give its expectation: exactly where popularity is uniform or measured, and to
the error stated in `zipf.inclusion` under Zipf's law. Experts and rows may follow different
routings: `by_population.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import expm1, inf, isnan, log1p, nan
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import InputError
from costmodel.routing.rarefaction import touched
from costmodel.routing.zipf import Inclusion, inclusion

ItemKind = Literal["experts", "rows"]
Trials = int | NDArray[Any]  # an array of int64, or of Python ints
Expected = float | NDArray[np.float64]
Floats = NDArray[np.float64]

KEPT_POPULARITIES = (
    1024  # of Zipf's law; each takes 10 ms and 2 kB, at the steepest 0.2 s and 33 kB
)

UNIFORM_OVERSTATES = (
    "Uniform routing is the upper estimate: of all popularities it touches the most distinct"
    " experts and table rows if tokens choose independently, so that the bytes of experts and rows"
    " are overstated where some are more popular than others, as in practice."
)
"""Which way the default errs. The expected number of distinct items is the sum over items of
1 - (1 - p_i)^T, which is concave in the p_i; their sum is k, so that p_i = k / N gives the most
(Jensen). Only tokens that avoid one another's choices, as under a forced balance, touch more."""


class Routing(Protocol):
    """The popularity of the items among which each token draws."""

    @property
    def label(self) -> str:
        """The routing as a user writes it and as outputs name it, such as `zipf:1.0`."""

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: ItemKind, copies: int = 1
    ) -> Expected:
        """The expected number of distinct items that `trials` draws of `draws` items touch.

        Args:
            population: N, the experts of a layer, or the table rows that the layer can reach.
            draws: k, the different items that one trial draws, 1 <= k <= N.
            trials: T, the tokens of the step, or tokens times heads; 0 touches nothing.
            kind: Experts or table rows; only a measured histogram differs between the two.
            copies: How many copies each item has; a draw of the item takes any of them with equal
                probability, and the distinct copies are counted instead of the items (the virtual
                rows of UltraMem, of which several stand for one row of the table).

        Returns:
            A float for an int of trials, an array for an array; equal to the bit. NaN where a
            histogram holds fewer than T trials.
        """


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every item is equally popular. No other routing touches more distinct items."""

    @property
    def label(self) -> str:
        """Always `uniform`."""
        return "uniform"

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: ItemKind, copies: int = 1
    ) -> Expected:
        """N (1 - (1 - k/N)^T): one token leaves an item out with probability 1 - k/N.

        With copies, N is the number of all copies.

        Leaves out: load-balancing losses and capacity limits, which make tokens depend on one
        another.
        Source: linearity of expectation; the birthday problem with draws of k.
        """
        del kind
        _check_draws(population, draws)
        num_copies = population * copies
        log_missed = log1p(-draws / num_copies) if draws < num_copies else -inf

        def distinct(trials: int) -> float:
            return num_copies * -expm1(trials * log_missed)

        return _per_value(distinct, trials, num_copies, draws)


@dataclass(frozen=True, slots=True)
class Zipf:
    """Zipf's law: item i has weight i^-exponent; a token draws by weight, without replacement."""

    exponent: float

    @property
    def label(self) -> str:
        """`zipf:` and the exponent."""
        return f"zipf:{self.exponent}"

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: ItemKind, copies: int = 1
    ) -> Expected:
        """Sum over items of 1 - (1 - pi_i)^T, where one token draws item i with probability pi_i.

        pi_i is from `zipf.inclusion`.
        Leaves out: that tokens of one text draw alike; they share the popularities, nothing more.
        Source: linearity of expectation.
        """
        del kind
        _check_draws(population, draws)
        groups = _zipf_inclusion(population, draws, self.exponent)
        distinct = _expected_touched(groups.items, groups.probability, copies)
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
    """Measured popularity: how many of n trials drew each item."""

    label: str
    source: str  # where the counts come from, in words
    experts: AccessCounts | None = None
    rows: AccessCounts | None = None

    def section(self, kind: ItemKind) -> AccessCounts | None:
        """The counts of experts or of rows; None: they were not measured."""
        return self.experts if kind == "experts" else self.rows

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: ItemKind, copies: int = 1
    ) -> Expected:
        """Sum over items of 1 - C(n - c_i, T) / C(n, T): T of the n measured trials are taken.

        At T = n it is the number of distinct items that were measured. Beyond n the measurement
        says nothing, and the result is NaN.
        Leaves out: that neighbouring tokens, and the heads of one token, may draw alike; every
        choice of T trials is equally likely.
        Source: rarefaction, `rarefaction.touched`.
        """
        measured = self.section(kind)
        if measured is None:
            raise InputError(f"routing={self.label}: has no section {kind!r}, which the model uses")
        for field, of_histogram, of_model in (
            ("population", measured.population, population),
            ("draws", measured.draws, draws),
        ):
            if of_histogram != of_model:
                raise InputError(
                    f"routing={self.label}: {kind}.{field}={of_histogram}: the model has {of_model}"
                )
        accesses, items = np.array(measured.counts, dtype=np.float64).T

        def distinct(trials: int) -> float:
            if trials > measured.trials:
                return nan
            return float(
                (items * copies * touched(measured.trials, accesses, trials, copies)).sum()
            )

        return _per_value(distinct, trials, population * copies, draws)


@dataclass(frozen=True, slots=True)
class RoutingAxis:
    """Several routings as the first axis of a sweep's arrays."""

    routings: tuple[Routing, ...]

    @property
    def label(self) -> str:
        """The labels, joined by commas."""
        return ",".join(routing.label for routing in self.routings)

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: ItemKind, copies: int = 1
    ) -> Expected:
        """The expectation of each routing, stacked along a new first axis."""
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


@lru_cache(maxsize=KEPT_POPULARITIES)
def _zipf_inclusion(population: int, draws: int, exponent: float) -> Inclusion:
    """`zipf.inclusion` with a memo, for sweeps; its arrays are shared and so read-only."""
    groups = inclusion(population, draws, exponent)
    for array in (groups.items, groups.probability):
        array.flags.writeable = False
    return groups


def _expected_touched(items: Floats, probability: Floats, copies: int) -> Callable[[int], float]:
    """The expected distinct copies as a function of T, of groups of equally popular items.

    Group i has `items[i]` items; one trial draws each with `probability[i]`.
    """
    with np.errstate(divide="ignore"):
        log_missed = np.log1p(-probability / copies)

    def distinct(trials: int) -> float:
        return float((items * copies * -np.expm1(trials * log_missed)).sum())

    return distinct


def _per_value(
    distinct: Callable[[int], float], trials: Trials, population: int, draws: int
) -> Expected:
    """`distinct` of each number of trials: 0 of none; otherwise kept in [k, min(N, k T)].

    NaN stays NaN.
    """

    def bounded(count: int) -> float:
        if count < 0:
            raise InputError(f"trials={count}: must not be negative")
        if count == 0:
            return 0.0
        value = distinct(count)
        if isnan(value):
            return value
        return min(max(value, float(draws)), float(min(population, draws * count)))

    if not isinstance(trials, np.ndarray):
        return bounded(int(trials))
    values, places = np.unique(trials, return_inverse=True)
    results = np.array([bounded(count) for count in values.tolist()], dtype=np.float64)
    return results[places.ravel()].reshape(trials.shape)
