"""Experts and rows that the committed recordings saw touched are those that their law expects."""

from collections import defaultdict
from math import sqrt
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import pytest

from costmodel.recordings.measured import Accesses
from costmodel.routing.popularity import Routing, Uniform, Zipf
from costmodel.validation.recorded_routing import recorded_distinct
from tests.committed import FIRST, joined, measured_cases, recording

if TYPE_CHECKING:
    from costmodel.recordings.quantities import RunName

SPARSE = [path.name for path in FIRST if "llama" not in path.name]
UNIFORM, ZIPF, SCORES = "uniform", "zipf:1.0", "scores"
BATCHES, PROMPTS = {1, 4, 16, 64, 256}, {512, 2048, 8192}  # and 1,024 where it fits


class Layer(NamedTuple):
    """One layer of one case: distinct items measured and predicted, and how they were drawn."""

    measured: float
    predicted: float
    drawn: Accesses


def layers(name: str, routing: str) -> dict[int, list[Layer]]:
    """All layers of all cases under a routing, by the tokens of the step."""
    found: dict[int, list[Layer]] = defaultdict(list)
    for index, case in measured_cases(name, "time"):
        work, drawn = case.workload, case.runs["time"].accesses
        if work.routing != routing:
            continue
        for row in joined(name)[index].rows:
            if (row.quantity, row.run) == ("distinct", "time"):
                assert row.path is not None
                assert row.measured is not None
                assert row.predicted is not None
                layer = Layer(row.measured, float(row.predicted), drawn[row.path])
                found[work.batch * work.new_tokens].append(layer)
    return found


@pytest.mark.parametrize("name", SPARSE)
def test_uniform_routing_touches_what_is_expected(name: str) -> None:
    """Within 2 % from 16 tokens on: the mean over layers, and over contexts of the same tokens."""
    by_tokens = layers(name, UNIFORM)
    assert by_tokens.keys() >= BATCHES | PROMPTS
    for tokens, found in by_tokens.items():
        if tokens >= 16:
            measured = fmean(each.measured for each in found)
            predicted = fmean(each.predicted for each in found)
            assert measured == pytest.approx(predicted, rel=0.02), tokens


@pytest.mark.parametrize("name", SPARSE)
def test_zipf_routing_touches_what_is_expected(name: str) -> None:
    """Within three standard errors of the sum over layers, at every batch.

    A token draws without replacement, which associates its items negatively, and tokens and layers
    draw independently. So the variance of D(T), the distinct items of T draws, is at most that of
    independent items: the sum of q (1 - q), q being the probability that an item is touched. Since
    1 - q = (1 - pi)^T, that is D(2T) - D(T): what as many tokens again are expected to add.
    """
    by_tokens = layers(name, ZIPF)
    assert by_tokens.keys() >= BATCHES
    for tokens, found in by_tokens.items():
        error = sqrt(sum(variance_bound(each.drawn, Zipf(1.0)) for each in found))
        off = sum(each.measured - each.predicted for each in found)
        rounding = 1e-9 * sum(each.predicted for each in found)
        assert abs(off) <= 3 * error + rounding, tokens


def variance_bound(drawn: Accesses, law: Routing) -> float:
    """D(2T) - D(T); experts and rows follow one formula."""
    once, twice = (
        float(law.expected_distinct(drawn.population, drawn.draws, trials, kind="rows"))
        for trials in (drawn.trials, 2 * drawn.trials)
    )
    return twice - once


def test_the_variance_bound_is_a_sum_of_coins() -> None:
    """One of two items for each of two tokens: q = 3/4 of each, and 2 x 3/4 x 1/4 is 3/8."""
    drawn = Accesses(population=2, trials=2, draws=1, counts=((1, 2),))
    assert variance_bound(drawn, Uniform()) == pytest.approx(3 / 8)


@pytest.mark.parametrize("name", SPARSE)
def test_zipf_routing_touches_fewer(name: str) -> None:
    """16 tokens: a fifth to a quarter fewer than under uniform routing, far beyond the errors."""
    uniform, zipf = (layers(name, routing)[16] for routing in (UNIFORM, ZIPF))
    share = fmean(each.measured for each in zipf) / fmean(each.predicted for each in uniform)
    assert 0.70 < share < 0.82


@pytest.mark.parametrize("name", SPARSE)
def test_runs_of_a_case_choose_alike(name: str) -> None:
    """Declared choices to the item; those by scores within 0.1 %, since sums may round otherwise.

    The histogram of a layer counts what its distinct items say.
    """
    made = recording(name)
    routings = set()
    for _, case in measured_cases(name, "time"):
        again: RunName = "counters" if "counters" in case.runs else "trace"  # of the cases between
        timed, counted = (
            recorded_distinct(made, run) for run in (case.runs["time"], case.runs[again])
        )
        histograms = case.runs["time"].accesses
        assert timed == {path: each.distinct for path, each in histograms.items()}
        assert timed
        routings.add(case.workload.routing)
        if case.workload.routing == SCORES:
            assert counted == pytest.approx(timed, rel=1e-3)
        else:
            assert counted == timed
    assert routings == {UNIFORM, ZIPF, SCORES}
