"""The share of accesses that the hottest rows take: by hand, by enumeration and by simulation."""

from itertools import permutations

import numpy as np
import pytest

from costmodel.errors import InputError
from costmodel.routing.axis import RoutingAxis
from costmodel.routing.by_population import ByPopulation
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.memo import RoutingMemo
from costmodel.routing.popularity import NgramLaw, Routing, Uniform, Zipf
from tests.routing.test_hashed import MEASURED, of, popularity

ROWS = Histogram(
    label="histogram:trace",
    source="by hand",
    rows=AccessCounts(population=4, trials=10, draws=2, counts=((0, 1), (5, 2), (10, 1))),
)
HARMONIC = 1 + 1 / 2 + 1 / 3 + 1 / 4


def share(routing: Routing, population: int, draws: int, kept: int) -> float:
    hot = routing.hot_share(population, draws, kept, kind="rows")
    assert isinstance(hot, float)
    return hot


def hashed(law: NgramLaw, population: int, kept: int, order: int = 2) -> float:
    hot = law.hot_share_hashed(population, kept, order=order)
    assert isinstance(hot, float)
    return hot


def test_by_hand() -> None:
    assert share(Uniform(), 1000, 16, 10) == 0.01
    assert share(Zipf(1.0), 4, 1, 1) == pytest.approx(1 / HARMONIC, rel=1e-14)
    assert share(Zipf(1.0), 4, 1, 3) == pytest.approx(1 - 1 / 4 / HARMONIC, rel=1e-14)
    assert [share(ROWS, 4, 2, kept) for kept in range(5)] == [0, 0.5, 0.75, 1, 1]
    assert hashed(Uniform(), 1000, 10) == 0.01
    assert hashed(Zipf(1.0), 4, 1, order=1) == pytest.approx(1 / HARMONIC, rel=1e-14)
    assert hashed(MEASURED, 5, 2, order=1) == 0.7  # ids drawn 5 and 2 of 10 times


def test_two_draws_of_three_rows_one_by_one() -> None:
    """Of weights 1, 1/2 and 1/3; each ordered draw by hand."""
    weights = np.array([1, 1 / 2, 1 / 3])
    drawn = np.zeros(3)
    for first, second in permutations(range(3), 2):
        rest = weights.sum() - weights[first]
        drawn[[first, second]] += weights[first] / weights.sum() * weights[second] / rest
    for kept in range(4):
        assert share(Zipf(1.0), 3, 2, kept) == pytest.approx(drawn[:kept].sum() / 2, rel=1e-10)


@pytest.mark.parametrize(
    ("population", "draws", "exponent"), [(5000, 1, 1.0), (5000, 8, 0.7), (300, 40, 1.5)]
)
def test_simulated_draws(population: int, draws: int, exponent: float) -> None:
    """The top k of log-popularity plus Gumbel noise is a draw; accesses of the first ranks."""
    generator = np.random.default_rng(population + draws)
    logits = np.log(popularity(population, exponent))
    noise = generator.gumbel(size=(1000, population))
    chosen = np.argpartition(-(logits + noise), draws - 1, axis=1)[:, :draws]
    for kept in (1, 20, 64, 100, 217):
        hits = (chosen < kept).mean(axis=1)
        error = hits.std() / len(hits) ** 0.5
        expected = share(Zipf(exponent), population, draws, kept)
        assert abs(hits.mean() - expected) < 4 * error + 1e-9, kept  # the first is always drawn


@pytest.mark.parametrize("exponent", [0.6, 0.8, 1.0])
@pytest.mark.parametrize(("ngrams", "rows"), [(30_000, 10_007), (150_000, 5003), (3000, 10_007)])
def test_simulated_tables(ngrams: int, rows: int, exponent: float) -> None:
    """Against the hottest rows of a hashed table: no more than they take, and little less."""
    generator = np.random.default_rng(ngrams)
    probability = popularity(ngrams, exponent)
    for kept_share, gap in ((0.001, 0.005), (0.01, 0.005), (0.1, 0.035), (0.5, 0.035)):
        kept = int(kept_share * rows)
        best, ranked = [], []
        for _ in range(4):
            row_of = generator.integers(0, rows, ngrams)
            by_row = np.bincount(row_of, weights=probability, minlength=rows)
            best.append(np.sort(by_row)[::-1][:kept].sum())
            _, first = np.unique(row_of, return_index=True)  # rows in the order of n-grams
            hot = row_of[np.sort(first)[:kept]]
            ranked.append(by_row[hot].sum())
        expected = hashed(of(ngrams, exponent), rows, kept)
        assert expected == pytest.approx(np.mean(ranked), abs=0.004)
        assert -0.004 < np.mean(best) - expected < gap


def test_hashed_rows_by_hand() -> None:
    # One kept row of 1,000 holds 1 n-gram, of 1 / HARMONIC of the draws, and 1/1000 of the others.
    first = 1 / HARMONIC
    assert hashed(of(4, 1.0), 1000, 1) == pytest.approx(first + (1 - first) / 1000, rel=1e-12)
    assert hashed(of(4, 1.0), 1000, 500) == 1  # all four n-grams
    assert hashed(MEASURED, 1000, 1) == pytest.approx(0.5 + 0.5 / 1000, rel=1e-12)


@pytest.mark.parametrize("law", [Uniform(), Zipf(0.0), Zipf(1.0), of(10**6, 0.8), MEASURED])
def test_no_row_takes_nothing_all_take_all_and_more_take_more(law: NgramLaw) -> None:
    rows = 16_000_057
    kept = [0, 1, 2, 63, 64, 65, 1000, 160_000, 8_000_000, rows - 1, rows]
    shares = [hashed(law, rows, count) for count in kept]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)
    for count, hot in zip(kept, shares, strict=True):
        assert count / rows * (1 - 1e-9) <= hot <= 1


def test_level_popularity_is_uniform() -> None:
    for kept in (3, 500, 1_000_000):
        expected = kept / 1_300_000
        assert share(Zipf(0.0), 1_300_000, 1, kept) == pytest.approx(expected, rel=1e-12)
        assert share(Zipf(0.0), 1_300_000, 16, kept) == pytest.approx(expected, rel=1e-9)


def test_populations_axes_and_memos_pass_the_question_on() -> None:
    by = ByPopulation(experts=Uniform(), rows=Zipf(1.0), ngrams=of(50, 0.8))
    assert by.hot_share(64, 8, 4, kind="experts") == 4 / 64
    assert by.hot_share(64, 8, 4, kind="rows") == share(Zipf(1.0), 64, 8, 4)
    assert by.hot_share_hashed(1009, 7, order=2) == hashed(of(50, 0.8), 1009, 7)
    axis = RoutingAxis((Uniform(), by))
    memo = RoutingMemo(axis)
    for routing in (axis, memo):
        hot = np.asarray(routing.hot_share(64, 8, 4, kind="rows"))
        assert hot.tolist() == [4 / 64, share(Zipf(1.0), 64, 8, 4)]
        hot = np.asarray(routing.hot_share_hashed(1009, 7, order=2))
        assert hot.tolist() == [7 / 1009, hashed(of(50, 0.8), 1009, 7)]


@pytest.mark.parametrize("routing", [Uniform(), Zipf(1.0), ROWS])
@pytest.mark.parametrize("kept", [-1, 5])
def test_no_more_rows_are_kept_than_there_are(routing: Routing, kept: int) -> None:
    with pytest.raises(InputError, match=f"kept={kept}: must lie between 0 and population=4"):
        share(routing, 4, 2, kept)


@pytest.mark.parametrize("law", [Uniform(), Zipf(1.0), MEASURED])
def test_no_more_hashed_rows_are_kept_than_there_are(law: NgramLaw) -> None:
    with pytest.raises(InputError, match="kept=6: must lie between 0 and population=5"):
        hashed(law, 5, 6)
