"""A step of more tokens than a histogram holds: null with the reason, from every command."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from costmodel.costs.beyond_histogram import beyond, without_nan
from costmodel.costs.columns import step_values
from costmodel.costs.predict import predict
from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.routing.by_population import ByPopulation
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.popularity import Uniform
from tests.commands import output, refusal
from tests.show.test_contract import nulls

TOKENS = 20  # that the traces hold
MOE, MEMORY = "olmoe-1b-7b", "memory-plus-227m-1.2b"
REASON = "the histogram holds 20 tokens; a step of 21 tokens is beyond it"


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """20 tokens chose 8 of 64 experts each: half of the experts once, the others four times."""
    counts = [[1, 32], [4, 32]]
    section = {"population": 64, "trials": TOKENS, "draws": 8, "counts": counts}
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"schema_version": 1, "source": "by hand", "experts": section}))
    return str(path)


def document(*arguments: str) -> Any:  # noqa: ANN401 - JSON
    def refused(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(output(*arguments, "--json"), parse_constant=refused)


def predicted(trace: str, batch: int, *options: str) -> Any:  # noqa: ANN401 - JSON
    return document("predict", MOE, "--routing", trace, "--batch", str(batch), *options)


@pytest.mark.parametrize("backend", ["torch", "fused"])
@pytest.mark.parametrize("calibration", [[], ["--calibration", "none"]])
def test_what_depends_on_the_experts_is_null_with_the_reason(
    trace: str, backend: str, calibration: list[str]
) -> None:
    whole, beyond = (
        predicted(trace, batch, "--backend", backend, *calibration)
        for batch in (TOKENS, TOKENS + 1)
    )
    assert whole["routing"]["expected_distinct_experts"] == 64  # all that the trace chose
    assert set(nulls(beyond)) == set(beyond["reasons"])
    new = set(nulls(beyond)) - set(nulls(whole))
    assert {"hbm_bytes.compulsory", "hbm_bytes.weights", "time.floor_s", "time.bound_by"} <= new
    assert {"operators.compulsory_bytes", "operators.parts.bytes", "operators.bound_by"} <= new
    assert all(REASON in beyond["reasons"][name] for name in new)
    assert not {"flops.total", "routing.flops", "memory.fits", "hbm_bytes.kv"} & new
    assert ("time.predicted_s" in new) == (not calibration)


def test_only_the_population_beyond_its_histogram_is_not_known(trace: str) -> None:
    beyond = document(
        *("predict", MEMORY, "--batch", "21", "--routing", f"experts={trace},rows=zipf:1.0")
    )
    assert beyond["workload"]["routing"] == "experts=histogram:trace,rows=zipf:1.0"
    assert beyond["time"]["floor_s"] > 0  # the model has no experts


def test_rows_of_a_shared_table_end_in_what_was_seen() -> None:
    """16 tokens of 4 heads: within the trace the union stays in the table, beyond it is null."""
    model, hardware = load_model(MEMORY), load_hardware("h200")
    memory = model.memory[0]
    population, heads, draws = memory.num_keys**2, memory.num_heads, memory.knn  # type: ignore[attr-defined]
    trials = 16 * heads
    once = trials * draws - 2 * 100
    rows = AccessCounts(
        population=population,
        trials=trials,
        draws=draws,
        counts=((1, once), (2, 100), (0, population - once - 100)),
    )
    routing = Histogram(label="histogram:trace", source="by hand", rows=rows)
    whole, beyond = (
        step_values(predict(model, Workload(batch=batch, routing=routing), hardware))
        for batch in (16, 17)
    )
    assert whole["routing.expected_distinct_rows"] == once + 100
    union = whole["routing.expected_distinct_rows_union"]
    assert isinstance(union, float)
    assert once + 100 < union < len(memory.placement(model.num_hidden_layers)) * (once + 100)
    for name in ("expected_distinct_rows", "expected_distinct_rows_union"):
        assert beyond[f"routing.{name}"] is None
    assert beyond["hbm_bytes.table_rows"] is None
    assert beyond["hbm_bytes.weights"] == pytest.approx(whole["hbm_bytes.weights"], rel=1e-3)


def test_tables_name_the_reason(trace: str) -> None:
    for command in (
        f"predict {MOE} --batch 21",
        f"sweep {MOE} --batch 1,21",
        f"explain {MOE} time.floor_s --batch 21",
        f"request {MOE} --prompt 1 --output 3 --batch 21",
    ):
        text = " ".join(output(*command.split(), "--routing", trace).split())
        assert REASON in text, command
        assert "nan" not in text.lower().replace("n/a", ""), command
    line = refusal("explain", MOE, "moe.experts", "--batch", "21", "--routing", trace)
    assert line.startswith("number='moe.experts': is not known (histogram:trace: ")
    assert REASON in line


def test_a_comparison_ends_where_the_histogram_does(trace: str) -> None:
    answer = document("compare", MOE, MOE, "--batch", "20,21", "--routing", trace)
    known, unknown = (
        [row["compulsory_bytes"] for row in answer["rows"][place : place + 2]] for place in (0, 2)
    )
    assert known[0] == known[1] > 0
    assert unknown == [None, None]
    assert REASON in answer["reasons"]["rows.compulsory_bytes"]
    assert REASON in answer["reasons"]["rows.predicted_s"]
    assert "beyond batch 20" in answer["reasons"]["advantages.batches"]
    assert all("up to 20. Batches beyond 20 are not known" in said for said in answer["findings"])


def test_requests_know_their_decode_steps_where_only_the_prefill_is_beyond(trace: str) -> None:
    sizes = ("--prompt", "5", "--output", "3", "--batch", "5")
    answer = document("request", MOE, *sizes, "--routing", trace)
    assert set(nulls(answer)) == set(answer["reasons"])
    assert answer["ttft"] == {"floor_s": None, "predicted_s": None, "bound_by": None}
    assert answer["latency"] == {"floor_s": None, "predicted_s": None}
    assert "a step of 25 tokens is beyond it" in answer["reasons"]["ttft.floor_s"]
    assert answer["tpot"]["floor_s"] > 0
    assert answer["hbm_bytes"]["decode"] > 0
    terms = output("explain", MOE, "flops.total", *sizes, "--routing", trace)
    assert "NaN" not in terms


def test_a_sweep_has_empty_cells(trace: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep.csv"
    routing = f"uniform,experts={trace},rows=zipf:1.0"
    output("sweep", MOE, "--batch", "1,20,21", "--routing", routing, "--out", str(path))
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["routing"] for row in rows] == ["uniform"] * 3 + [
        "experts=histogram:trace,rows=zipf:1.0"
    ] * 3
    assert [bool(row["time.floor_s"]) for row in rows] == [True] * 5 + [False]
    assert [bool(row["time.predicted_s"]) for row in rows] == [True] * 5 + [False]
    assert [row["time.bound_by"] for row in rows] == ["memory"] * 5 + [""]
    answer = document("sweep", MOE, "--batch", "1,21", "--routing", trace)
    (reasons,) = answer["reasons"].values()
    assert reasons["hbm_bytes.compulsory"] == f"histogram:trace: {REASON}"
    assert [row["hbm_bytes.compulsory"] is None for row in answer["rows"]] == [False, True]


def test_values_without_nan_stay_as_they_are() -> None:
    values: dict[str, Any] = {"time.floor_s": 1.0, "time.bound_by": "memory", "flops.total": 3}
    assert without_nan(values) == values


def test_rows_that_n_grams_address_have_the_reason_of_their_orders() -> None:
    """Of a text of 20 tokens, whatever the histogram says of rows that scores choose."""
    singles = AccessCounts(population=20, trials=20, draws=1, counts=((1, 20),))
    long = AccessCounts(population=30, trials=30, draws=1, counts=((1, 30),))
    text = Histogram(
        label="histogram:text",
        source="by hand",
        rows=singles,
        ngrams=((2, singles), (3, long), (4, singles)),
    )
    (operator,) = (
        each
        for each in step_costs(load_model(MEMORY), Workload(batch=21).step()).operators
        if each.touched is not None
    )
    touched = replace(operator.touched, distinct=math.nan, orders=(2, 3))  # type: ignore[type-var]
    addressed = replace(operator, touched=touched)
    for routing in (text, ByPopulation(experts=Uniform(), rows=Uniform(), ngrams=text)):
        reason = beyond([addressed], Workload(batch=21, routing=routing))
        assert reason is not None
        assert reason.reason == (
            "histogram:text: the histogram holds 20 n-grams of order 2;"
            " a step of 21 tokens is beyond it"
        )
    assert beyond([addressed], Workload(batch=21, routing=Uniform())) is None
