"""A measured popularity: how often each expert, table row or n-gram was drawn in a trace."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np

from costmodel.errors import InputError
from costmodel.routing.expectation import (
    Expected,
    Floats,
    ItemKind,
    Trials,
    check_hashed,
    check_kept,
    expected_hashed,
    hashed_share,
    per_value,
    without_first,
)
from costmodel.routing.rarefaction import touched


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessCounts:
    """How often the items of one population were drawn in a measurement."""

    population: int  # items, drawn or not
    trials: int  # tokens, or pairs of a token and a head
    draws: int  # items per trial
    counts: tuple[tuple[int, int], ...]  # (accesses of an item, items with as many)

    def expected_touched(self, copies: int = 1, *, hot: int = 0) -> Callable[[int], float]:
        """Sum over items of 1 - C(n - c_i, T) / C(n, T), as a function of T; NaN beyond n.

        The `hot` items with the most accesses are left out.
        """
        accesses, items = np.array(self.counts, dtype=np.float64).T
        if hot:
            accesses, items = np.array(sorted(self.counts, reverse=True), dtype=np.float64).T
            items = without_first(items, hot)

        def distinct(trials: int) -> float:
            if trials > self.trials:
                return nan
            return float((items * copies * touched(self.trials, accesses, trials, copies)).sum())

        return distinct

    def touched_by_rank(self, trials: int, copies: int = 1) -> Floats:
        """1 - C(n - c_i, T) / C(n, T) of each item, by falling accesses; NaN beyond n.

        Of `copies` of each item, that of one copy.
        """
        accesses, items = np.array(sorted(self.counts, reverse=True), dtype=np.float64).T
        if trials > self.trials:
            return np.full(self.population, nan)
        return np.repeat(touched(self.trials, accesses, trials, copies), items.astype(np.int64))

    def share(self, kept: int) -> float:
        """The share of the accesses that the `kept` items with the most of them took."""
        taken, left = 0, kept
        for accesses, items in sorted(self.counts, reverse=True):
            taken += accesses * min(items, left)
            left -= min(items, left)
        return taken / (self.trials * self.draws)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Measured popularity: how many of n trials drew each item."""

    label: str
    source: str  # where the counts come from, in words
    experts: AccessCounts | None = None
    rows: AccessCounts | None = None
    ngrams: tuple[tuple[int, AccessCounts], ...] = ()  # by order; their items are n-grams

    def section(self, kind: ItemKind) -> AccessCounts | None:
        """The counts of experts or of rows; None: they were not measured."""
        return self.experts if kind == "experts" else self.rows

    def expected_distinct(
        self,
        population: int,
        draws: int,
        trials: Trials,
        *,
        kind: ItemKind,
        copies: int = 1,
        hot: int = 0,
    ) -> Expected:
        """Sum over items of 1 - C(n - c_i, T) / C(n, T): T of the n measured trials are taken.

        At T = n it is the number of distinct items that were measured. Beyond n the measurement
        says nothing, and the result is NaN. Hot items are those that were drawn most often.
        Leaves out: that neighbouring tokens, and the heads of one token, may draw alike; every
        choice of T trials is equally likely.
        Source: rarefaction, `rarefaction.touched`.
        """
        measured = self._measured(kind, population, draws)
        distinct = measured.expected_touched(copies, hot=hot)
        counted = (population - hot) * copies
        return per_value(distinct, trials, counted, draws, least=0 if hot else draws)

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> float:
        """The share of the measured accesses that the items with the most of them took.

        Leaves out: that these are the most popular ones in hindsight, so that of items with few
        accesses each the share is too large.
        """
        check_kept(population, kept)
        return self._measured(kind, population, draws).share(kept)

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """As `expected_distinct`, item by item; of one trial the share c_i / n of the tokens."""
        return self._measured(kind, population, draws).touched_by_rank(trials, copies)

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """Rows of the n-grams that T of the n measured tokens hold: rarefaction, hashed evenly.

        At order 1 the ids are the rows, and the section has as many as the column.
        """
        measured = self._ngrams(population, order)
        distinct = measured.expected_touched()
        if order > 1:
            distinct = expected_hashed(population, distinct)
        return per_value(distinct, trials, population, 1)

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> float:
        """As `hot_share` at order 1; from order 2 on `hashed_share` of the measured n-grams."""
        check_kept(population, kept)
        measured = self._ngrams(population, order)
        if order == 1:
            return measured.share(kept)
        return hashed_share(population, kept, measured.population, measured.share)

    def _measured(self, kind: ItemKind, population: int, draws: int) -> AccessCounts:
        """The section of a kind, which must be one of the model's population."""
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
        return measured

    def _ngrams(self, population: int, order: int) -> AccessCounts:
        """The section of n-grams of an order; of order 1 it must have the model's ids."""
        check_hashed(population, order)
        measured = dict(self.ngrams).get(order)
        if measured is None:
            raise InputError(
                f"routing={self.label}: has no section 'ngrams' of order {order}, which the model"
                " uses"
            )
        if order == 1 and measured.population != population:
            raise InputError(
                f"routing={self.label}: ngrams.1.population={measured.population}: the model has"
                f" {population}"
            )
        return measured
