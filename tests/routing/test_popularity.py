"""Expected distinct items: published numbers, bounds, and arrays against single values."""

from collections.abc import Callable
from fractions import Fraction
from math import isnan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from costmodel.errors import InputError
from costmodel.routing.axis import RoutingAxis
from costmodel.routing.expectation import ItemKind, Trials
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.popularity import Routing, Uniform, Zipf

MEASURED = Histogram(
    label="histogram:trace",
    source="by hand",
    experts=AccessCounts(population=4, trials=10, draws=2, counts=((10, 1), (5, 2), (0, 1))),
)
ROUTINGS: list[Routing] = [Uniform(), Zipf(0.0), Zipf(1.0), Zipf(2.5), MEASURED]


def one(
    routing: Routing, population: int, draws: int, trials: int, kind: ItemKind = "experts"
) -> float:
    distinct = routing.expected_distinct(population, draws, trials, kind=kind)
    assert isinstance(distinct, float)
    return distinct


def many(
    routing: Routing, population: int, draws: int, trials: NDArray[Any]
) -> NDArray[np.float64]:
    distinct = routing.expected_distinct(population, draws, trials, kind="experts")
    assert isinstance(distinct, np.ndarray)
    assert distinct.dtype == np.float64
    return distinct


@pytest.mark.parametrize(
    ("population", "trials", "expected", "decimals"),
    [(64, 8, 42.009, 3), (128, 8, 51.62, 2), (64, 16, 56.4, 1)],
)
def test_uniform_of_eight_draws_by_hand(
    population: int, trials: int, expected: float, decimals: int
) -> None:
    assert round(one(Uniform(), population, 8, trials), decimals) == expected


@pytest.mark.parametrize(
    ("population", "draws", "trials"),
    [(64, 8, 3), (512, 16, 200), (1_300_000, 16, 1000), (10**9, 1, 7), (10**9, 768, 50)],
)
def test_uniform_equals_exact_fractions(population: int, draws: int, trials: int) -> None:
    exact = population * (1 - Fraction(population - draws, population) ** trials)
    assert one(Uniform(), population, draws, trials) == pytest.approx(float(exact), rel=1e-14)


@pytest.mark.parametrize("routing", [Uniform(), Zipf(0.0), Zipf(1.0), Zipf(10.0)])
@pytest.mark.parametrize(("population", "draws"), [(4, 1), (64, 8), (64, 63), (1_300_000, 128)])
def test_one_token_touches_its_draws_and_none_touches_nothing(
    routing: Routing, population: int, draws: int
) -> None:
    assert one(routing, population, draws, 0) == 0
    assert one(routing, population, draws, 1) == draws


@pytest.mark.parametrize("routing", [Uniform(), Zipf(0.0), Zipf(1.3)])
def test_drawing_everything_touches_everything(routing: Routing) -> None:
    assert one(routing, 64, 64, 1) == 64
    assert one(routing, 64, 64, 10**13) == 64
    assert one(routing, 64, 8, 10**20) == 64


@pytest.mark.parametrize(
    ("population", "draws"), [(1, 1), (64, 8), (500, 16), (1_300_000, 128), (10**9, 768)]
)
@pytest.mark.parametrize("trials", [1, 8, 1000, 10**6, 10**13])
def test_zipf_of_exponent_zero_is_uniform(population: int, draws: int, trials: int) -> None:
    expected = one(Uniform(), population, draws, trials)
    assert one(Zipf(0.0), population, draws, trials) == pytest.approx(expected, rel=1e-10)


def test_steeper_popularity_touches_less() -> None:
    distinct = [one(Zipf(s), 1_300_000, 128, 4096, "rows") for s in (0.0, 0.3, 0.7, 1.0, 1.5, 3.0)]
    assert distinct == sorted(distinct, reverse=True)


@given(
    exponent=st.none() | st.floats(0, 10),
    population=st.integers(1, 600),
    draws=st.integers(1, 20),
    trials=st.lists(st.integers(0, 10**13), min_size=1, max_size=8),
)
@settings(max_examples=60)
def test_bounds_growth_and_arrays(
    exponent: float | None, population: int, draws: int, trials: list[int]
) -> None:
    routing = Uniform() if exponent is None else Zipf(exponent)
    draws = min(draws, population)
    single = [one(routing, population, draws, count) for count in trials]
    assert many(routing, population, draws, np.array(trials)).tolist() == single
    for low, high in zip(sorted(trials), sorted(single), strict=True):
        assert one(routing, population, draws, low) == pytest.approx(high, rel=1e-13)
        assert draws <= high <= population or low == high == 0


@given(population=st.integers(1, 10**9), draws=st.integers(1, 1000), trials=st.integers(1, 10**13))
def test_uniform_touches_no_more_than_is_drawn(population: int, draws: int, trials: int) -> None:
    draws = min(draws, population)
    distinct = one(Uniform(), population, draws, trials)
    assert draws <= distinct <= min(population, draws * trials)


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("make", [np.array, lambda values: np.array(values, dtype=object)])
def test_arrays_of_any_shape_equal_single_values_to_the_bit(
    routing: Routing, make: Callable[[Any], NDArray[Any]]
) -> None:
    trials = make([[3, 1, 10], [0, 3, 7]] if routing is MEASURED else [[3, 1, 10**13], [0, 3, 77]])
    distinct = many(routing, 4, 2, trials)
    assert distinct.tolist() == [[one(routing, 4, 2, int(n)) for n in row] for row in trials]
    assert many(routing, 4, 2, make([])).shape == (0,)
    assert many(routing, 4, 2, make(5)).shape == ()


def test_an_axis_stacks_its_routings_in_front() -> None:
    axis = RoutingAxis((Uniform(), Zipf(1.0)))
    assert axis.label == "uniform,zipf:1.0"
    trials = np.array([[1, 2, 3]])
    distinct = many(axis, 64, 8, trials)
    assert distinct.shape == (2, 1, 3)
    for row, routing in zip(distinct, axis.routings, strict=True):
        assert row.tolist() == many(routing, 64, 8, trials).tolist()
    assert many_of(axis, 5).tolist() == [one(r, 64, 8, 5) for r in axis.routings]


def many_of(axis: RoutingAxis, trials: Trials) -> NDArray[np.float64]:
    return np.asarray(axis.expected_distinct(64, 8, trials, kind="experts"))


def test_measured_counts_by_hand() -> None:
    # Of 10 tokens all, half (two items) and none: C(5, 3) / C(10, 3) = 10 / 120 leave a half out.
    assert one(MEASURED, 4, 2, 1) == 2
    assert one(MEASURED, 4, 2, 3) == pytest.approx(1 + 2 * (1 - 1 / 12), rel=1e-14)
    assert one(MEASURED, 4, 2, 6) == 3
    assert one(MEASURED, 4, 2, 10) == 3


def test_beyond_its_tokens_a_histogram_says_nothing() -> None:
    assert isnan(one(MEASURED, 4, 2, 11))
    distinct = many(MEASURED, 4, 2, np.array([10, 11, 0, 10**13]))
    assert distinct[[0, 2]].tolist() == [3, 0]
    assert np.isnan(distinct).tolist() == [False, True, False, True]


def test_level_counts_of_a_long_trace_are_uniform() -> None:
    rows = AccessCounts(population=64, trials=8 * 10**9, draws=8, counts=((10**9, 64),))
    routing = Histogram(label="histogram:level", source="by hand", rows=rows)
    for trials in (1, 8, 100):
        expected = one(Uniform(), 64, 8, trials)
        assert one(routing, 64, 8, trials, "rows") == pytest.approx(expected, rel=1e-7)


def test_a_uniform_trace_at_its_own_batch_has_its_own_distinct_rows() -> None:
    """1,024 tokens draw 32 of 1,295,044 rows each: about 32,360 rows, and exactly those seen."""
    rows, tokens, draws = 1_295_044, 1024, 32
    generator = np.random.default_rng(0)
    drawn = [generator.choice(rows, draws, replace=False) for _ in range(tokens)]
    accesses, items = np.unique(
        np.bincount(np.concatenate(drawn), minlength=rows), return_counts=True
    )
    counts = tuple(zip(accesses.tolist(), items.tolist(), strict=True))
    routing = Histogram(
        label="histogram:trace",
        source="by hand",
        rows=AccessCounts(population=rows, trials=tokens, draws=draws, counts=counts),
    )
    seen = len(np.unique(np.concatenate(drawn)))
    assert abs(seen - 32_360) < 100
    assert one(routing, rows, draws, tokens, "rows") == seen
    half = one(Uniform(), rows, draws, tokens // 2)
    assert one(routing, rows, draws, tokens // 2, "rows") == pytest.approx(half, rel=1e-3)


@pytest.mark.parametrize(
    ("population", "draws", "kind", "message"),
    [
        (8, 2, "experts", "experts.population=4: the model has 8"),
        (4, 1, "experts", "experts.draws=2: the model has 1"),
        (4, 2, "rows", "has no section 'rows'"),
    ],
)
def test_a_histogram_of_another_model_is_refused(
    population: int, draws: int, kind: ItemKind, message: str
) -> None:
    with pytest.raises(InputError, match=rf"routing=histogram:trace: {message}"):
        one(MEASURED, population, draws, 1, kind)


@pytest.mark.parametrize("routing", [Uniform(), Zipf(1.0)])
def test_impossible_draws_are_refused(routing: Routing) -> None:
    with pytest.raises(InputError, match="draws=5: must lie between 1 and population=4"):
        one(routing, 4, 5, 1)
    with pytest.raises(InputError, match="draws=0"):
        one(routing, 4, 0, 1)
    with pytest.raises(InputError, match="trials=-1: must not be negative"):
        one(routing, 4, 2, -1)


@pytest.mark.parametrize("routing", [Uniform(), Zipf(0.0)])
def test_evenly_chosen_copies_are_a_larger_population(routing: Routing) -> None:
    copied = routing.expected_distinct(100, 8, 37, kind="rows", copies=4)
    assert copied == pytest.approx(400 * (1 - (1 - 8 / 400) ** 37), rel=1e-9)


def test_copies_share_the_popularity_of_their_item() -> None:
    # Two items of weights 1 and 1/2, one drawn: probabilities 2/3 and 1/3, halved by two copies.
    distinct = Zipf(1.0).expected_distinct(2, 1, 5, kind="rows", copies=2)
    assert distinct == pytest.approx(
        2 * (1 - (1 - 1 / 3) ** 5) + 2 * (1 - (1 - 1 / 6) ** 5), rel=1e-9
    )
