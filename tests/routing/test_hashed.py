"""Rows that hashed n-grams address: by hand, by enumeration, by simulation, and their bounds."""

from collections import Counter
from itertools import product
from math import e, isnan

import numpy as np
import pytest

from costmodel.errors import InputError
from costmodel.routing.axis import RoutingAxis
from costmodel.routing.by_population import ByPopulation, histograms_of, ngram_law_of
from costmodel.routing.expectation import different_ngrams
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.memo import RoutingMemo
from costmodel.routing.ngrams import OrderLaw, ZipfByOrder
from costmodel.routing.popularity import NgramLaw, Uniform, Zipf

IDS = AccessCounts(population=5, trials=10, draws=1, counts=((5, 1), (2, 2), (1, 1), (0, 1)))
BIGRAMS = AccessCounts(population=4, trials=10, draws=1, counts=((5, 1), (2, 2), (1, 1)))
MEASURED = Histogram(
    label="histogram:text", source="by hand", ngrams=((1, IDS), (2, BIGRAMS), (3, BIGRAMS))
)
BY_ORDER = ZipfByOrder((OrderLaw(Zipf(1.0)), OrderLaw(Zipf(0.8), 50), OrderLaw(Zipf(0.6))))
LAWS: list[NgramLaw] = [Uniform(), Zipf(0.0), Zipf(1.1), BY_ORDER, MEASURED]


def of(ngrams: int, exponent: float) -> ZipfByOrder:
    """A law of so many bigrams."""
    return ZipfByOrder((OrderLaw(Zipf(exponent)), OrderLaw(Zipf(exponent), ngrams)))


def one(law: NgramLaw, population: int, trials: int, order: int = 2) -> float:
    rows = law.expected_distinct_hashed(population, trials, order=order)
    assert isinstance(rows, float)
    return rows


def popularity(ngrams: int, exponent: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    weights = np.arange(1.0, ngrams + 1) ** -exponent
    return np.asarray(weights / weights.sum())


def test_n_grams_that_never_repeat_by_hand() -> None:
    assert one(Uniform(), 2, 2) == pytest.approx(1.5, rel=1e-15)  # half the time both in one row
    assert one(Uniform(), 3, 2) == pytest.approx(5 / 3, rel=1e-15)
    # 4,096 tokens on a column of 16,000,057 rows: T - T (T - 1) / 2 / P, and less than 1e-4 more
    assert one(Uniform(), 16_000_057, 4096) == pytest.approx(4096 - 0.52418, abs=1e-4)


def test_two_n_grams_by_hand() -> None:
    # Weights 1 and 1/2: probabilities 2/3 and 1/3, G(2) = (1 - 1/9) + (1 - 4/9) = 13/9.
    assert one(of(2, 1.0), 3, 2) == pytest.approx(3 * (1 - (2 / 3) ** (13 / 9)), rel=1e-14)
    assert one(of(2, 1.0), 1, 2) == 1
    assert one(of(1, 1.0), 1000, 50) == 1  # one n-gram is always the same row


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(("ngrams", "trials", "rows"), [(2, 2, 3), (3, 4, 2), (4, 5, 7), (3, 6, 3)])
def test_all_draws_one_by_one(ngrams: int, trials: int, rows: int, exponent: float) -> None:
    """The exact expectation over draws and hashes is below the formula, by less than it states."""
    probability = popularity(ngrams, exponent)
    exact = sum(
        float(np.prod(probability[list(drawn)])) * rows * (1 - (1 - 1 / rows) ** len(set(drawn)))
        for drawn in product(range(ngrams), repeat=trials)
    )
    excess = one(of(ngrams, exponent), rows, trials) - exact
    assert -1e-12 < excess < rows / (rows - 1) / (2 * e)


@pytest.mark.parametrize(
    ("ngrams", "exponent", "rows", "trials"),
    [(20_000, 1.0, 5003, 2000), (20_000, 0.7, 5003, 20_000), (3000, 1.3, 100_003, 4000)],
)
def test_simulated_text(ngrams: int, exponent: float, rows: int, trials: int) -> None:
    """N-grams drawn by the law, each hashed to a row: distinct rows, in the mean of 40 texts."""
    generator = np.random.default_rng(ngrams + trials)
    probability = popularity(ngrams, exponent)
    seen = []
    for _ in range(40):
        drawn = generator.choice(ngrams, trials, p=probability)
        hashed = generator.integers(0, rows, ngrams)
        seen.append(len(np.unique(hashed[drawn])))
    expected = one(of(ngrams, exponent), rows, trials)
    error = np.std(seen) / len(seen) ** 0.5
    assert error < 0.005 * expected
    assert abs(np.mean(seen) - expected) < 4 * error


def test_at_order_1_the_ids_are_the_rows() -> None:
    """Nothing is hashed: as many distinct rows as distinct ids."""
    ids = 1 - (1 - popularity(500, 1.1)) ** 40
    assert one(Zipf(1.1), 500, 40, order=1) == pytest.approx(ids.sum(), rel=1e-10)
    assert one(MEASURED, 5, 10, order=1) == 4  # the ids that the text has


def test_each_order_has_its_law() -> None:
    for order, law in ((1, Zipf(1.0)), (3, Zipf(0.6))):
        assert one(BY_ORDER, 1009, 77, order) == one(law, 1009, 77, order)
    assert one(BY_ORDER, 1009, 10**6, 2) == pytest.approx(1009 * (1 - (1 - 1 / 1009) ** 50))
    assert BY_ORDER.label == "zipf:1.0/0.8@50/0.6"
    assert [different_ngrams(order) for order in (2, 3, 4)] == [3 * 10**8, 10**9, 10**9]
    with pytest.raises(InputError, match=r"exponents of the orders 1 to 3; .* order 4"):
        one(BY_ORDER, 1009, 77, 4)


def test_a_measured_text_by_hand() -> None:
    # Of 10 bigrams 5, 2, 2 and 1 are alike. Two of them leave these out in C(10 - c, 2) of 45 ways.
    distinct = 4 - (10 + 28 + 28 + 36) / 45
    assert one(MEASURED, 7, 2) == pytest.approx(7 * (1 - (6 / 7) ** distinct), rel=1e-14)
    assert one(MEASURED, 7, 10) == pytest.approx(7 * (1 - (6 / 7) ** 4), rel=1e-14)
    assert isnan(one(MEASURED, 7, 11))
    with pytest.raises(InputError, match="has no section 'ngrams' of order 4"):
        one(MEASURED, 7, 2, order=4)
    with pytest.raises(InputError, match=r"ngrams.1.population=5: the model has 6"):
        one(MEASURED, 6, 2, order=1)


def test_a_long_text_agrees_with_the_law_that_it_was_drawn_by() -> None:
    generator = np.random.default_rng(5)
    counts = np.bincount(generator.choice(800, 60_000, p=popularity(800, 0.9)), minlength=800)
    ngrams = AccessCounts(
        population=800, trials=60_000, draws=1, counts=tuple(Counter(counts.tolist()).items())
    )
    text = Histogram(label="histogram:text", source="drawn", ngrams=((2, ngrams),))
    for trials in (10, 300, 3000):
        expected = one(of(800, 0.9), 1009, trials)
        assert one(text, 1009, trials) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("population", [5, 1009, 16_000_057])
def test_bounds_growth_and_arrays(law: NgramLaw, order: int, population: int) -> None:
    if law is MEASURED and order == 1:
        population = 5  # a histogram of ids has as many as the model
    trials = [0, 1, 2, 9, 10] if law is MEASURED else [0, 1, 2, 9, 10, 1000, 10**6, 10**12]
    single = [one(law, population, count, order) for count in trials]
    assert single[:2] == [0, 1]
    assert single == sorted(single)
    for count, rows in zip(trials, single, strict=True):
        assert rows <= min(count, population)
        assert rows <= one(Uniform(), population, count, order) * (1 + 1e-12)
    for grid in (np.array(trials).reshape(1, -1), np.array(trials, dtype=object)):
        many = law.expected_distinct_hashed(population, grid, order=order)
        assert isinstance(many, np.ndarray)
        assert many.shape == grid.shape
        assert many.ravel().tolist() == single


def test_a_smaller_population_and_a_steeper_law_repeat_more() -> None:
    rows = [one(of(n, 0.9), 10**6 + 3, 5000) for n in (100, 10**4, 10**6, 10**9)]
    assert rows == sorted(rows)
    rows = [one(of(10**6, s), 10**6 + 3, 5000) for s in (0.0, 0.5, 0.9, 1.2, 3.0)]
    assert rows == sorted(rows, reverse=True)


def test_n_grams_follow_their_own_law_else_that_of_the_rows() -> None:
    named = ByPopulation(experts=Zipf(2.0), rows=Zipf(1.0), ngrams=BY_ORDER)
    unnamed = ByPopulation(experts=Zipf(2.0), rows=Zipf(1.0))
    assert ngram_law_of(named) is BY_ORDER
    assert one(named, 1009, 77) == one(BY_ORDER, 1009, 77)
    assert one(unnamed, 1009, 77) == one(Zipf(1.0), 1009, 77)
    assert named.label == "experts=zipf:2.0,rows=zipf:1.0,ngrams=zipf:1.0/0.8@50/0.6"
    measured = ByPopulation(experts=Zipf(2.0), rows=Zipf(1.0), ngrams=MEASURED)
    assert histograms_of(measured) == (MEASURED,)


def test_an_axis_stacks_and_a_memo_keeps() -> None:
    axis = RoutingAxis((Uniform(), MEASURED))
    trials = np.array([[2, 10]])
    stacked = axis.expected_distinct_hashed(7, trials, order=2)
    assert np.asarray(stacked).shape == (2, 1, 2)
    assert np.asarray(stacked)[1].tolist() == [[one(MEASURED, 7, 2), one(MEASURED, 7, 10)]]
    memo = RoutingMemo(axis)
    kept = memo.expected_distinct_hashed(7, trials, order=2)
    np.testing.assert_array_equal(kept, stacked)
    assert memo.expected_distinct_hashed(7, trials, order=2) is kept
    other = memo.expected_distinct_hashed(11, trials, order=3)
    np.testing.assert_array_equal(other, axis.expected_distinct_hashed(11, trials, order=3))


@pytest.mark.parametrize("law", LAWS)
def test_impossible_columns_are_refused(law: NgramLaw) -> None:
    with pytest.raises(InputError, match="population=0: must be at least 1"):
        one(law, 0, 1)
    with pytest.raises(InputError, match="order"):
        one(law, 5, 1, order=0)
    with pytest.raises(InputError, match="trials=-1: must not be negative"):
        one(law, 5, -1)
