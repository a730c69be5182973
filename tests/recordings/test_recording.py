"""What a recording holds, and that it comes back from its file as it was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from costmodel.errors import InputError
from costmodel.recordings.measured import (
    Accesses,
    Exact,
    ExactColumn,
    Missing,
    Spread,
    SpreadColumn,
)
from costmodel.recordings.quantities import QUANTITIES, RUNS, measured_in, unknown_names
from costmodel.recordings.recording import (
    Check,
    Recording,
    Run,
    RunResult,
    load_recording,
    recording_text,
)
from tests.inputs.damages import TIME, damaged
from tests.recording_values import (
    CONDITIONS,
    case,
    everything,
    leaf_paths,
    recording,
    run,
    session,
    workload,
    written,
)
from tests.reference_model.tiny import MODELS
from tests.steps import tiny_model

TINY = tiny_model()
CHOICES = Accesses(population=8, trials=3, draws=2, counts=((0, 4), (1, 2), (2, 2)))


@pytest.fixture
def made() -> Recording:
    """A number of every sort: exact, spread, missing; of the step, of leaves, of choices."""
    paths = leaf_paths(TINY)
    launches = [None, *([3] * (len(paths) - 1))]
    kernel_s = [None, *([1e-6] * (len(paths) - 1))]
    return recording(
        TINY,
        case(
            workload(phase="prefill", batch=2, new_tokens=5, context=0, routing="zipf:1.0"),
            time=run(
                {"parameters": 1672, "eager_s": 0.25, "graph_s": "not measured (no graph)"},
                {"launches": launches, "kernel_s": kernel_s},
                accesses={"layers.1.ffn.down": CHOICES},
            ),
            lacking={"counters": "not measured (no permission)"},
        ),
        sessions=(
            session(),
            replace(
                session(),
                self_check=(
                    Check(name="copy", known=1e9, measured=1.005e9, tolerance=0.01),
                    Check(name="copy", known=1e9, measured=1.02e9, tolerance=0.01),
                    Check(name="gemm", known=5.0, measured=5.0, tolerance=0.0),
                    Check(name="idle", known=1.0, measured=None, tolerance=0.1, reason="none"),
                ),
            ),
        ),
    )


def test_a_recording_comes_back_from_its_file_as_it_was(made: Recording, tmp_path: Path) -> None:
    assert load_recording(written(made, tmp_path)) == made


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_kind_comes_back_from_a_file(name: str, tmp_path: Path) -> None:
    whole = everything(MODELS[name], [workload()])
    assert load_recording(written(whole, tmp_path)) == whole


def test_the_file_is_one_line_of_json(made: Recording) -> None:
    text = recording_text(made)
    assert text.count("\n") == 1
    (only,) = json.loads(text)["cases"]
    step = only["runs"]["time"]["step"]
    assert step["parameters"] == {"value": 1672, "source": "cuda_event"}
    assert step["graph_s"] == {"reason": "not measured (no graph)"}
    assert only["lacking"] == {"counters": "not measured (no permission)"}


def test_a_run_says_its_backend_which_comes_back_from_the_file(
    made: Recording, tmp_path: Path
) -> None:
    (case_,) = made.cases
    assert {run_.backend for run_ in case_.runs.values()} == {"torch"}
    fused = replace(case_.runs["trace"], backend="fused")
    mixed = replace(made, cases=(replace(case_, runs={**case_.runs, "trace": fused}),))
    runs = json.loads(recording_text(mixed))["cases"][0]["runs"]
    assert [runs[name]["backend"] for name in ("time", "trace")] == ["torch", "fused"]
    read = load_recording(written(mixed, tmp_path)).cases[0].runs
    assert (read["time"].backend, read["trace"].backend) == ("torch", "fused")


def test_a_run_without_a_backend_is_of_torch(made: Recording, tmp_path: Path) -> None:
    path = tmp_path / "older.json"
    path.write_text(recording_text(made).replace('"backend":"torch",', ""))
    assert "backend" not in path.read_text()
    assert load_recording(path) == made


@pytest.mark.parametrize(
    "backend", ["", "Torch", "3x", "-x", "two words", "a/b", "torch\n", "x" * 41, 1, None]
)
def test_a_backend_is_a_short_identifier(backend: object, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(damaged((*TIME, "backend"), backend)))
    with pytest.raises(InputError, match=r"cases\.0\.runs\.time\.backend="):
        load_recording(path)


@pytest.mark.parametrize("backend", ["torch", "fused", "vllm_v1", "sglang-0-5"])
def test_a_backend_may_hold_digits_and_dashes(backend: str) -> None:
    made = Run.of_session(RunResult(conditions=CONDITIONS, backend=backend), 0)
    assert made.backend == backend


def test_a_result_enters_a_recording_as_a_run_of_a_session(made: Recording) -> None:
    run_ = made.cases[0].runs["time"]
    result = RunResult(
        conditions=run_.conditions,
        backend="fused",
        step=run_.step,
        operators=run_.operators,
        accesses=run_.accesses,
    )
    assert Run.of_session(result, 1) == replace(run_, backend="fused", session=1)


def test_each_sort_of_number_is_read_as_what_it_is(made: Recording, tmp_path: Path) -> None:
    runs = load_recording(written(made, tmp_path)).cases[0].runs
    timed, traced = runs["time"], runs["trace"]
    kinds = [type(timed.step[name]) for name in ("parameters", "eager_s", "graph_s")]
    assert kinds == [Exact, Spread, Missing]
    assert type(traced.operators["launches"]) is ExactColumn
    assert type(traced.operators["kernel_s"]) is SpreadColumn


def test_distinct_items_are_those_with_an_access() -> None:
    assert CHOICES.distinct == 4  # 2 + 2, and 4 of no access


def test_a_check_holds_within_its_tolerance(made: Recording) -> None:
    assert [check.passed for check in made.sessions[1].self_check] == [True, False, True, None]


def test_whole_numbers_may_stand_where_a_float_does(made: Recording, tmp_path: Path) -> None:
    path = tmp_path / "whole.json"
    path.write_text(recording_text(made).replace('"known":5.0', '"known":5'))
    assert load_recording(path) == made


def test_every_quantity_is_of_some_run_and_level() -> None:
    named = {
        (run, level, name)
        for run in RUNS
        for level in ("step", "operators")
        for name in measured_in(run, level)
    }
    assert {name for _, _, name in named} == set(QUANTITIES)
    assert ("time", "operators", "distinct") in named
    assert ("counters", "operators", "distinct") in named
    assert ("energy", "operators", "energy_j") not in named
    assert unknown_names(["graph_s", "speed", "energy_j"], "time", "step") == ["speed", "energy_j"]


def test_the_same_rules_hold_where_a_recording_is_made() -> None:
    with pytest.raises(ValidationError, match="'speed' is no quantity of this run"):
        recording(TINY, case(time=run({"speed": 1})))
    with pytest.raises(ValidationError, match="holds 2 values"):
        recording(TINY, case(time=run(operators={"launches": [1, 2]})))
