"""Probabilities item by item: what they sum to, and what is not known."""

from math import isnan

import numpy as np
import pytest

from costmodel.errors import InputError
from costmodel.questions.published.figure_1c import WorstCase
from costmodel.routing.axis import RoutingAxis
from costmodel.routing.by_population import ByPopulation
from costmodel.routing.cold import Cold
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.memo import RoutingMemo
from costmodel.routing.popularity import Routing, Uniform, Zipf
from costmodel.validation.recorded_routing import RecordedRouting

MEASURED = Histogram(
    label="histogram:trace",
    source="by hand",
    experts=AccessCounts(population=4, trials=10, draws=2, counts=((5, 2), (0, 1), (10, 1))),
)


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("trials", [0, 1, 2, 10])
@pytest.mark.parametrize(
    "routing", [Uniform(), Zipf(0.0), Zipf(1.0), Zipf(2.5), MEASURED, WorstCase()]
)
def test_items_sum_to_the_distinct_ones(routing: Routing, trials: int, copies: int) -> None:
    touched = routing.touched_by_rank(4, 2, trials, kind="experts", copies=copies)
    assert touched.shape == (4,)
    assert (np.diff(touched) <= 0).all()  # the most popular first
    distinct = routing.expected_distinct(4, 2, trials, kind="experts", copies=copies)
    assert touched.sum() * copies == pytest.approx(distinct, rel=1e-10)


@pytest.mark.parametrize("trials", [1, 7, 500])
def test_ranks_past_the_first_bins_sum_to_the_distinct_ones(trials: int) -> None:
    touched = Zipf(1.0).touched_by_rank(300, 8, trials, kind="experts")
    distinct = Zipf(1.0).expected_distinct(300, 8, trials, kind="experts")
    assert touched.sum() == pytest.approx(distinct, rel=1e-9)


def test_measured_popularities_are_shares_of_the_tokens() -> None:
    of_one = MEASURED.touched_by_rank(4, 2, 1, kind="experts")
    assert of_one.tolist() == pytest.approx([1.0, 0.5, 0.5, 0.0], rel=1e-12)
    of_all = MEASURED.touched_by_rank(4, 2, 10, kind="experts")
    assert of_all.tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0], rel=1e-12)
    assert np.isnan(MEASURED.touched_by_rank(4, 2, 11, kind="experts")).all()
    with pytest.raises(InputError, match=r"experts\.draws=2: the model has 3"):
        MEASURED.touched_by_rank(4, 3, 1, kind="experts")


def test_routings_of_routings_ask_the_one_within() -> None:
    zipf = Zipf(1.0).touched_by_rank(4, 2, 5, kind="experts").tolist()
    for routing in (
        RoutingMemo(Zipf(1.0)),
        Cold(Zipf(1.0), 0.5),
        ByPopulation(experts=Zipf(1.0), rows=Uniform()),
    ):
        assert routing.touched_by_rank(4, 2, 5, kind="experts").tolist() == zipf
    both = RoutingAxis((Uniform(), Zipf(1.0))).touched_by_rank(4, 2, 5, kind="experts")
    assert both.shape == (2, 4)
    assert both[1].tolist() == zipf


def test_a_recording_of_distinct_experts_does_not_say_which() -> None:
    recorded = RecordedRouting(experts=30.0, rows=None)
    touched = recorded.touched_by_rank(64, 8, 4, kind="experts")
    assert len(touched) == 64
    assert all(isnan(value) for value in touched)
