"""What a recording saw chosen, as a routing: predictions of a model's own scores, by hand."""

import pytest

from costmodel.costs.operators import build_operators
from costmodel.inputs.workload import Workload
from costmodel.recordings.measured import Accesses
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.join import join_case
from costmodel.validation.joined import AS_UNIFORM, BY_RECORDED_CHOICES, Row
from costmodel.validation.machines import Gpus
from costmodel.validation.recorded_routing import (
    RecordedRouting,
    recorded_distinct,
    recorded_routing,
    selectors_by_module,
)
from reference_model.model import build_model
from reference_model.routing import selectors
from tests.recording_values import case, leaf_paths, recording, run, workload
from tests.strategies import PRESETS
from tests.validation.tiny import MOE, ROUTERS


def test_a_number_that_was_seen_stands_whatever_the_draws() -> None:
    seen = RecordedRouting(experts=5.0, rows=None)
    assert seen.label == "recorded"
    assert seen.expected_distinct(8, 2, 100, kind="experts") == 5
    assert seen.expected_distinct(8, 2, 100, kind="rows") == 2


def test_means_of_repeated_counts_are_read_as_well() -> None:
    counts = [2.5 if path in ROUTERS else None for path in leaf_paths(MOE)]
    timed = run(operators={"distinct": counts})
    made = recording(MOE, case(time=timed))
    assert recorded_distinct(made, timed) == dict.fromkeys(ROUTERS, 2.5)


def test_scores_without_any_recorded_choice_are_predicted_as_uniform() -> None:
    made = recording(MOE, case(workload(routing="scores"), time=run()))
    assert recorded_routing(made, made.cases[0].runs["time"]) is None
    rows = join_case(made, 0, Gpus("none")).rows
    (first, *_) = [row for row in rows if row.quantity == "distinct"]
    assert (first.predicted, first.basis) == (2.0, PREDICTED + AS_UNIFORM)


@pytest.mark.parametrize("name", PRESETS)
def test_the_leaves_that_choose_are_those_of_the_reference_model(name: str) -> None:
    operators = build_operators(PRESETS[name], Workload().step())
    found = {path for path, _ in selectors_by_module(operators).values()}
    assert found == set(selectors(build_model(PRESETS[name], device="meta")))


def test_a_case_of_the_models_own_scores_is_predicted_by_what_it_touched() -> None:
    chosen = dict(zip(ROUTERS, (2, 4, 6), strict=True))
    made = recording(
        MOE,
        case(
            workload(batch=3, routing="scores"),
            time=run(operators={"distinct": [chosen.get(path) for path in leaf_paths(MOE)]}),
        ),
    )
    assert recorded_routing(made, made.cases[0].runs["time"]) == RecordedRouting(
        experts=4.0, rows=None
    )

    def row(name: str, path: str | None) -> Row:
        rows = join_case(made, 0, Gpus("none")).rows
        return next(each for each in rows if (each.quantity, each.path) == (name, path))

    router = row("distinct", ROUTERS[0])
    assert (router.predicted, router.measured, router.basis) == (
        4.0,
        2,
        PREDICTED + BY_RECORDED_CHOICES,
    )
    # An expert: 16 x 8 and 8 x 8 weights of 2 bytes
    experts = row("hbm_read_bytes", "layers.0.moe.experts")
    assert (experts.predicted, experts.basis) == (4 * 384, PREDICTED + BY_RECORDED_CHOICES)
    assert row("parameters", None).basis == PREDICTED


def test_a_histogram_speaks_where_no_distinct_column_does() -> None:
    choice = Accesses(population=8, trials=3, draws=2, counts=((0, 5), (2, 3)))
    made = recording(
        MOE, case(workload(batch=3, routing="scores"), time=run(accesses={ROUTERS[1]: choice}))
    )
    assert recorded_routing(made, made.cases[0].runs["time"]) == RecordedRouting(
        experts=3.0, rows=None
    )
