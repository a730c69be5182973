"""Winners and crossovers of a pair whose times are chosen, and errors by batch, by hand."""

from dataclasses import replace

import pytest

from costmodel.recordings.recording import Recording
from costmodel.validation.breakdowns import breakdowns
from costmodel.validation.machines import Gpus
from costmodel.validation.pairs import (
    PairPoint,
    crossovers,
    intervals,
    pair_points,
    winner_scores,
)
from costmodel.validation.validate import validate
from tests.committed import recording as committed
from tests.recording_values import case, leaf_paths, recording, run, workload
from tests.validation.tiny import DENSE, MOE

BATCHES = (1, 4, 16, 64)


def point(batch: int, measured: float, predicted: float | None) -> PairPoint:
    return PairPoint(
        quantity="graph_s",
        backend="torch",
        moe="A",
        memory="B",
        workload=workload(batch=batch, context=2048),
        measured=measured,
        predicted=predicted,
    )


def series(measured: list[float], predicted: list[float | None]) -> list[PairPoint]:
    return [point(*each) for each in zip(BATCHES, measured, predicted, strict=True)]


def test_a_crossover_lies_between_the_batches_where_the_winner_changes() -> None:
    """Measured: the memory model wins from batch 16 on; predicted: from 4 to 16 alone."""
    (one,) = crossovers(series([0.5, 0.9, 1.2, 1.5], [0.6, 1.1, 1.3, 0.9]))
    assert one.measured == ((4, 16),)
    assert one.predicted == ((1, 4), (16, 64))
    assert (one.met, one.invented) == (0, 2)
    (two,) = crossovers(series([0.5, 0.9, 1.2, 0.8], [0.6, 0.8, 1.3, 1.9]))
    assert (two.measured, two.met, two.invented) == (((4, 16), (16, 64)), 1, 0)


def test_no_crossover_is_predicted_where_a_batch_has_no_prediction() -> None:
    (one,) = crossovers(series([0.5, 0.9, 1.2, 1.5], [0.6, 1.1, None, 0.9]))
    assert one.predicted is None
    assert (one.met, one.invented) == (0, 0)


def test_a_ratio_of_exactly_one_is_no_winner_yet() -> None:
    assert intervals((1, 4, 16), (0.5, 1.0, 2.0)) == ((1, 16),)
    assert intervals((1, 4, 16), (0.5, 1.0, 0.9)) == ()


def test_winners_are_scored_by_all_gaps_and_by_clear_ones() -> None:
    """Gaps of 50, 4, 20 and 4 %: two are clear; the second and the third are told wrongly."""
    (score,) = winner_scores(series([0.5, 0.96, 1.2, 1.04], [0.5, 1.2, 0.6, 1.04]))
    assert (score.points, score.right, score.clear, score.clear_right) == (4, 2, 2, 1)
    assert score.ratio_mape == pytest.approx((0 + 0.25 + 0.5 + 0) / 4)
    assert not list(winner_scores(series([0.5] * 4, [None] * 4)))


def test_a_pair_is_one_of_experts_and_one_of_rows_of_about_one_size() -> None:
    """Of the committed ones: OLMoE against three memory models, not against the dense Llama."""
    names = ["olmoe-227m-1.2b", "ultramem-227m-1.2b", "olmoe-1b-7b", "llama-3.1-8b"]
    recordings = [(name, committed(f"h200-{name}.json")) for name in names]
    validation = validate(recordings, Gpus("none"))
    pairs = {(one.moe, one.memory) for one in validation.pairs}
    assert pairs == {("OLMoE-227M", "UltraMem-227M")}
    assert all(one.predicted is None for one in validation.pairs)  # bounds alone
    assert not list(winner_scores(validation.pairs))
    again = pair_points(recordings, validation.columns)
    assert tuple(again) == validation.pairs


def test_equal_workloads_of_one_backend_are_compared_and_no_others() -> None:
    """Ratio 3 / 2 at batch 4; batch 8 is measured of the MoE alone."""
    memory = committed("h200-ultramem-227m-1.2b.json").model
    times = {(MOE.name, 4): 3e-3, (MOE.name, 8): 5e-3}

    def timed(batch: int, seconds: float) -> Recording:
        return recording(memory, case(workload(batch=batch), time=run({"graph_s": seconds})))

    moe_model = committed("h200-olmoe-227m-1.2b.json").model
    moe = recording(
        moe_model,
        *(
            case(workload(batch=batch), time=run({"graph_s": seconds}))
            for (_, batch), seconds in times.items()
        ),
    )
    (only,) = validate([("moe", moe), ("memory", timed(4, 2e-3))], Gpus("none")).pairs
    assert only.workload.batch == 4
    assert only.measured == pytest.approx(1.5)


def test_errors_by_batch_and_model_are_those_of_their_steps() -> None:
    """Half and twice the predicted time at batch 1; a quarter more at batch 2."""
    two = replace(DENSE, name="Other")
    first = recording(DENSE, case(time=run({"graph_s": 1.0})), case(workload(batch=2)))
    gpus = Gpus()
    predicted = validate([("a", first)], gpus).columns["graph_s", "time"]
    one_s, two_s = (float(column.counterparts[0].value or 0) for _, column in predicted)
    made = [
        recording(DENSE, case(time=run({"graph_s": one_s / 2}))),
        recording(
            two,
            case(time=run({"graph_s": one_s * 2})),
            case(workload(batch=2), time=run({"graph_s": two_s * 1.25})),
        ),
    ]
    validation = validate([("a", made[0]), ("b", made[1])], gpus)
    found = {
        (one.by, one.value): one.errors
        for one in breakdowns(validation.columns)
        if one.quantity == "graph_s"
    }
    assert found["batch", 1].count == 2
    assert found["batch", 1].log_error == pytest.approx(1.0)
    assert found["batch", 1].mape == pytest.approx((1 + 0.5) / 2)
    assert found["batch", 2].mape == pytest.approx(0.2)
    assert found["model", "Other"].count == 2
    assert found["context", 3].count == 3


def test_layers_of_one_operator_are_one_pair_weighted_by_their_time() -> None:
    """Norms before attention, whose first is an operator of its own: 1 us; 2 and 4 us."""
    paths = leaf_paths(DENSE)
    seen = {f"layers.{layer}.attention_norm": 2.0**layer * 1e-6 for layer in range(3)}
    column = [seen.get(path) for path in paths]
    made = recording(DENSE, case(trace=run(operators={"kernel_s": column})))
    validation = validate([("a", made)], Gpus())
    (norms,) = (
        line
        for line in validation.errors_by_kind
        if (line.quantity, line.level) == ("kernel_s", "norm")
    )
    leaves = next(one for _, one in validation.columns["kernel_s", "trace"] if not one.of_step)
    counterparts = dict(zip(leaves.leaves.paths, leaves.counterparts, strict=True))
    first, others = (
        float(counterparts[f"layers.{layer}.attention_norm"].value or 0) for layer in (0, 1)
    )
    assert (norms.compared, norms.pairs) == (3, 2)
    off = abs(first / 1e-6 - 1), abs(others / 3e-6 - 1)  # the mean of 2 and 4 is 3
    assert norms.mape == pytest.approx(sum(off) / 2)
    assert norms.weighted_mape == pytest.approx((1 * off[0] + 6 * off[1]) / 7)
