"""Routings: how popular items are, and how many distinct ones a step is expected to touch.

An item is an expert of an MoE layer or a row of a memory table. T independent tokens (or pairs of a
token and a head) each draw k different items out of N. The number of distinct items drawn is
random; the formulas give its expectation: exactly where popularity is uniform or measured, and to
the error stated in `zipf.inclusion` under Zipf's law. Experts and rows may follow different
routings: `by_population.py`.

Rows may be addressed by tokens instead: in a column of a table, an n-gram (the last n token ids)
takes the row that its hash names; at order 1 the id itself is the row.
"""

from dataclasses import dataclass
from math import expm1, inf, log1p
from typing import Protocol

import numpy as np

from costmodel.routing.expectation import (
    Expected,
    Floats,
    ItemKind,
    Trials,
    check_draws,
    check_hashed,
    check_kept,
    different_ngrams,
    expected_hashed,
    expected_touched,
    hashed_share,
    per_value,
    touch_probability,
    without_first,
    zipf_by_rank,
    zipf_inclusion,
    zipf_share,
)

UNIFORM_OVERSTATES = (
    "Uniform routing is the upper estimate: of all popularities it touches the most distinct"
    " experts and table rows if tokens choose independently, so that the bytes of experts and rows"
    " are overstated where some are more popular than others, as in practice."
)
"""Which way the default errs. The expected number of distinct items is the sum over items of
1 - (1 - p_i)^T, which is concave in the p_i; their sum is k, so that p_i = k / N gives the most
(Jensen). Only tokens that avoid one another's choices, as under a forced balance, touch more."""


class NgramLaw(Protocol):
    """The popularity of n-grams, and so of the table rows that they address."""

    @property
    def label(self) -> str:
        """The law as a user writes it and as outputs name it, such as `zipf:1.0`."""

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """The expected distinct rows of one column that the n-grams of `trials` tokens address.

        Args:
            population: P, the rows of the column; at order 1 the token ids, a row each.
            trials: T, the tokens of the step; 0 touches nothing.
            order: n, the tokens of an n-gram.

        Returns:
            A float for an int of trials, an array for an array; equal to the bit. No more than
            under `Uniform`. NaN where a histogram holds fewer than T n-grams.
        """

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> Expected:
        """The share of a column's accesses that its `kept` most popular rows take, from 0 to 1.

        Args:
            population: P, the rows of the column; at order 1 the token ids, a row each.
            kept: The rows that a cache of the hottest ones holds, 0 <= kept <= P.
            order: n, the tokens of an n-gram.
        """


class Routing(NgramLaw, Protocol):
    """The popularity of the items among which each token draws."""

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
        """The expected number of distinct items that `trials` draws of `draws` items touch.

        Args:
            population: N, the experts of a layer, or the table rows that the layer can reach.
            draws: k, the different items that one trial draws, 1 <= k <= N.
            trials: T, the tokens of the step, or tokens times heads; 0 touches nothing.
            kind: Experts or table rows; only a measured histogram differs between the two.
            copies: How many copies each item has; a draw of the item takes any of them with equal
                probability, and the distinct copies are counted instead of the items (the virtual
                rows of UltraMem, of which several stand for one row of the table).
            hot: How many of the most popular items are left out of the count, 0 <= hot <= N: a
                cache holds them.

        Returns:
            A float for an int of trials, an array for an array; equal to the bit. NaN where a
            histogram holds fewer than T trials.
        """

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> Expected:
        """The share of accesses that the `kept` most popular items take, from 0 to 1.

        Args:
            population: N, the experts of a layer, or the table rows that the layer can reach.
            draws: k, the different items that one trial draws, 1 <= k <= N.
            kept: The items that a cache of the hottest ones holds, 0 <= kept <= N.
            kind: Experts or table rows.

        Returns:
            A float; an array of several routings (`RoutingAxis`). NaN where it is not known.
        """

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """The probability that `trials` tokens touch each item, the most popular item first.

        Of one trial it is the popularity: the probability that a token draws the item. The sum over
        the items is `expected_distinct`, divided by `copies`.

        Args:
            population: N, as in `expected_distinct`; every item has an entry, so that N is that of
                experts, not of table rows.
            draws: k, the different items that one trial draws, 1 <= k <= N.
            trials: T, at least 0.
            kind: Experts or table rows.
            copies: How many copies each item has; a draw takes any of them with equal probability.
                The probabilities are then those of one copy.

        Returns:
            Shape (N,), or (routings, N) of several (`RoutingAxis`). NaN where it is not known.
        """


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every item is equally popular. No other routing touches more distinct items."""

    @property
    def label(self) -> str:
        """Always `uniform`."""
        return "uniform"

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
        """N (1 - (1 - k/N)^T): one token leaves an item out with probability 1 - k/N.

        With copies, N is the number of all copies. Of hot items, the share hot / N is left out:
        all are alike.

        Leaves out: load-balancing losses and capacity limits, which make tokens depend on one
        another.
        Source: linearity of expectation; the birthday problem with draws of k.
        """
        del kind
        check_draws(population, draws)
        num_copies = population * copies
        log_missed = log1p(-draws / num_copies) if draws < num_copies else -inf

        check_kept(population, hot)
        counted = (population - hot) * copies

        def distinct(trials: int) -> float:
            return counted * -expm1(trials * log_missed)

        return per_value(distinct, trials, counted, draws, least=0 if hot else draws)

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> float:
        """Kept / N: no item is more popular than another."""
        del kind
        check_draws(population, draws)
        check_kept(population, kept)
        return kept / population

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """1 - (1 - k / (N c))^T of each of the c copies of every item."""
        del kind
        check_draws(population, draws)
        return touch_probability(np.full(population, draws / population), trials, copies)

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """P (1 - (1 - 1/P)^T): no n-gram comes twice; at order 1 all ids are equally popular.

        Leaves out: that n-grams repeat, which makes it fewer rows.
        """
        check_hashed(population, order)
        return self.expected_distinct(population, 1, trials, kind="rows")

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> float:
        """Kept / P: n-grams that never come twice make no row more popular than another."""
        check_hashed(population, order)
        return self.hot_share(population, 1, kept, kind="rows")


@dataclass(frozen=True, slots=True)
class Zipf:
    """Zipf's law: item i has weight i^-exponent; a token draws by weight, without replacement."""

    exponent: float

    @property
    def label(self) -> str:
        """`zipf:` and the exponent."""
        return f"zipf:{self.exponent}"

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
        """Sum over items of 1 - (1 - pi_i)^T, where one token draws item i with probability pi_i.

        pi_i is from `zipf.inclusion`. Hot items are those of the first ranks.
        Leaves out: that tokens of one text draw alike; they share the popularities, nothing more.
        Source: linearity of expectation.
        """
        del kind
        check_draws(population, draws)
        groups = zipf_inclusion(population, draws, self.exponent)
        items = groups.items
        if hot:
            check_kept(population, hot)
            groups = zipf_inclusion(population, draws, self.exponent, hot)
            items = without_first(groups.items, hot)
        distinct = expected_touched(items, groups.probability, copies)
        counted = (population - hot) * copies
        return per_value(distinct, trials, counted, draws, least=0 if hot else draws)

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> float:
        """Sum over the `kept` most popular items of pi_i / k, pi_i from `zipf.inclusion`."""
        del kind
        check_draws(population, draws)
        check_kept(population, kept)
        return zipf_share(population, draws, self.exponent, kept)

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """1 - (1 - pi_i / c)^T of each of the c copies, pi_i from `zipf.inclusion`."""
        del kind
        check_draws(population, draws)
        popularity = zipf_by_rank(population, draws, self.exponent)
        return touch_probability(popularity, trials, copies)

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """Rows of the distinct n-grams, which follow this law at every order.

        At order 1 the ids are the rows. From order 2 on the law is one of `different_ngrams(n)`
        n-grams, of which G(T) are expected in T tokens, hashed evenly: `expected_hashed`.
        Leaves out: that the tokens of one text repeat one another more than those of many.
        """
        return self.hashed_distinct(population, trials, order, different_ngrams(order))

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> float:
        """At order 1 `hot_share`; from order 2 on `hashed_share` of the n-grams."""
        return self.hashed_hot_share(population, kept, order, different_ngrams(order))

    def hashed_distinct(self, population: int, trials: Trials, order: int, ngrams: int) -> Expected:
        """`expected_distinct_hashed`, where there are `ngrams` different n-grams of the order."""
        check_hashed(population, order)
        if order == 1:
            return self.expected_distinct(population, 1, trials, kind="rows")
        groups = zipf_inclusion(ngrams, 1, self.exponent)
        distinct = expected_touched(groups.items, groups.probability, 1)
        return per_value(expected_hashed(population, distinct), trials, population, 1)

    def hashed_hot_share(self, population: int, kept: int, order: int, ngrams: int) -> float:
        """`hot_share_hashed`, where there are `ngrams` different n-grams of the order."""
        check_hashed(population, order)
        if order == 1:
            return self.hot_share(population, 1, kept, kind="rows")
        check_kept(population, kept)
        return hashed_share(
            population, kept, ngrams, lambda items: zipf_share(ngrams, 1, self.exponent, items)
        )
