"""Predicted times from the command line: JSON, tables, sweeps and comparisons."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel import units
from costmodel.costs import calibrations as module
from costmodel.costs.columns import PREDICTED
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.predict import predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import MAX_BATCH, MAX_CONTEXT, Workload
from costmodel.questions.compare import advantage, compare
from costmodel.questions.sweep import sweep
from costmodel.routing.popularity import Routing, Uniform, Zipf
from costmodel.show.prediction_json import prediction_json
from tests.commands import output, refusal
from tests.costs.calibrations import curves, write
from tests.sentences import says
from tests.show.test_contract import nulls
from tests.strategies import PRESETS

MODEL = "ultramemv2-227m-1.2b"
HAND = curves()
H200, B200 = load_hardware("h200"), load_hardware("b200")
NONE = Unknown(reason="none for this GPU")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return write(tmp_path / "mine.json")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "shipped").mkdir()
    write(tmp_path / "shipped" / "h200.json")
    monkeypatch.setattr(module, "FOLDER", tmp_path / "shipped")
    yield
    module._shipped.cache_clear()


def document(*options: str) -> dict[str, Any]:
    data = json.loads(output("predict", MODEL, *options, "--json"))
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("phase", ["decode", "prefill"])
def test_the_json_holds_times_and_adds_up(path: str, phase: str) -> None:
    predicted = document("--calibration", path, "--phase", phase)
    time, routing, tokens = (
        predicted["time"],
        predicted["routing"],
        1 if phase == "decode" else 2048,
    )
    assert (
        time["predicted_s"]
        == time["predicted_graph_s" if phase == "decode" else "predicted_eager_s"]
    )
    assert time["tokens_per_s"] == tokens / time["predicted_s"]
    total = sum(op["count"] * op["predicted_s"] for op in predicted["operators"])
    assert time["predicted_graph_s"] == pytest.approx(total, rel=1e-12)
    chosen = sum(
        op["count"] * part["predicted_s"]
        for op in predicted["operators"]
        for part in op["parts"]
        if part["routing"]
    )
    assert routing["time_s"] == pytest.approx(chosen, rel=1e-9)
    assert routing["share_of_time"] == routing["time_s"] / time["predicted_graph_s"]
    assert 0 < routing["share_of_time"] < 1
    assert predicted["energy"]["j_per_token"] == predicted["energy"]["predicted_j"] / tokens
    assert predicted["calibration"] == {
        "name": "by hand",
        "machine": "NVIDIA H200",
        "started": "2026-11-23T12:00:00Z",
        "driver": "580.1",
        "torch": "2.11.0+cu130",
        "commit": "0123abc",
    }
    assert set(nulls(predicted)) == set(predicted["reasons"])
    assert {each.split(".")[0] for each in predicted["reasons"]} <= {
        "hbm_bytes",
        "operators",
        "routing",
        "time",  # of the interval alone, which single kernels do not give
    }
    lacking = [each for each in predicted["reasons"] if each.endswith(("_s", "_j"))]
    assert lacking == ["time.interval_s"]


def test_what_a_calibration_lacks_is_null_with_its_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", power=None, commit=None)
    predicted = document("--calibration", path)
    assert predicted["energy"] == {"predicted_j": None, "j_per_token": None}
    assert predicted["reasons"]["energy.predicted_j"] == "the calibration measured no power"
    assert predicted["reasons"]["calibration.commit"].startswith("not recorded")
    assert set(nulls(predicted)) == set(predicted["reasons"])


@pytest.mark.usefixtures("shipped")
def test_the_gpus_own_is_the_default() -> None:
    assert document()["calibration"]["name"] == "by hand"
    none = document("--calibration", "none")
    assert none["calibration"] is None
    assert none["time"]["predicted_s"] is None
    assert "--calibration none" in none["reasons"]["time.predicted_s"]
    other = document("--hardware", "b200")
    reason = "no calibration for GPU 'b200'; `sparsecost calibrate` makes one"  # nor leaves
    assert {other["reasons"][name] for name in (*PREDICTED, "calibration")} == {reason}
    message = refusal("predict", MODEL, "--hardware", "b200", "--calibration", "h200")
    assert message.startswith("calibration='h200': was measured on hardware='h200'")


def test_the_time_of_another_dtype_is_transferred_and_its_energy_null(path: str) -> None:
    predicted = document("--calibration", path, "--dtype", "fp8")
    assert predicted["time"]["transferred_from"] == "h200"
    assert predicted["time"]["not_measured"] == "in these formats"
    low, high = predicted["time"]["interval_s"]
    assert low < predicted["time"]["predicted_s"] < high
    assert predicted["energy"]["predicted_j"] is None
    assert predicted["calibration"]["name"] == "by hand"
    assert set(nulls(predicted)) == set(predicted["reasons"])


def test_tables_name_the_calibration_and_claim_nothing(path: str) -> None:
    options = ("--calibration", path)
    for command in (("predict", MODEL), ("compare", MODEL, "olmoe-227m-1.2b")):
        text = output(*command, *options)
        assert says(text, "by hand", "NVIDIA H200", "580.1")
        assert "sparsecost validate" in text
        fused = " ".join(output(*command, *options, "--backend", "fused").split())
        assert "no calibration holds times of the kernels of the backend fused" in fused
        assert "Predicted by" not in output(*command, "--calibration", "none")
    fused = output("predict", "peer-12l-1m", *options, "--backend", "fused")
    reason = "the backend fused has no kernels for an ungated feed-forward layer"
    assert reason in " ".join(fused.split())
    text = output("predict", MODEL, *options)
    time = predict(load_model(MODEL), Workload(), H200, HAND).time
    assert isinstance(time, StepTime)
    assert f"predicted time {units.seconds(units.rounded(float(time.graph_s), 3))}" in re.sub(
        " +", " ", text
    )


def records(*options: str) -> list[dict[str, Any]]:
    rows = json.loads(output("sweep", MODEL, "olmoe-227m-1.2b", *options, "--json"))["rows"]
    assert isinstance(rows, list)
    return rows


@pytest.mark.usefixtures("shipped")
def test_a_sweep_has_the_columns_where_a_calibration_is_used() -> None:
    rows = records("--batch", "1,7", "--context", "0,9", "--hardware", "h200,b200")
    for row in rows:
        known = row["hardware"] == H200.name
        assert {(row[name] is not None) for name in PREDICTED} == {known}
        assert row["calibration"] == ("by hand" if known else None)
        if known:
            work = Workload(batch=row["batch"], context=row["context"])
            model = MODEL if row["model"].startswith("Ultra") else "olmoe-227m-1.2b"
            one = predict(load_model(model), work, H200, HAND).time
            assert isinstance(one, StepTime)
            assert row["time.predicted_s"] == pytest.approx(one.graph_s, rel=1e-12)
    assert not set(PREDICTED) & set(records("--calibration", "none")[0])
    text = output("sweep", MODEL, "--hardware", "h200,b200")
    assert "predicted" in text
    assert "n/a" in text
    assert text.count("Predicted by calibration by hand") == 1
    assert refusal("sweep", MODEL, "--hardware", "h200,b200", "--calibration", "h200")


@settings(max_examples=80)
@given(
    name=st.sampled_from(sorted(PRESETS)),
    phase=st.sampled_from(["decode", "prefill"]),
    new=st.integers(1, 2**24),
    batches=st.lists(st.integers(1, 2**10) | st.integers(1, MAX_BATCH), min_size=1, max_size=3),
    contexts=st.lists(st.integers(0, MAX_CONTEXT), min_size=1, max_size=3),
    routings=st.lists(st.sampled_from([Uniform(), Zipf(1.0)]), min_size=1, max_size=2),
    each=st.sampled_from([[HAND], [HAND, NONE], [NONE, HAND], [HAND, curves(power=None)]]),
)
def test_every_point_of_a_sweep_is_its_own_prediction(
    *,
    name: str,
    phase: Any,  # noqa: ANN401 - hypothesis draws it
    new: int,
    batches: list[int],
    contexts: list[int],
    routings: list[Routing],
    each: list[Curves | Unknown],
) -> None:
    work = Workload(phase=phase, new_tokens=new if phase == "prefill" else 1)
    gpus = [H200, B200][: len(each)]
    axes: Any = {"batches": batches, "contexts": contexts, "routings": routings}
    grid = sweep(PRESETS[name], work, **axes, hardwares=gpus, calibrations=each)
    rows = iter(grid.records())
    for routing in routings:
        for gpu, by in zip(gpus, each, strict=True):
            for batch in batches:
                for context in contexts:
                    one = replace(work, routing=routing, batch=batch, context=context)
                    tree = prediction_json(predict(PRESETS[name], one, gpu, by))
                    row = next(rows)
                    for column in PREDICTED:
                        section, _, field = column.partition(".")
                        expected = tree[section][field]
                        assert row[column] == (expected and pytest.approx(expected, rel=1e-12))
                        assert type(row[column]) is type(expected)


def test_a_large_sweep_is_evaluated_in_blocks_like_a_small_one() -> None:
    axes: Any = {"routings": [Uniform()], "hardwares": [H200], "calibrations": [HAND]}
    model = PRESETS["olmoe-1b-7b"]
    contexts = range(0, 90_000, 100)
    large = sweep(model, Workload(), batches=range(1, 201), contexts=contexts, **axes)
    column = large.columns["time.predicted_s"]
    assert column.dtype == np.float64
    small = sweep(model, Workload(), batches=[77], contexts=contexts, **axes)
    np.testing.assert_allclose(column[:, :, 76:77], small.columns["time.predicted_s"], rtol=1e-12)


SLOW_HOST = curves(launch={"graph_s": 1e-6, "eager_s": 1e-4})  # orders eager steps otherwise


@pytest.mark.parametrize(("name", "by"), [(MODEL, HAND), ("olmoe-1b-7b", SLOW_HOST)])
def test_a_comparison_says_where_the_predicted_time_is_lower(name: str, by: Curves) -> None:
    models = [load_model("olmoe-227m-1.2b"), load_model(name)]
    comparison = compare(models, Workload(), H200, batches=(1, 64), calibration=by)
    (timed,) = (each for each in comparison.advantages if each.metric == "time.predicted_s")
    intervals = advantage(
        models[1], models[0], Workload(), H200, "time.predicted_s", calibration=by
    )
    assert timed.intervals == intervals
    for batch in (1, 3, 10, 64, 300, 5000, MAX_BATCH):
        one, other = (predict(model, Workload(batch=batch), H200, by).time for model in models)
        assert isinstance(one, StepTime)
        assert isinstance(other, StepTime)
        inside = any(a <= batch <= (b or MAX_BATCH) for a, b in intervals)
        assert inside == (other.graph_s < one.graph_s)


def test_the_json_of_a_comparison_holds_predicted_times(path: str) -> None:
    command = ("compare", MODEL, "olmoe-227m-1.2b", "--batch", "1,64", "--json", "--calibration")
    rows_json = json.loads(output(*command, path))
    assert rows_json["calibration"]["name"] == "by hand"
    assert rows_json["reasons"] == {}
    assert all(row["predicted_s"] > row["floor_s"] for row in rows_json["rows"])
    without = json.loads(output(*command, "none"))
    assert without["calibration"] is None
    assert all(row["predicted_s"] is None for row in without["rows"])
    assert set(without["reasons"]) == {
        *("calibration", "rows.predicted_s", "rows.predicted_j", "rows.predicted_exposed_s")
    }
