"""The busiest GPU's load: by hand, by enumeration, and against a simulated table."""

import csv
from collections import defaultdict
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from math import comb, isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.routing.axis import RoutingAxis
from costmodel.routing.by_population import ByPopulation
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.max_load import (
    expected_distinct_by_gpu,
    expected_loads,
    expected_max_load,
)
from costmodel.routing.placement import Order, Placement
from costmodel.routing.popularity import Routing, Uniform, Zipf
from costmodel.validation.recorded_routing import RecordedRouting
from tests.routing.simulated_max_load import TABLE

MEASURED = Histogram(
    label="histogram:trace",
    source="by hand",
    experts=AccessCounts(population=4, trials=10, draws=2, counts=((10, 1), (5, 2), (0, 1))),
)
ORDERS: tuple[Order, ...] = ("consecutive", "spread")


def one(routing: Routing, experts: int, draws: int, tokens: int, at: Placement) -> float:
    load = expected_max_load(routing, experts, draws, tokens, at)
    assert isinstance(load, float)
    return load


def of_one_token(experts: int, draws: int, gpus: int) -> float:
    """E[max] = sum of 1 - P(max <= m); of C(E, k) choices, [z^k] (sum C(g, j) z^j)^G have it."""
    load = Fraction(0)
    for most in range(draws):
        ways = [1] + [0] * draws
        for _ in range(gpus):
            ways = [
                sum(comb(experts // gpus, j) * ways[s - j] for j in range(min(s, most) + 1))
                for s in range(draws + 1)
            ]
        load += 1 - Fraction(ways[draws], comb(experts, draws))
    return float(load)


def enumerated(experts: int, draws: int, tokens: int, gpus: int) -> float:
    """E[max] from the distribution of the loads of all GPUs, token by token."""
    size = experts // gpus
    choices = [
        tuple(sum(expert // size == gpu for expert in chosen) for gpu in range(gpus))
        for chosen in combinations(range(experts), draws)
    ]
    ways = {(0,) * gpus: 1}
    for _ in range(tokens):
        after: dict[tuple[int, ...], int] = defaultdict(int)
        for loads, count in ways.items():
            for choice in choices:
                after[tuple(sorted(a + b for a, b in zip(loads, choice, strict=True)))] += count
        ways = after
    largest_loads = sum(max(loads) * count for loads, count in ways.items())
    return float(Fraction(largest_loads, len(choices) ** tokens))


@lru_cache(maxsize=1)
def errors() -> dict[str, list[tuple[int, float, float]]]:
    """Tokens, and errors in shares and in standard errors, of three parts of the table."""
    found = defaultdict(list)
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            exponent, tokens = float(row["exponent"]), int(row["tokens"])
            order: Order = "spread" if row["order"] == "spread" else "consecutive"
            at = Placement(gpus=int(row["gpus"]), redundant=int(row["redundant"]), order=order)
            law: Routing = Zipf(exponent) if exponent else Uniform()
            load = one(law, int(row["experts"]), int(row["draws"]), tokens, at)
            mean, error = float(row["mean"]), float(row["standard_error"])
            part = "zipf" if exponent else "uniform"
            if exponent and at.redundant and order == "consecutive":
                part = "consecutive copies"
            found[part].append((tokens, load / mean - 1, (load - mean) / max(error, 1e-9 * mean)))
    return dict(found)


def largest(part: str, tokens: int) -> float:
    return max(abs(share) for count, share, _ in errors()[part] if count == tokens)


def test_uniform_loads_are_those_of_a_simulation_within_one_percent() -> None:
    """Experts 64 and 256, k of 1 to 8, 2 to 64 GPUs, 1 to 4096 tokens; noise below 0.3 %."""
    rows = errors()["uniform"]
    assert len(rows) == 448
    assert max(abs(share) for _, share, _ in rows) < 0.005
    squares = [in_errors**2 for _, _, in_errors in rows if abs(in_errors) < 1e6]
    assert len(squares) > 440
    assert sum(squares) / len(squares) < 1.5  # 1 if there were no error but the simulation's


def test_zipf_loads_are_those_of_a_simulation_within_two_percent() -> None:
    """Exponents 0.5, 1 and 2, in both orders, without copies and with copies spread out."""
    assert len(errors()["zipf"]) == 12 * 7 * 6
    assert largest("zipf", 1) < 0.02
    for tokens in (4, 16, 64, 256, 4096):
        assert largest("zipf", tokens) < 0.01


@pytest.mark.parametrize(
    ("tokens", "limit"), [(1, 0.25), (4, 0.11), (16, 0.06), (64, 0.035), (256, 0.02), (4096, 0.005)]
)
def test_copies_that_stand_together_are_overstated_for_few_tokens(
    tokens: int, limit: float
) -> None:
    assert largest("consecutive copies", tokens) < limit
    assert min(share for _, share, _ in errors()["consecutive copies"]) > -0.01


def test_one_token_with_two_of_four_experts_on_two_gpus() -> None:
    """Both on one GPU in 2 of 6 cases: 2 / 3 + 2 / 3."""
    assert one(Uniform(), 4, 2, 1, Placement(gpus=2)) == pytest.approx(4 / 3, rel=1e-9)


@pytest.mark.parametrize(
    ("experts", "draws", "gpus"),
    [(6, 3, 2), (8, 2, 8), (9, 4, 3), (64, 8, 4), (256, 8, 16), (384, 6, 128)],
)
def test_one_token_is_counted_exactly(experts: int, draws: int, gpus: int) -> None:
    found = one(Uniform(), experts, draws, 1, Placement(gpus=gpus))
    assert found == pytest.approx(of_one_token(experts, draws, gpus), rel=1e-3)


@pytest.mark.parametrize(
    ("experts", "draws", "tokens", "gpus"),
    [(4, 2, 2, 2), (4, 2, 6, 4), (6, 2, 4, 3), (6, 4, 5, 3), (8, 2, 5, 4), (6, 3, 9, 2)],
)
def test_small_cases_by_enumeration(experts: int, draws: int, tokens: int, gpus: int) -> None:
    found = one(Uniform(), experts, draws, tokens, Placement(gpus=gpus))
    assert found == pytest.approx(enumerated(experts, draws, tokens, gpus), rel=0.01)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("routing", [Uniform(), Zipf(1.0), Zipf(10.0)])
def test_what_is_certain(routing: Routing, order: Order) -> None:
    assert one(routing, 64, 8, 0, Placement(gpus=8, order=order)) == 0.0
    assert one(routing, 64, 8, 7, Placement(gpus=1, order=order)) == 56.0
    assert one(routing, 64, 8, 1, Placement(gpus=64, order=order)) == 1.0
    every = one(routing, 8, 8, 5, Placement(gpus=4, order=order))  # all experts, each time
    assert every == pytest.approx(10.0, rel=1e-6)


def test_a_strong_skew_leaves_little_but_the_hottest_gpu() -> None:
    at = Placement(gpus=8)
    hottest = expected_loads(Zipf(2.0), 64, 1, 1000, at).max()
    assert hottest < one(Zipf(2.0), 64, 1, 1000, at) < 1.001 * hottest


def test_measured_experts_by_hand() -> None:
    """Expert 0 always, with 1 or 2: GPU 0 holds 0 and 1, and so 1 + 1/2 a token."""
    for tokens in (1, 3, 10, 1000):  # more tokens than were measured are no less known
        found = one(MEASURED, 4, 2, tokens, Placement(gpus=2))
        assert found == pytest.approx(1.5 * tokens, rel=0.01)


@pytest.mark.parametrize("tokens", [8, 200])
@pytest.mark.parametrize("order", ORDERS)
def test_a_histogram_of_a_law_has_its_loads(order: Order, tokens: int) -> None:
    trials = 10**7
    accesses = [round(p * trials) for p in Zipf(1.0).touched_by_rank(64, 4, 1, kind="experts")]
    accesses[0] += 4 * trials - sum(accesses)
    counts = tuple((count, accesses.count(count)) for count in sorted(set(accesses)))
    section = AccessCounts(population=64, trials=trials, draws=4, counts=counts)
    trace = Histogram(label="histogram:zipf", source="made", experts=section)
    at = Placement(gpus=16, order=order)
    assert one(trace, 64, 4, tokens, at) == pytest.approx(
        one(Zipf(1.0), 64, 4, tokens, at), rel=1e-4
    )


def test_copies_and_balance_lower_the_largest_load() -> None:
    plain = one(Zipf(1.0), 256, 8, 512, Placement(gpus=32))
    spread = one(Zipf(1.0), 256, 8, 512, Placement(gpus=32, order="spread"))
    copied = one(Zipf(1.0), 256, 8, 512, Placement(gpus=32, redundant=32, order="spread"))
    assert plain > spread > copied > 512 * 8 / 32


@settings(max_examples=40)
@given(
    law=st.sampled_from([Uniform(), Zipf(0.7), Zipf(1.3), Zipf(3.0)]),
    model=st.sampled_from([(8, 2, 2), (8, 7, 8), (60, 4, 4), (64, 8, 16), (12, 1, 6)]),
    copies=st.tuples(st.sampled_from([0, 1]), st.sampled_from(ORDERS)),
    tokens=st.integers(1, 20_000),
    more=st.integers(1, 100),
)
def test_bounds_and_growth(
    law: Routing,
    model: tuple[int, int, int],
    copies: tuple[int, Order],
    tokens: int,
    more: int,
) -> None:
    """Between the mean of the hottest GPU and all that its slots can take; more with each token."""
    (experts, draws, gpus), (copies_per_gpu, order) = model, copies
    at = Placement(gpus=gpus, redundant=copies_per_gpu * gpus, order=order)
    load = one(law, experts, draws, tokens, at)
    loads = expected_loads(law, experts, draws, tokens, at)
    assert loads.sum() == pytest.approx(tokens * draws)
    assert loads.max() <= load * (1 + 1e-12)
    assert load <= tokens * min(draws, at.slots_per_gpu(experts))
    assert load < one(law, experts, draws, tokens + more, at)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("routing", [Uniform(), Zipf(1.0), MEASURED])
def test_distinct_experts_sum_to_those_of_one_gpu(routing: Routing, order: Order) -> None:
    at = Placement(gpus=2, order=order)
    for tokens in (0, 1, 7, 10):
        by_gpu = expected_distinct_by_gpu(routing, 4, 2, tokens, at)
        assert by_gpu.shape == (2,)
        whole = routing.expected_distinct(4, 2, tokens, kind="experts")
        assert by_gpu.sum() == pytest.approx(whole, rel=1e-10)


def test_distinct_copies_by_hand() -> None:
    """[0, 1] and [2, 0] hold experts of which a token takes each with 2/3, expert 0 in halves."""
    at = Placement(gpus=2, redundant=1)
    found = expected_distinct_by_gpu(Uniform(), 3, 2, 2, at)
    of_copy, alone = 1 - (2 / 3) ** 2, 1 - (1 / 3) ** 2
    assert found.tolist() == pytest.approx([of_copy + alone, alone + of_copy])


def test_arrays_and_axes_equal_numbers() -> None:
    tokens = np.array([[1, 64], [300, 1]])
    axis = RoutingAxis((Uniform(), Zipf(1.0)))
    routing = ByPopulation(experts=axis, rows=Uniform())
    at = Placement(gpus=8, order="spread")
    load = expected_max_load(routing, 64, 8, tokens, at)
    loads = expected_loads(routing, 64, 8, tokens, at)
    distinct = expected_distinct_by_gpu(routing, 64, 8, tokens, at)
    assert isinstance(load, np.ndarray)
    assert load.shape == (2, 2, 2)
    assert loads.shape == distinct.shape == (2, 2, 2, 8)
    for index, law in enumerate(axis.routings):
        for place in np.ndindex(2, 2):
            count = int(tokens[place])
            at_place = (index, *place)
            assert load[at_place] == one(law, 64, 8, count, at)
            alone = expected_loads(law, 64, 8, count, at)
            assert loads[at_place].tolist() == alone.tolist()
            alone = expected_distinct_by_gpu(law, 64, 8, count, at)
            assert distinct[at_place].tolist() == alone.tolist()
    assert expected_loads(axis, 64, 8, 5, at).shape == (2, 8)


def test_what_is_unknown_is_nan() -> None:
    at = Placement(gpus=2)
    assert isnan(one(RecordedRouting(experts=3.0, rows=None), 4, 2, 8, at))
    assert np.isnan(expected_distinct_by_gpu(MEASURED, 4, 2, 11, at)).all()


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="tokens=-1: must not be negative"):
        one(Uniform(), 8, 2, -1, Placement(gpus=2))
    with pytest.raises(InputError, match="draws=9: must lie between 1 and population=8"):
        one(Uniform(), 8, 9, 1, Placement(gpus=2))
    with pytest.raises(InputError, match="do not divide among 3 GPUs"):
        one(Uniform(), 8, 2, 1, Placement(gpus=3))
