"""The workload of a recorded case: every field of the case, and a cache of the weights' format."""

from dataclasses import replace

import pytest
from pydantic import TypeAdapter

from costmodel.errors import InputError
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.formats import Formats
from costmodel.layers.placement import Placement
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.routing.by_population import ByPopulation
from costmodel.routing.popularity import Uniform, Zipf
from costmodel.strict import validated

PREFILL = CaseWorkload(
    phase="prefill", batch=2, context=3, new_tokens=5, dtype="fp32", routing="zipf:0.5"
)
SCORES = CaseWorkload(
    phase="decode", batch=7, context=11, new_tokens=1, dtype="bf16", routing="scores"
)


def test_every_field_of_the_case_reaches_the_workload() -> None:
    fp32 = DTYPES["fp32"]
    assert PREFILL.to_workload() == Workload(
        phase="prefill",
        batch=2,
        context=3,
        new_tokens=5,
        formats=Formats(default=fp32),
        kv_dtype=fp32,
        routing=Zipf(0.5),
    )


def test_each_population_has_the_routing_that_the_case_names() -> None:
    case = replace(SCORES, routing="experts=uniform,rows=zipf:1.0")
    assert case.to_workload().routing == ByPopulation(experts=Uniform(), rows=Zipf(1.0))


@pytest.mark.parametrize(
    "text",
    [
        "rows=zipf:1.0",  # recordings name both populations, experts first
        "rows=zipf:1.0,experts=uniform",
        "experts=scores,rows=uniform",
        "experts=uniform,rows=trace.json",
        "experts=uniform,rows=zipf:11",
    ],
)
def test_other_routings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="routing"):
        replace(SCORES, routing=text)


@pytest.mark.parametrize("case", [PREFILL, SCORES])
def test_a_routing_may_replace_that_of_the_case(case: CaseWorkload) -> None:
    assert case.to_workload(routing=Zipf(2.0)).routing == Zipf(2.0)


def test_the_models_own_choices_are_taken_as_uniform_unless_known() -> None:
    assert SCORES.to_workload() == Workload(batch=7, context=11, routing=Uniform())


def test_files_state_where_tables_stand_unless_it_is_hbm() -> None:
    """Files from before the field existed are read, and written again, as they were."""
    adapter = TypeAdapter(CaseWorkload)
    old = adapter.dump_python(SCORES, mode="json")
    assert "placement" not in old
    assert validated(CaseWorkload, old, where="case") == SCORES
    placed = replace(SCORES, placement="tables=host")
    new = adapter.dump_python(placed, mode="json")
    assert new == {**old, "placement": "tables=host"}
    assert validated(CaseWorkload, new, where="case") == placed != SCORES
    assert placed.to_workload().placement == Placement(tables="host")
    assert SCORES.to_workload().placement == Placement()
    assert placed.label == f"{SCORES.label}, tables=host"
    with pytest.raises(InputError, match="placement"):
        validated(CaseWorkload, {**old, "placement": "tables=disk"}, where="case")


def test_a_case_is_of_a_workload_whose_tables_stand_in_the_same_place() -> None:
    placed = replace(SCORES, placement="tables=host")
    for case, placement, same in (
        (SCORES, Placement(), True),
        (SCORES, Placement(tables="host"), False),
        (placed, Placement(tables="host"), True),
        (placed, Placement(tables="host", host_memory_bytes=2**40), True),  # a limit, no place
        (placed, Placement(tables="host", hot_rows_bytes=2**20), False),
        (placed, Placement(), False),
        (SCORES, Placement(leaves=(("memory.values", "host"),)), False),
    ):
        assert case.places_tables_as(placement) is same, placement
