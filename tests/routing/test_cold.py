"""What a cache of popular rows leaves to be fetched: by hand, and by sums over all rows."""

import math

import numpy as np
import pytest

from costmodel.routing.axis import RoutingAxis
from costmodel.routing.by_population import ByPopulation
from costmodel.routing.cold import Cold, hot_shares
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.memo import RoutingMemo
from costmodel.routing.popularity import Routing, Uniform, Zipf
from costmodel.routing.union import expected_union

N, K = 1000, 4


def cold(routing: Routing, share: float, trials: int) -> float:
    found = Cold(routing, share).expected_distinct(N, K, trials, kind="rows")
    assert isinstance(found, float)
    return found


def test_uniform_rows_are_alike() -> None:
    distinct = N * (1 - (1 - K / N) ** 70)
    assert cold(Uniform(), 0.25, 70) == pytest.approx(0.75 * distinct, rel=1e-12)
    assert cold(Uniform(), 0, 70) == pytest.approx(distinct, rel=1e-12)
    assert cold(Uniform(), 1, 70) == 0


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.2])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_zipf_leaves_the_rows_of_the_later_ranks(exponent: float, share: float) -> None:
    """One row a trial: its probability is its weight over the sum of all."""
    weights = [rank**-exponent for rank in range(1, N + 1)]
    left = weights[round(share * N) :]
    expected = sum(1 - (1 - weight / sum(weights)) ** 70 for weight in left)
    found = Cold(Zipf(exponent), share).expected_distinct(N, 1, 70, kind="rows")
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_histogram_leaves_the_rows_that_were_drawn_least() -> None:
    """Of 4 rows in 6 trials of 2: 5, 3, 3 and 1 accesses. A cache of two holds a 5 and a 3."""
    rows = AccessCounts(population=4, trials=6, draws=2, counts=((1, 1), (3, 2), (5, 1)))
    histogram = Histogram(label="histogram:test", source="a test", rows=rows)
    found = Cold(histogram, 0.5).expected_distinct(4, 2, 2, kind="rows")
    left = [1 - math.comb(6 - c, 2) / math.comb(6, 2) for c in (3, 1)]
    assert found == pytest.approx(sum(left), rel=1e-12)
    assert math.isnan(float(Cold(histogram, 0.5).expected_distinct(4, 2, 7, kind="rows")))


def test_experts_are_not_cached_and_wrappers_pass_it_on() -> None:
    trials = np.array([[1, 70]])
    rows = Cold(Zipf(1.0), 0.1)
    by_population = Cold(ByPopulation(experts=Uniform(), rows=Zipf(1.0)), 0.1)
    memo = Cold(RoutingMemo(Zipf(1.0)), 0.1)
    axis = Cold(RoutingAxis((Zipf(1.0), Uniform())), 0.1)
    expected = np.array([[cold(Zipf(1.0), 0.1, 1), cold(Zipf(1.0), 0.1, 70)]])
    for routing in (rows, by_population, memo):
        found = routing.expected_distinct(N, K, trials, kind="rows")
        assert np.array_equal(found, expected)
    of_both = axis.expected_distinct(N, K, trials, kind="rows")
    assert isinstance(of_both, np.ndarray)
    assert (of_both[0] == expected).all()
    experts = Uniform().expected_distinct(N, K, 70, kind="experts")
    assert by_population.expected_distinct(N, K, 70, kind="experts") == experts
    assert memo.label == "zipf:1.0"
    assert Zipf(1.0).expected_distinct(N, K, 70, kind="rows") > cold(Zipf(1.0), 0.1, 70)


def test_a_layer_alone_with_its_table_has_the_whole_cache() -> None:
    assert hot_shares(0.3, 100, ()) == (0.3, 0.0)
    assert hot_shares(0.3, 100, ((0, 100),)) == (0.3, 0.0)
    assert hot_shares(1.0, 100, ((0, 50), (50, 50))) == (1.0, 0.0)


def test_layers_that_share_a_table_share_its_cache() -> None:
    """Two layers over the same rows: 1 - (1 - h)^2 = 0.36 gives h = 0.2 of each."""
    own, by_chance = hot_shares(0.36, 1000, ((0, 1000), (0, 1000)))
    assert own == pytest.approx(0.2, rel=1e-9)
    assert by_chance == pytest.approx(0.16 / 0.8, rel=1e-9)  # so that 0.36 of all are cached
    windows = tuple((100 * layer, 500) for layer in range(10))
    own, by_chance = hot_shares(0.25, 1000, windows)
    assert expected_union(1000, windows, own * 500) == pytest.approx(250, rel=1e-9)
    assert own + (1 - own) * by_chance == pytest.approx(0.25, rel=1e-12)


def test_windows_apart_from_each_other_have_caches_of_their_own() -> None:
    own, by_chance = hot_shares(0.3, 100, ((0, 50), (50, 50)))
    assert own == pytest.approx(0.3, rel=1e-9)
    assert by_chance == pytest.approx(0, abs=1e-9)


def test_hashed_rows_of_uniform_n_grams_are_alike_and_of_others_a_bound() -> None:
    rows, tokens = 997, 300
    for order in (1, 2):
        distinct = rows * (1 - (1 - 1 / rows) ** tokens)
        found = Cold(Uniform(), 0.25).expected_distinct_hashed(rows, tokens, order=order)
        assert found == pytest.approx(distinct * (1 - 249 / rows), rel=1e-12)
    zipf = Cold(Zipf(1.1), 0.25)
    trials = np.array([1, tokens, 10**5])
    found = zipf.expected_distinct_hashed(rows, trials, order=2)
    whole = Zipf(1.1).expected_distinct_hashed(rows, trials, order=2)
    misses = trials * (1 - Zipf(1.1).hot_share_hashed(rows, 249, order=2))
    assert np.array_equal(found, np.minimum(whole * (1 - 249 / rows), misses))
    assert zipf.hot_share_hashed(rows, 9, order=2) == Zipf(1.1).hot_share_hashed(rows, 9, order=2)
    assert zipf.hot_share(rows, 2, 9, kind="rows") == Zipf(1.1).hot_share(rows, 2, 9, kind="rows")
