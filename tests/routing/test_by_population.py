"""Experts and rows that follow laws of their own, from the formula to every command."""

import numpy as np
import pytest

from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.routing.axis import RoutingAxis
from costmodel.routing.by_population import ByPopulation, histograms_of, routing_of
from costmodel.routing.expectation import ItemKind
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.popularity import Routing, Uniform, Zipf

BOTH = ByPopulation(experts=Uniform(), rows=Zipf(1.0))
MEASURED = Histogram(
    label="histogram:trace",
    source="by hand",
    rows=AccessCounts(population=4, trials=10, draws=2, counts=((10, 1), (5, 2), (0, 1))),
)


@pytest.mark.parametrize(("kind", "law"), [("experts", Uniform()), ("rows", Zipf(1.0))])
def test_each_population_follows_its_own_law(kind: ItemKind, law: Routing) -> None:
    assert routing_of(BOTH, kind) == law == routing_of(law, kind)
    assert BOTH.expected_distinct(64, 8, 20, kind=kind) == law.expected_distinct(
        64, 8, 20, kind=kind
    )
    copied = BOTH.expected_distinct(64, 8, 20, kind=kind, copies=4)
    assert copied == law.expected_distinct(64, 8, 20, kind=kind, copies=4)
    trials = np.array([1, 20])
    stacked = RoutingAxis((BOTH, Uniform())).expected_distinct(64, 8, trials, kind=kind)
    assert np.asarray(stacked)[0].tolist() == [
        law.expected_distinct(64, 8, int(count), kind=kind) for count in trials
    ]


def test_the_measured_histograms_of_a_routing() -> None:
    assert histograms_of(BOTH) == histograms_of(Uniform()) == ()
    assert histograms_of(MEASURED) == (MEASURED,)
    assert histograms_of(ByPopulation(experts=Uniform(), rows=MEASURED)) == (MEASURED,)
    assert histograms_of(ByPopulation(experts=MEASURED, rows=MEASURED)) == (MEASURED,)


@pytest.mark.parametrize(
    ("name", "kind"), [("olmoe-1b-7b", "experts"), ("ultramemv2-1b-7b", "rows")]
)
def test_the_law_of_the_other_population_changes_no_cost(name: str, kind: ItemKind) -> None:
    model, other = load_model(name), Zipf(2.0)
    laws: dict[ItemKind, ByPopulation] = {
        "experts": ByPopulation(experts=Uniform(), rows=other),
        "rows": ByPopulation(experts=other, rows=Uniform()),
    }
    even, mixed, steep = (
        step_costs(model, Workload(batch=16).step(routing=routing)).totals
        for routing in (Uniform(), laws[kind], other)
    )
    assert mixed == even
    assert steep.compulsory_bytes < even.compulsory_bytes
