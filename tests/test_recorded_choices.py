"""What routers and retrievals were seen to choose is what their law says that they touch."""

from collections import defaultdict
from math import sqrt
from statistics import fmean

import pytest

from costmodel.inputs.measured import Accesses
from costmodel.join import Row
from costmodel.layers.routing import Routing, Uniform, Zipf
from costmodel.observed import recorded_distinct
from tests.committed import FIRST, joined, measured_cases, recording

SPARSE = [path.name for path in FIRST if "llama" not in path.name]
ZIPF = "zipf:1.0"


@pytest.mark.parametrize("name", SPARSE)
def test_uniform_routing_touches_what_is_expected(name: str) -> None:
    """Within 2 % from 16 tokens on: the mean over layers, and over contexts of the same tokens."""
    means = distinct_means(name, "uniform")
    assert {16, 64, 256, 512, 2048, 8192} <= set(means)
    for tokens, rows in means.items():
        if tokens >= 16:
            measured = fmean(row.measured or 0 for row in rows)
            expected = fmean(row.predicted or 0 for row in rows)
            assert measured == pytest.approx(expected, rel=0.02), tokens


@pytest.mark.parametrize("name", SPARSE)
def test_zipf_routing_touches_what_is_expected(name: str) -> None:
    """Within three standard errors of the mean over layers, at every batch.

    A token's draws without replacement are negatively associated, tokens are independent; so the
    variance of the distinct items D(T) of T draws is at most the sum over items of q (1 - q), q
    being the probability that the item is touched. Since 1 - q = (1 - pi)^T, that sum is
    D(2T) - D(T): what a second such step would add. Layers are drawn one after the other.
    """
    means = distinct_means(name, ZIPF)
    assert {1, 4, 16, 64, 256} <= set(means)
    for tokens, rows in means.items():
        variance = sum(variance_bound(each, Zipf(1.0)) for each in choices(name, tokens))
        measured = sum(row.measured or 0 for row in rows)
        expected = sum(row.predicted or 0 for row in rows)
        assert abs(measured - expected) <= 3 * sqrt(variance) + 1e-9 * expected, tokens


def test_the_variance_bound_is_that_of_a_coin() -> None:
    """One of two experts for one token: D = 1 always; q (1 - q) summed is 2 x 1/4."""
    drawn = Accesses(population=2, trials=1, draws=1, counts=((0, 1), (1, 1)))
    assert variance_bound(drawn, Uniform()) == pytest.approx(0.5)


def variance_bound(each: Accesses, law: Routing) -> float:
    once, twice = (
        law.expected_distinct(each.population, each.draws, times * each.trials, kind="rows")
        for times in (1, 2)
    )
    return float(twice - once)


def distinct_means(name: str, routing: str) -> dict[int, list[Row]]:
    """Rows of distinct experts or table rows, of all layers and contexts, by tokens of the step."""
    found = defaultdict(list)
    for index, case in measured_cases(name, "time"):
        work = case.workload
        if work.routing == routing:
            rows = [
                row
                for row in joined(name)[index].rows
                if row.quantity == "distinct" and row.run == "time"
            ]
            assert all(row.measured is not None and row.predicted is not None for row in rows)
            found[work.batch * work.new_tokens] += rows
    return found


def choices(name: str, tokens: int) -> list[Accesses]:
    """What the case under Zipf with that many tokens chose, layer by layer."""
    (run,) = (
        case.runs["time"]
        for _, case in measured_cases(name, "time")
        if (case.workload.batch, case.workload.routing) == (tokens, ZIPF)
    )
    return list(run.accesses.values())


@pytest.mark.parametrize("name", SPARSE)
def test_runs_of_a_case_choose_alike(name: str) -> None:
    """Declared choices to the item; those by scores within 0.1 %, since sums round differently."""
    made = recording(name)
    for _, case in measured_cases(name, "time"):
        counted = [case.runs[run].operators["distinct"] for run in ("time", "counters")]
        values = [dict(zip(made.paths, each.values, strict=True)) for each in counted]
        histograms = {p: each.distinct for p, each in case.runs["time"].accesses.items()}
        assert histograms == {path: n for path, n in values[0].items() if n is not None}
        if case.workload.routing == "scores":
            for path, n in histograms.items():
                assert values[1][path] == pytest.approx(n, rel=1e-3)
        else:
            assert values[0] == values[1]
