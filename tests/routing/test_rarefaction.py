"""Rarefaction against every subset of a small trace, exact fractions, and long direct sums."""

from fractions import Fraction
from itertools import combinations, pairwise
from math import comb, exp, expm1, log1p

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.rarefaction import log_untouched, touched
from costmodel.routing.union import expected_union


def probabilities(tokens: int, taken: int, copies: int = 1) -> list[float]:
    """What the code says for every number of accesses from 0 to n."""
    return list(touched(tokens, np.arange(tokens + 1.0), taken, copies).tolist())


def by_subsets(drew: list[bool], taken: int, copies: int) -> Fraction:
    """The share of all choices of tokens that touch a copy of an item, each draw taking any."""
    choices = [sum(chosen) for chosen in combinations(drew, taken)]
    return 1 - Fraction(sum(Fraction(copies - 1, copies) ** x for x in choices), len(choices))


@pytest.mark.parametrize("copies", [1, 2, 4])
@pytest.mark.parametrize("tokens", range(1, 9))
def test_equals_the_share_of_all_subsets(tokens: int, copies: int) -> None:
    for taken in range(tokens + 1):
        for accesses, found in enumerate(probabilities(tokens, taken, copies)):
            drew = [token < accesses for token in range(tokens)]
            exact = by_subsets(drew, taken, copies)
            assert found == pytest.approx(float(exact), rel=1e-12, abs=1e-15)
            if exact in (0, 1):
                assert found == exact


@pytest.mark.parametrize("tokens", [40, 100, 333])
def test_equals_exact_binomials_on_both_sides_of_the_tabulated_factorials(tokens: int) -> None:
    for taken in range(0, tokens + 1, 7):
        whole = comb(tokens, taken)
        for accesses, found in enumerate(probabilities(tokens, taken)):
            exact = 1 - Fraction(comb(tokens - accesses, taken), whole)
            assert found == pytest.approx(float(exact), rel=1e-12)
            assert (found == exact) or exact not in (0, 1)


@given(tokens=st.integers(1, 80), data=st.data(), copies=st.sampled_from([2, 9, 256]))
@settings(max_examples=60)
def test_copies_equal_the_sum_over_the_hypergeometric_law(
    tokens: int, data: st.DataObject, copies: int
) -> None:
    taken = data.draw(st.integers(0, tokens))
    kept = Fraction(copies - 1, copies)
    for accesses, found in enumerate(probabilities(tokens, taken, copies)):
        missed = sum(
            Fraction(comb(accesses, x) * comb(tokens - accesses, taken - x), comb(tokens, taken))
            * kept**x
            for x in range(max(0, accesses + taken - tokens), min(accesses, taken) + 1)
        )
        assert found == pytest.approx(float(1 - missed), rel=1e-9, abs=1e-13)


@pytest.mark.parametrize(
    ("tokens", "accesses", "taken"),
    [
        (10**6, 500, 10**5),
        (10**6, 10**5, 500),
        (10**7, 10_000, 2000),
        (10**5, 99_000, 3),
        (10**6, 3, 999_990),
        (2**50, 10, 2**49),
        (2**50, 40_000, 2**40),
    ],
)
def test_long_traces_lose_no_digits(tokens: int, accesses: int, taken: int) -> None:
    """The logarithm as a sum over min(c, T) factors (n - M - j) / (n - j), M = max(c, T)."""
    more = max(accesses, taken)
    exact = sum(log1p(-more / (tokens - j)) for j in range(min(accesses, taken)))
    found = float(log_untouched(tokens, np.array([float(accesses)]), taken)[0])
    assert found == pytest.approx(exact, rel=1e-11)
    assert touched(tokens, np.array([float(accesses)]), taken).tolist() == [
        pytest.approx(-expm1(exact), rel=1e-11)
    ]


def test_many_copies_of_a_popular_item_are_drawn_as_by_independent_draws() -> None:
    """Of a long trace a few tokens are as good as independent: (1 - p / g)^T are left out."""
    tokens, taken, copies = 10**9, 2000, 256
    found = float(touched(tokens, np.array([7e8]), taken, copies)[0])
    assert found == pytest.approx(1 - exp(taken * log1p(-0.7 / copies)), rel=1e-5)


TRACES = st.integers(1, 30).flatmap(
    lambda population: st.lists(
        st.sets(st.integers(0, population - 1), min_size=1, max_size=1)
        if population == 1
        else st.permutations(range(population)).map(lambda order: set(order[: population // 2])),
        min_size=1,
        max_size=12,
    ).map(lambda trace: (population, trace))
)


def histogram(population: int, trace: list[set[int]]) -> Histogram:
    counts = [sum(item in token for token in trace) for item in range(population)]
    return Histogram(
        label="histogram:trace",
        source="by hand",
        rows=AccessCounts(
            population=population,
            trials=len(trace),
            draws=len(trace[0]),
            counts=tuple((count, 1) for count in counts),
        ),
    )


@given(case=TRACES)
@settings(max_examples=60)
def test_a_trace_is_bounded_grows_and_ends_in_what_was_seen(
    case: tuple[int, list[set[int]]],
) -> None:
    population, trace = case
    routing, draws = histogram(population, trace), len(trace[0])
    distinct = [
        float(routing.expected_distinct(population, draws, taken, kind="rows"))
        for taken in range(len(trace) + 1)
    ]
    assert distinct[0] == 0
    assert distinct[1] == pytest.approx(draws)
    assert distinct[-1] == len(set.union(*trace))
    for taken, (before, after) in enumerate(pairwise(distinct), start=1):
        assert before <= after * (1 + 1e-14)
        assert after <= min(draws * taken, population)


@given(case=TRACES, layers=st.integers(1, 4))
@settings(max_examples=60)
def test_a_union_over_layers_lies_between_one_layer_and_the_table(
    case: tuple[int, list[set[int]]], layers: int
) -> None:
    population, trace = case
    routing = histogram(population, trace)
    for taken in range(1, len(trace) + 1):
        one = float(routing.expected_distinct(population, len(trace[0]), taken, kind="rows"))
        union = float(expected_union(population, [(0, population)] * layers, one))
        assert one * (1 - 1e-14) <= union <= min(layers * one, population) * (1 + 1e-14)
