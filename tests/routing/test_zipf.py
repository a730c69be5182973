"""Zipf inclusion probabilities against enumeration, other algorithms and simulation."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from costmodel.routing import zipf
from costmodel.routing.popularity import Zipf
from costmodel.routing.zipf import Inclusion, inclusion

Floats = NDArray[np.float64]


def weights(population: int, exponent: float) -> Floats:
    return np.asarray(np.arange(1.0, population + 1) ** -exponent)


def enumerated(population: int, draws: int, exponent: float) -> Floats:
    """Inclusion probabilities from every ordered draw."""
    weight = weights(population, exponent)
    inclusion_probability = np.zeros(population)
    for order in itertools.permutations(range(population), draws):
        left = weight.copy()
        probability = 1.0
        for item in order:
            probability *= weight[item] / left.sum()  # subtracting drawn weights would cancel
            left[item] = 0.0
        inclusion_probability[list(order)] += probability
    return inclusion_probability


def raced(population: int, draws: int, exponent: float) -> Floats:
    """The race integral by trapezoids in log t and a plain recursion over all other items."""
    weight = weights(population, exponent)
    log_time = np.linspace(-40.0, 5.0 + exponent * math.log(population), 900)
    load = np.exp(log_time[:, np.newaxis]) * weight
    arrived = -np.expm1(-load)
    counts = np.zeros((draws, *load.shape))  # of arrivals without item i, below draws
    counts[0] = 1.0
    for item in range(population):
        p = np.repeat(arrived[:, item : item + 1], population, axis=1)
        p[:, item] = 0.0
        counts[1:] += p * (counts[:-1] - counts[1:])
        counts[0] *= 1 - p
    early = load * np.exp(-load) * counts.sum(axis=0)
    return np.asarray(early.sum(axis=0) * (log_time[1] - log_time[0]))


def union(groups: Inclusion, trials: float) -> float:
    with np.errstate(divide="ignore"):
        missed = np.log1p(-groups.probability)
    return float(-(groups.items * np.expm1(trials * missed)).sum())


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5, 3.0, 10.0])
@pytest.mark.parametrize(
    ("population", "draws"),
    [(1, 1), (2, 1), (4, 1), (4, 3), (4, 4), (5, 2), (6, 3), (7, 1), (7, 4), (6, 5)],
)
def test_equals_the_enumeration_of_ordered_draws(
    population: int, draws: int, exponent: float
) -> None:
    expected = enumerated(population, draws, exponent)
    groups = inclusion(population, draws, exponent)
    np.testing.assert_allclose(groups.probability, expected, rtol=1e-10)
    for trials in (1, 2, 5, 30):
        distinct = Zipf(exponent).expected_distinct(population, draws, trials, kind="experts")
        assert distinct == pytest.approx((1 - (1 - expected) ** trials).sum(), rel=1e-10)


@pytest.mark.parametrize(
    ("population", "draws", "exponent"), [(64, 8, 1.0), (64, 40, 0.7), (64, 63, 1.0), (50, 3, 2.5)]
)
def test_equals_the_race_counted_by_recursion(population: int, draws: int, exponent: float) -> None:
    groups = inclusion(population, draws, exponent)
    np.testing.assert_allclose(groups.probability, raced(population, draws, exponent), rtol=1e-9)


@pytest.mark.parametrize(
    ("population", "draws", "exponent"),
    [(20_000, 32, 1.0), (3000, 1, 2.0), (3000, 300, 0.4), (1000, 8, 6.0), (500, 400, 1.3)],
)
def test_bins_equal_single_ranks(population: int, draws: int, exponent: float) -> None:
    binned = inclusion(population, draws, exponent)
    single = inclusion(population, draws, exponent, head=population)
    assert len(single.items) == population
    assert len(binned.items) < population / 2
    for trials in (1, 7, 100, 1e4, 1e6, 1e9, 1e13):
        assert union(binned, trials) == pytest.approx(union(single, trials), rel=1e-11)


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("population", [64, 65, 73, 1000, 1_300_000])
def test_rank_sums_equal_plain_sums(population: int, exponent: float) -> None:
    ranks, items = zipf._ranks(population, exponent)
    assert items.sum() == pytest.approx(population, rel=1e-13)
    for time in (1.0, 1e3, 1e7, 1e20):
        expected = -np.expm1(-time * weights(population, exponent)).sum()
        total = -(items * np.expm1(-time * ranks**-exponent)).sum()
        assert total == pytest.approx(expected, rel=1e-11)


def test_ranks_of_a_huge_table_are_few_and_exact() -> None:
    ranks, items = zipf._ranks(10**9, 2.0)
    assert len(ranks) < 500
    # Euler and Maclaurin: sum of i^-2 up to N = pi^2/6 - 1/N + 1/(2 N^2) - ...
    assert (items / ranks**2).sum() == pytest.approx(math.pi**2 / 6 - 1e-9, rel=1e-13)


@pytest.mark.parametrize(
    ("population", "draws", "exponent"),
    [(10**9, 128, 1.2), (10**9, 1, 1.0), (10**7, 768, 10.0), (2**40, 16, 0.8), (10**6, 10**5, 1.0)],
)
def test_huge_tables_keep_the_mean(population: int, draws: int, exponent: float) -> None:
    groups = inclusion(population, draws, exponent)
    assert (groups.items * groups.probability).sum() == pytest.approx(draws, rel=1e-12)
    assert groups.probability.min() > 0
    assert groups.probability.max() <= 1
    assert (np.diff(groups.probability) <= 1e-12).all()


@pytest.mark.parametrize("most", [0, 3, 30, 60, 99, 100, 400, 999])
@pytest.mark.parametrize("p", [0.001, 0.03, 0.5, 0.999])
def test_the_count_of_others_is_binomial_where_all_are_alike(most: int, p: float) -> None:
    expected = sum(
        math.exp(
            math.lgamma(1000)
            - math.lgamma(count + 1)
            - math.lgamma(1000 - count)
            + count * math.log(p)
            + (999 - count) * math.log1p(-p)
        )
        for count in range(most + 1)
    )
    group = np.array([400.0, 600.0])
    probability = zipf._others_at_most(most, np.full(2, p), group, 1000)
    assert probability == pytest.approx([expected] * 2, abs=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("population", [64, 256])
def test_within_one_percent_of_simulated_experts(population: int, exponent: float) -> None:
    tokens = 32768
    scores = np.random.default_rng(7).gumbel(size=(tokens, population))
    scores += np.log(weights(population, exponent))
    drawn = np.zeros((tokens, population), dtype=bool)
    np.put_along_axis(drawn, np.argpartition(-scores, 8, axis=1)[:, :8], values=True, axis=1)
    for trials in (1, 2, 4, 16, 64, 256, 1024):
        simulated = drawn.reshape(-1, trials, population).any(axis=1).sum(axis=1).mean()
        expected = Zipf(exponent).expected_distinct(population, 8, trials, kind="experts")
        assert expected == pytest.approx(simulated, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [32, 128])
@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.2])
def test_within_one_percent_of_simulated_rows(draws: int, exponent: float) -> None:
    population, tokens = 1_000_000, 1024
    cumulative = weights(population, exponent).cumsum()
    uniform = np.random.default_rng(11).random((tokens, 12 * draws)) * cumulative[-1]
    drawn = []
    for ranks in np.searchsorted(
        cumulative, uniform
    ):  # drawing again what is there changes nothing
        _, places = np.unique(ranks, return_index=True)
        assert len(places) >= draws
        drawn.append(ranks[np.sort(places)[:draws]])
    for trials in (1, 8, 64):
        groups = np.array(drawn).reshape(-1, trials * draws)
        simulated = np.mean([len(np.unique(group)) for group in groups])
        expected = Zipf(exponent).expected_distinct(population, draws, trials, kind="rows")
        assert expected == pytest.approx(simulated, rel=0.01)
