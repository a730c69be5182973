"""`sparsecost validate`: errors worked out by hand from recordings with chosen ratios."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.quantities import QUANTITIES
from costmodel.recordings.recording import Check, Recording
from costmodel.validation import case_prediction
from costmodel.validation.counterparts import COMPULSORY, MODEL_FLOPS, PREDICTED, ROOFLINE
from costmodel.validation.error_line import ErrorLine
from costmodel.validation.error_stats import ErrorStats, distance
from costmodel.validation.join import NO_RUN
from costmodel.validation.joined import AS_UNIFORM
from costmodel.validation.machines import Gpus
from costmodel.validation.names import short_names
from costmodel.validation.required_work import OperatorWork, operator_work, operator_works
from costmodel.validation.validate import Validation, validate, worst_first, worst_leaves
from tests.costs.calibrations import write
from tests.recording_values import (
    CPU,
    case,
    everything,
    leaf_paths,
    recording,
    run,
    session,
    workload,
)
from tests.sentences import says
from tests.validation.tiny import DENSE, MOE

PATHS = leaf_paths(DENSE)
# Resident: 3344 bytes of weights and 48 of cache for each of context + 1 tokens
AT_3, AT_4, AT_5, AT_6 = 3536, 3584, 3632, 3680


def two_cases() -> Recording:
    """Reads of twice and half of 3336 and, with a fourth cached token, 3384; one count is wrong."""
    return recording(
        DENSE,
        case(time=run({"parameters": 1672}), counters=run({"hbm_read_bytes": 6672.0})),
        case(
            workload(context=4),
            time=run({"parameters": 1671}),
            trace=run(operators={"launches": [0, *([1] * (len(PATHS) - 1))]}),
            counters=run({"hbm_read_bytes": 1692.0}),
        ),
    )


def resident(*measured: float) -> Recording:
    """Decode steps after 3, 4, ... cached tokens that hold so many bytes."""
    return recording(
        DENSE,
        *(
            case(workload(context=3 + i), time=run({"resident_memory_bytes": float(each)}))
            for i, each in enumerate(measured)
        ),
    )


def checked(*made: Recording) -> Validation:
    return validate([(f"r{i}", each) for i, each in enumerate(made)], Gpus("none"))


def line(
    found: Validation,
    quantity: str,
    level: str = "step",
    basis: str = PREDICTED,
    phase: str = "decode",
) -> ErrorLine:
    (only,) = [
        each
        for each in (*found.errors, *found.errors_by_kind)
        if (each.quantity, each.level, each.basis) == (quantity, level, basis)
        and each.phase in {phase, "both"}
        and each.run == QUANTITIES[quantity].runs[0]
    ]
    return only


def test_twice_and_half_are_each_100_percent_off() -> None:
    found = line(checked(resident(2 * AT_3, AT_4 / 2)), "resident_memory_bytes")
    assert (found.compared, found.equal, found.no_ratio) == (2, 0, 0)
    assert found.median_ratio == pytest.approx((2 + 0.5) / 2)
    assert found.error == pytest.approx(1.0)


def test_percentiles_are_of_the_ratios_between_which_they_lie() -> None:
    found = line(checked(resident(AT_3, 2 * AT_4, 3 * AT_5, 5 * AT_6)), "resident_memory_bytes")
    # Of four ratios 1, 2, 3, 5 the tenth lies 0.3 of the way from the first to the second
    assert found.low_ratio == pytest.approx(1.3)
    assert found.median_ratio == pytest.approx(2.5)
    assert found.high_ratio == pytest.approx(3 + 0.7 * 2)


def test_the_worst_row_is_the_farthest_on_either_side() -> None:
    found = line(checked(resident(2 * AT_3, AT_4 / 3, AT_5)), "resident_memory_bytes")
    assert found.worst is not None
    assert found.worst.row.ratio == pytest.approx(1 / 3)
    assert found.worst.origin.case == "decode, batch 1, context 4, bf16, uniform"


def test_a_ratio_to_a_bound_is_no_error() -> None:
    made = recording(DENSE, case(counters=run({"flops_tensor": 2.0 * (3056 + 384)})))
    found = line(checked(made), "flops_tensor", basis=MODEL_FLOPS)
    assert found.compared == 1
    assert found.median_ratio == 2
    assert found.error is None


def test_predicted_reads_have_an_error() -> None:
    """All fits L2, so what is predicted is what must be read; measured were twice and half."""
    found = line(checked(two_cases()), "hbm_read_bytes")
    assert found.median_ratio == pytest.approx(1.25)
    assert found.error == pytest.approx(1.0)


def test_exact_counts_say_how_many_are_equal() -> None:
    found = line(checked(two_cases()), "parameters")
    assert (found.compared, found.equal) == (2, 1)
    assert found.worst is not None
    assert (found.worst.row.predicted, found.worst.row.measured) == (1672, 1671)


def test_counts_that_differ_beyond_the_digits_of_a_float_are_not_equal() -> None:
    assert (2**53 + 1) / 2**53 == 1
    stats = ErrorStats()
    assert stats.count_compared([2**53 + 1], 2**53, bound=False) == 2**53 + 1
    assert (stats.compared, stats.equal) == (1, 0)
    assert 0 < distance(2**53, 2**53 + 1, PREDICTED) < 1e-300


def test_a_zero_beside_a_number_is_the_worst_of_all() -> None:
    found = line(checked(two_cases()), "launches", "leaf")
    assert found.no_ratio == 1
    assert found.worst is not None
    assert (found.worst.row.path, found.worst.row.measured) == ("embed", 0)
    assert found.compared == len(PATHS)
    assert found.predicted_only == len(PATHS)  # of the case that gives no launches


def test_a_zero_is_as_it_should_be_beside_a_zero_and_beside_a_bound() -> None:
    stats = ErrorStats()
    assert stats.count_compared([0], 0, bound=False) is None
    assert stats.count_compared([5], 0, bound=True) is None
    assert (stats.compared, stats.equal, stats.no_ratio, stats.worst_factor) == (2, 1, 1, 1.0)
    assert distance(0, 0.0, PREDICTED) == distance(0, 5.0, COMPULSORY) == 0


def test_a_number_too_small_for_a_ratio_is_as_a_zero() -> None:
    found = line(checked(resident(5e-324, AT_4)), "resident_memory_bytes")
    assert (found.compared, found.no_ratio) == (2, 1)
    assert found.median_ratio == 1
    assert found.worst is not None
    assert found.worst.row.measured == 5e-324


def test_decode_and_prefill_are_told_apart_where_they_differ_in_nature() -> None:
    prefill = workload(phase="prefill", context=0, new_tokens=4)
    time, trace = run({"parameters": 1672}), run({"launches": 90})
    made = case(time=time, trace=trace), case(prefill, time=time, trace=trace)
    found = checked(recording(DENSE, *made))
    for phase in ("decode", "prefill"):
        assert line(found, "launches", phase=phase).compared == 1
    assert line(found, "parameters").compared == 2


def test_kinds_are_told_apart() -> None:
    column = [1e-6] * len(PATHS)
    found = checked(recording(DENSE, case(trace=run(operators={"kernel_s": column}))))
    # 4 products in each of 3 layers, and the head; a lookup
    assert line(found, "kernel_s", "matmul", ROOFLINE).compared == 13
    assert line(found, "kernel_s", "gather", ROOFLINE).compared == 1
    gather = line(found, "kernel_s", "gather", ROOFLINE).median_ratio
    assert gather == pytest.approx(1e-6 / ((16 + 8) / 4.8e12))


def test_rows_by_recorded_choices_are_summed_up_with_the_predicted_ones() -> None:
    paths = leaf_paths(MOE)
    chosen = [4 if path.endswith("router") else None for path in paths]
    made = recording(
        MOE,
        case(workload(batch=2), time=run(operators={"distinct": chosen})),
        case(workload(batch=2, routing="scores"), time=run(operators={"distinct": chosen})),
        case(workload(batch=3, routing="scores")),
        paths=paths,
    )
    found = checked(made)
    distinct = next(each for each in found.errors if each.quantity == "distinct")
    assert (distinct.basis, distinct.compared, distinct.by_recorded_choices) == (PREDICTED, 6, 3)
    # 8 (1 - 9 / 16) distinct experts are predicted for two tokens under uniform routing
    assert distinct.median_ratio == pytest.approx((4 / 3.5 + 1) / 2)
    unseen = line(found, "distinct", "leaf", PREDICTED + AS_UNIFORM)
    assert (unseen.compared, unseen.predicted_only) == (0, 3)
    assert found.chosen_cases == 1


def test_every_row_is_counted_in_one_line_and_listed_once() -> None:
    full = everything(DENSE, [workload(), workload(batch=2)])
    found = checked(two_cases(), full, recording(DENSE, case(), sessions=(session(CPU),)))
    groups = [list(worst_first(columns)) for columns in found.columns.values()]
    listed = [entry for group in groups for entry in group]
    assert found.rows == len(listed) == len(set(listed))
    for group in groups:
        distances = [entry.distance for entry in group]
        assert distances == sorted(distances, reverse=True)
    lacking = [entry for entry in listed if None in {entry.row.predicted, entry.row.measured}]
    assert found.lacking_sides.total() == len(lacking)
    assert sum(each.compared for each in found.errors) == len(listed) - len(lacking)


def test_cases_that_lack_a_run_are_counted_by_the_reason() -> None:
    made = recording(DENSE, case(time=run(), trace=run(), lacking={"counters": "refused"}))
    assert checked(made, made).lacking_runs == {("counters", "refused"): 2, ("energy", NO_RUN): 2}


def test_the_worst_leaf_of_a_name_stands_for_all_layers() -> None:
    # One launch is predicted of the first norm and of the head, and two of the other norms, which
    # add first: 20, 10 and 5 times as many
    seen = {"lm_head": 20, "layers.0.attention_norm": 10, "layers.1.attention_norm": 10}
    launches = [seen.get(path) for path in PATHS]
    found = checked(recording(DENSE, case(trace=run(operators={"launches": launches}))))
    columns = found.columns["launches", "trace"]
    paths = [entry.row.path for entry in worst_leaves(columns, 9)]
    assert paths == ["lm_head", "layers.0.attention_norm"]
    assert [entry.row.path for entry in worst_leaves(columns, 1)] == ["lm_head"]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["OLMoE-227M/1.2B", "Llama-3.1-8B"], ["OLMoE-227M", "Llama-3.1-8B"]),
        (["PKM-16L-1024 (reconstruction)"], ["PKM-16L-1024"]),
        (["A-2.5B/60B-x (odd)", "A-2.5B/120B"], ["A-2.5B/60B-x", "A-2.5B/120B"]),
        (["A-1B/7B", "A-1B/7B", "B"], ["A-1B", "A-1B #2", "B"]),
        (["x" * 40], ["x" * 25 + "..."]),
    ],
)
def test_models_have_short_names_that_differ(names: list[str], short: list[str]) -> None:
    assert short_names(names, ["torch"] * len(names)) == short


def test_another_backend_is_no_second_of_a_name() -> None:
    backends = ["fused", "torch", "fused"]
    assert short_names(["A-1B/7B"] * 3, backends) == ["A-1B", "A-1B", "A-1B #2"]


def test_the_label_says_what_predicted(tmp_path: Path) -> None:
    made = recording(DENSE, case(), sessions=(session(), session(CPU)))
    named = validate([("r", made)], Gpus(write(tmp_path / "mine.json"))).calibrations
    processor, gpu = named
    assert says(processor, "A processor", "not predicted")
    assert says(gpu, "NVIDIA H200", "by hand", "2026-11-23")
    assert "no calibration is applied" in checked(made).calibrations[1]


def test_failed_checks_are_those_that_were_measured_and_did_not_hold() -> None:
    checks = (
        Check(name="copy", known=1e9, measured=1.02e9, tolerance=0.01),
        Check(name="copy", known=1e9, measured=1.005e9, tolerance=0.01),
        Check(name="idle", known=1.0, measured=None, tolerance=0.1, reason="none"),
    )
    made = recording(DENSE, case(), sessions=(session(), session(CPU, *checks)))
    (failed,) = checked(made).failed_checks
    assert (failed.recording, failed.name, failed.measured) == ("r0", "copy", 1.02e9)


def test_the_work_of_a_case_is_computed_once_for_both_backends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of recordings of one model that stand one after the other, as their file names do."""
    computed: list[tuple[str, int]] = []

    def counted(
        model: ModelConfig, workloads: Iterable[CaseWorkload]
    ) -> dict[CaseWorkload, tuple[OperatorWork, ...]]:
        of = list(workloads)
        computed.extend((model.name, workload.context) for workload in of)
        return operator_works(model, of)

    monkeypatch.setattr(case_prediction, "operator_works", counted)
    other = replace(DENSE, name="other")
    validate([("torch", two_cases()), ("fused", two_cases())], Gpus())
    validate([("torch", two_cases()), ("another", recording(other, case()))], Gpus())
    both = [(DENSE.name, 3), (DENSE.name, 4)]
    assert computed == [*both, *both, ("other", 3)]


def test_cases_that_are_costed_together_have_the_work_of_each_by_itself() -> None:
    """As arrays over batch and context or one by one: equal to the bit, also of a prefill."""
    cases = [
        workload(batch=1, context=2048),
        workload(batch=48, context=700, routing="zipf:1.0"),
        workload(batch=1024, context=12_000, routing="scores"),
        workload(phase="prefill", context=0, new_tokens=512),
        workload(phase="prefill", batch=2, context=0, new_tokens=512),
        workload(phase="prefill", context=0, new_tokens=2048),
    ]
    for name in ("olmoe-1b-7b", "ultramemv2-1b-7b", "engram-1b-7b-reconstruction"):
        model = load_model(name)
        together = operator_works(model, cases)
        assert list(together) == cases
        assert all(together[each] == operator_work(model, each) for each in cases)


def test_both_backends_of_a_case_have_the_prediction_that_each_has_by_itself() -> None:
    """Costs are shared; launches and times are those of the backend."""
    made, gpu = recording(DENSE, case()), Gpus().of("NVIDIA H200")
    shared = case_prediction.SharedPredictions().of(made)
    for backend in ("torch", "fused", "torch"):
        one = case_prediction.predict_case(made, made.cases[0], gpu, backend, shared)
        alone = case_prediction.predict_case(made, made.cases[0], gpu, backend)
        assert one.prediction == alone.prediction
        assert one.times == alone.times
        assert one.kernels.step_launches(one.costs.operators) == alone.kernels.step_launches(
            alone.costs.operators
        )
        assert one.counted_flops == alone.counted_flops


def test_a_recorded_case_is_predicted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many quantities and leaves stand beside it; `make bench` says how long that takes."""
    predicted: list[Workload] = []

    def counted(model: ModelConfig, given: Workload, *others: Any) -> Prediction:  # noqa: ANN401 - as of predict
        predicted.append(given)
        return predict(model, given, *others)

    monkeypatch.setattr(case_prediction, "predict", counted)
    assert validate([("two", two_cases())], Gpus()).rows > 2
    assert [given.context for given in predicted] == [3, 4]
