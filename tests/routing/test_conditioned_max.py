"""Expected maxima of counts with a known sum, against exact sums over all of their values."""

from collections.abc import Callable
from fractions import Fraction
from itertools import product
from math import comb, exp, factorial, lgamma, log, prod

import numpy as np
import pytest

from costmodel.routing.conditioned_max import binomial, expected_maximum

Weights = Callable[[int], Fraction]  # of a value of a count: its number of ways, or in proportion


def exact(weights: Weights, counts: int, total: int) -> float:
    """E[max] of so many equal counts with a given sum: the sum over m of P(max > m)."""

    def ways(most: int) -> Fraction:
        one = [weights(value) for value in range(most + 1)]
        all_counts = [Fraction(1)] + [Fraction(0)] * total
        for _ in range(counts):
            all_counts = [
                sum((one[j] * all_counts[s - j] for j in range(min(s, most) + 1)), Fraction(0))
                for s in range(total + 1)
            ]
        return all_counts[total]

    whole = ways(total)
    return float(sum(1 - ways(most) / whole for most in range(total)))


def maximum(mean: float, variance: float, counts: int, total: int) -> float:
    return expected_maximum(
        np.array([mean]), np.array([variance]), np.array([float(counts)]), total
    )


@pytest.mark.parametrize(
    ("counts", "total"), [(2, 1), (2, 7), (2, 24), (3, 5), (3, 30), (5, 24), (12, 3), (12, 20)]
)
def test_poisson_counts_with_a_sum_are_the_multinomial(counts: int, total: int) -> None:
    expected = exact(lambda value: Fraction(1, factorial(value)), counts, total)
    mean = total / counts
    assert maximum(mean, mean, counts, total) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("counts", "trials", "total"),
    [(2, 1, 1), (2, 9, 7), (3, 4, 6), (4, 6, 16), (6, 2, 5), (8, 8, 20), (10, 3, 18)],
)
def test_binomial_counts_with_a_sum_are_the_hypergeometric(
    counts: int, trials: int, total: int
) -> None:
    expected = exact(lambda value: Fraction(comb(trials, value)), counts, total)
    mean = total / counts
    variance = mean * (1 - mean / trials)
    assert maximum(mean, variance, counts, total) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("total", [10, 1000, 65_536, 1_000_000])
def test_two_counts_by_the_mean_deviation_of_a_coin(total: int) -> None:
    """E[max] = T/2 + E|heads - T/2| = T/2 (1 + C(T, T/2) / 2^T), by De Moivre."""
    half = total // 2
    excess = half * exp(lgamma(total + 1) - 2 * lgamma(half + 1) - total * log(2))
    found = maximum(half, half, 2, total)
    assert found - half == pytest.approx(excess, rel=0.01)


@pytest.mark.parametrize(
    "shares", [(0.5, 0.3, 0.2), (0.9, 0.1), (0.25, 0.25, 0.4, 0.1), (0.97, 0.01, 0.01, 0.01)]
)
@pytest.mark.parametrize("total", [1, 2, 6, 10])
def test_unequal_counts_by_enumeration(shares: tuple[float, ...], total: int) -> None:
    expected = 0.0
    for values in product(range(total + 1), repeat=len(shares)):
        if sum(values) == total:
            chance = prod(p**n / factorial(n) for p, n in zip(shares, values, strict=True))
            expected += max(values) * chance * factorial(total)
    mean = np.array(shares) * total
    found = expected_maximum(mean, mean, np.ones(len(shares)), total)
    assert found == pytest.approx(expected, rel=1e-3)


def test_counts_of_a_kind_equal_counts_one_by_one() -> None:
    mean, repeats = np.array([30.0, 20.0]), np.array([2, 5])
    together = expected_maximum(mean, 0.8 * mean, repeats.astype(float), 160)
    single = np.repeat(mean, repeats)
    assert together == pytest.approx(expected_maximum(single, 0.8 * single, np.ones(7), 160))


def test_counts_that_are_certain_have_a_certain_maximum() -> None:
    mean = np.array([5.0, 3.0, 3.0])
    assert expected_maximum(mean, mean * 1e-9, np.ones(3), 11) == pytest.approx(5.0, rel=1e-6)


def test_no_maximum_is_above_the_most() -> None:
    assert expected_maximum(np.array([2.0]), np.array([1.5]), np.array([8.0]), 16, most=3) <= 3


def test_probabilities_of_few_trials_are_the_binomial() -> None:
    """Of 3 trials at 0.4; then a Poisson count of mean 2, cut off where nothing is left."""
    values = np.arange(5.0)
    found = binomial(np.array([1.2]), np.array([0.72]), values)[0]
    np.testing.assert_allclose(found, [0.216, 0.432, 0.288, 0.064, 0.0], rtol=1e-9)
    values = np.arange(40.0)
    found = binomial(np.array([2.0]), np.array([2.0]), values)[0]
    expected = [exp(-2) * 2**n / factorial(n) for n in range(40)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
