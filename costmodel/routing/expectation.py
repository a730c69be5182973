"""Expectations over groups of equally popular items, and over rows that items are hashed to.

What the routings of `popularity.py`, `ngrams.py` and others share.
"""

from collections.abc import Callable
from functools import lru_cache
from math import expm1, inf, isnan, log1p
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import InputError
from costmodel.routing.zipf import Inclusion, inclusion

ItemKind = Literal["experts", "rows"]
Trials = int | NDArray[Any]  # an array of int64, or of Python ints
Expected = float | NDArray[np.float64]
Floats = NDArray[np.float64]

KEPT_POPULARITIES = (
    1024  # of Zipf's law; each takes 10 ms and 2 kB, at the steepest 0.2 s and 33 kB
)

MAX_NGRAMS = 10**9  # for which `zipf.inclusion` states its error
BIGRAM = 2
BIGRAMS = 300_000_000


def along_first(values: Expected, like: Expected) -> Expected:
    """One value for each entry of the first axis of `like`, so shaped that both can be multiplied.

    Several routings of a grid lie along its first axis. A single number stays one.
    """
    if isinstance(values, np.ndarray) and isinstance(like, np.ndarray):
        shaped: Expected = values.reshape(-1, *[1] * (like.ndim - 1))
        return shaped
    return values


@lru_cache(maxsize=KEPT_POPULARITIES)
def zipf_inclusion(population: int, draws: int, exponent: float, edge: int = 0) -> Inclusion:
    """`zipf.inclusion` with a memo, for sweeps; its arrays are shared and so read-only."""
    groups = inclusion(population, draws, exponent, edge=edge)
    for array in (groups.items, groups.probability):
        array.flags.writeable = False
    return groups


@lru_cache(maxsize=KEPT_POPULARITIES)
def zipf_share(population: int, draws: int, exponent: float, kept: int) -> float:
    """The share of draws that take one of the `kept` most popular of N items: sum of pi_i / k.

    Source: linearity of expectation; pi_i of `zipf.inclusion`, whose error it has.
    """
    if kept in (0, population):
        return kept / population
    groups = inclusion(population, draws, exponent, edge=kept)
    hot = np.cumsum(groups.items) < kept + 1e-3  # bins end at the edge, but for rounding
    return min(float((groups.items * groups.probability)[hot].sum()) / draws, 1.0)


@lru_cache(maxsize=KEPT_POPULARITIES)
def zipf_by_rank(population: int, draws: int, exponent: float) -> Floats:
    """pi_i of `zipf.inclusion` for each rank, without bins; its array is read-only."""
    probability = inclusion(population, draws, exponent, head=population).probability
    probability.flags.writeable = False
    return probability


def touch_probability(popularity: Floats, trials: int, copies: int) -> Floats:
    """1 - (1 - p / c)^T: the probability that T tokens touch one of the c copies of an item."""
    if trials == 1:
        return popularity / copies
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 x -inf of no tokens
        touched = -np.expm1(trials * np.log1p(-popularity / copies))
    return touched if trials else np.zeros_like(popularity)


def expected_touched(items: Floats, probability: Floats, copies: int) -> Callable[[int], float]:
    """The expected distinct copies as a function of T, of groups of equally popular items.

    Group i has `items[i]` items; one trial draws each with `probability[i]`.
    """
    with np.errstate(divide="ignore"):
        log_missed = np.log1p(-probability / copies)

    def distinct(trials: int) -> float:
        return float((items * copies * -np.expm1(trials * log_missed)).sum())

    return distinct


def different_ngrams(order: int) -> int:
    """How many n-grams of an order there are unless stated: 3e8 bigrams, 1e9 of longer ones.

    English has no such number, since distinct n-grams grow with the text (Heaps' law): these are
    the 314,843,401 bigrams and 977,069,902 trigrams that occur 40 times or more in 1.02e12 words of
    the web, rounded; there are as many of the orders 4 and 5 (1.3e9 and 1.2e9). A finite number is
    needed for exponents of 1 and less. A text of one kind has fewer (docs/ngram_rows.md), and then
    a smaller exponent gives the same repeats: an exponent belongs to its number.
    Source: T. Brants and A. Franz, Web 1T 5-gram Version 1, LDC2006T13, Linguistic Data Consortium
    2006, data sizes.
    """
    return BIGRAMS if order == BIGRAM else MAX_NGRAMS


def expected_hashed(population: int, distinct: Callable[[int], float]) -> Callable[[int], float]:
    """The expected distinct rows as a function of T, of items that are hashed to P rows.

    Formula: P (1 - (1 - 1/P)^G), G(T) = `distinct` items in expectation, each in any of the rows
    with equal probability, so that some share a row.
    Error: too high by less than P / (P - 1) / (2 e) rows, 0.19 for large P, and exact where G is
    no random number. With D items that were drawn, the expectation is P (1 - E[(1 - 1/P)^D]);
    Jensen's inequality bounds E from below by (1 - 1/P)^G, and since drawn items are negatively
    associated, the product over items of 1 - P(drawn) / P <= exp(-G / P) bounds it from above.
    Source: the birthday problem; K. Joag-Dev and F. Proschan, Negative association of random
    variables, Ann. Stat. 11 (1983).
    """
    log_missed = log1p(-1 / population) if population > 1 else -inf

    def rows(trials: int) -> float:
        return population * -expm1(distinct(trials) * log_missed)

    return rows


def hashed_share(population: int, kept: int, items: int, share: Callable[[int], float]) -> float:
    """The share of accesses that `kept` of P rows take, where items are hashed to the rows.

    Formula: C + (1 - C) kept / P. The rows are those of the g most popular items, as many as fill
    them in expectation: P (1 - (1 - 1/P)^g) = kept. These items draw the share C = share(g); of
    all others as many are hashed to these rows as to any. Between two whole g, C is interpolated.
    Leaves out: that the rows which take the most accesses take a little more, since many items of
    middling popularity may meet in a row. In simulated tables (tests/routing/test_hot_share.py) of
    Zipf exponents from 0.6 on they took at most 0.035 more, and at most 0.005 more where up to 1 %
    of the rows are kept; of items that are all alike, a few to a row, up to 0.13 more.
    Source: linearity of expectation.

    Args:
        population: P, the rows.
        kept: How many of them.
        items: How many items there are.
        share: The share of draws that the g most popular items take, for 0 <= g <= items.
    """
    rows_share = kept / population
    if kept in (0, population):
        return rows_share
    most = log1p(-rows_share) / log1p(-1 / population)
    if most >= items:
        return 1.0
    whole = int(most)
    of_items = share(whole) + (most - whole) * (share(whole + 1) - share(whole))
    return of_items + (1 - of_items) * rows_share


def without_first(items: Floats, left_out: int) -> Floats:
    """How many items of each group are left, in order of popularity, without the first ones."""
    before = np.cumsum(items) - items
    left: Floats = items - np.clip(left_out - before, 0.0, items)
    return left


def per_value(
    distinct: Callable[[int], float],
    trials: Trials,
    population: int,
    draws: int,
    *,
    least: int | None = None,
) -> Expected:
    """`distinct` of each number of trials: 0 of none; otherwise kept in [least, min(N, k T)].

    Where `least` is not given it is k, of which a trial draws as many. NaN stays NaN.
    """
    at_least = float(draws if least is None else least)

    def bounded(count: int) -> float:
        if count < 0:
            raise InputError(f"trials={count}: must not be negative")
        if count == 0:
            return 0.0
        value = distinct(count)
        if isnan(value):
            return value
        return min(max(value, at_least), float(min(population, draws * count)))

    return for_each_count(bounded, trials)


def for_each_count(value: Callable[[int], float], trials: Trials) -> Expected:
    """`value` of each number of trials, worked out once for each different one."""
    if not isinstance(trials, np.ndarray):
        return value(int(trials))
    values, places = np.unique(trials, return_inverse=True)
    results = np.array([value(count) for count in values.tolist()], dtype=np.float64)
    return results[places.ravel()].reshape(trials.shape)


def check_draws(population: int, draws: int) -> None:
    """A trial draws different items, so no more than there are."""
    if not 1 <= draws <= population:
        raise InputError(f"draws={draws}: must lie between 1 and population={population}")


def check_hashed(population: int, order: int) -> None:
    """There is a row to be hashed to, and an n-gram holds a token."""
    if population < 1:
        raise InputError(f"population={population}: must be at least 1")
    if order < 1:
        raise InputError(f"order={order}: must be at least 1")


def check_kept(population: int, kept: int) -> None:
    """No more items are kept than there are."""
    if not 0 <= kept <= population:
        raise InputError(f"kept={kept}: must lie between 0 and population={population}")
