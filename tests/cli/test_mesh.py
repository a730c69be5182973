"""Several GPUs on the command line: each command tells those of its steps, or refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import output, refusal
from tests.show.test_contract import nulls

PAIR = ("moe-2.5b-120b", "ultramemv2-2.5b-120b")
LLAMA = "llama-3.1-70b"


def document(*arguments: str) -> dict[str, Any]:
    found = json.loads(output(*arguments, "--json"))
    assert isinstance(found, dict)
    return found


def test_a_request_costs_what_all_its_gpus_do() -> None:
    sizes = ("--prompt", "64", "--output", "8", "--batch", "8", "--price-per-hour", "2.5")
    found = document("request", LLAMA, *sizes, "--tp", "4", "--dp", "2")
    assert found["parallel"]["gpus"] == 8
    hours = found["latency"]["predicted_s"] / 3600
    assert found["cost"]["predicted_usd"] == pytest.approx(8 * 2.5 * hours)
    assert set(nulls(found)) == set(found["reasons"])


def test_a_request_waits_for_its_exchanges() -> None:
    """Of the prefill those of `predict`, as of the last decode step."""
    mesh = ("--tp", "8", "--batch", "4")
    found = document("request", LLAMA, "--prompt", "64", "--output", "9", *mesh)
    prefill = ("--phase", "prefill", "--new-tokens", "64", "--context", "0")
    for name, step in (("prefill", prefill), ("last_decode", ("--context", "71"))):
        alone = document("predict", LLAMA, *step, *mesh)["parallel"]["communication"]
        assert found["parallel"][f"{name}_exchanges_s"] == alone["time_s"]


def test_one_mesh_serves_prompt_and_output() -> None:
    """Of 32,768 prompt tokens a sequence, activations of the prefill are the most."""
    sizes = ("--prompt", "32768", "--output", "2", "--batch", "32", "--gpus", "auto")
    found = document("request", "olmoe-1b-7b", *sizes)
    assert found["workload"]["prefill"]["mesh"] == found["workload"]["last_decode"]["mesh"]
    assert found["memory"]["fits"]
    assert found["parallel"]["gpus"] > 1


def test_a_price_is_told_of_one_and_of_all() -> None:
    text = output("request", LLAMA, "--tp", "4", "--price-per-hour", "2", "--output", "2")
    (line,) = (line for line in text.splitlines() if line.startswith("Price"))
    assert line.split()[1] == "2"
    assert "8 USD for that of all 4" in line


def test_rows_of_a_comparison_tell_their_gpus(tmp_path: Path) -> None:
    """The pair has 240 GB of weights in bf16: two H200s; DeepSeek's 1.34 TB take sixteen."""
    file = tmp_path / "rows.csv"
    assert output("compare", *PAIR, "--batch", "1,64", "--gpus", "auto", "--csv", str(file)) == ""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["gpus"] for row in rows] == ["2"] * 4
    assert {row["mesh"] for row in rows} == {"2 GPUs (tp 2)"}
    alone = document("predict", PAIR[1], "--batch", "64", "--tp", "2")["parallel"]
    assert float(rows[3]["exchanges_s"]) == alone["communication"]["time_s"]
    assert int(rows[3]["memory_per_gpu_bytes"]) == alone["per_gpu"]["total_bytes"]


def test_a_comparison_on_one_gpu_says_so() -> None:
    rows = document("compare", "olmoe-1b-7b", "ultramemv2-1b-7b", "--batch", "1,64")["rows"]
    assert {(row["gpus"], row["mesh"], row["exchanges_s"]) for row in rows} == {(1, "1 GPU", 0.0)}
    assert all(row["memory_per_gpu_bytes"] == row["memory_bytes"] for row in rows)


def test_auto_that_needs_one_gpu_finds_the_usual_crossovers() -> None:
    models = ("olmoe-1b-7b", "ultramemv2-1b-7b", "--batch", "1,64")
    alone, chosen = document("compare", *models), document("compare", *models, "--gpus", "auto")
    assert chosen["findings"] == alone["findings"]
    assert chosen["advantages"] == alone["advantages"]


def test_a_match_is_costed_on_the_gpus_of_each_model() -> None:
    found = document("match", PAIR[0], "--to", PAIR[1], "--gpus", "2")
    lines = {(line["quantity"], line["batch"]): line for line in found["beside"]}
    assert lines["rows.gpus", 1]["target"] == 2
    alone = document("predict", PAIR[0], "--batch", "64", "--gpus", "2")
    assert lines["time.predicted_s", 64]["target"] == alone["time"]["predicted_s"]
    assert ("memory.max_batch", None) not in lines  # a mesh changes it


def test_bytes_are_set_equal_on_one_gpu() -> None:
    options = ("--equal", "parameters,bytes", "--gpus", "2")
    assert "one GPU" in refusal("match", PAIR[0], "--to", PAIR[1], *options)


@pytest.mark.parametrize(
    ("number", "options", "named"),
    [
        ("lm_head", ("--tp", "8"), "mesh of 8"),
        ("parallel.per_gpu.flops", (), "several GPUs"),
        ("parallel.prefill_exchanges_s", ("--prompt", "8"), "several GPUs"),
    ],
)
def test_what_is_not_explained_is_refused(
    number: str, options: tuple[str, ...], named: str
) -> None:
    assert named in refusal("explain", LLAMA, number, *options)


def test_explained_exchanges_sum_to_their_time() -> None:
    found = document("explain", LLAMA, "parallel.communication.time_s", "--tp", "8")
    place = len(found["terms"]["columns"]) - 1
    sums = sum(row[place] for row in found["terms"]["rows"])
    assert sums == pytest.approx(found["value"])
    alone = document("predict", LLAMA, "--tp", "8")["parallel"]["communication"]["time_s"]
    assert found["value"] == alone


def test_a_report_holds_the_mesh_and_is_read_again(tmp_path: Path) -> None:
    first, again = tmp_path / "a.json", tmp_path / "b.md"
    options = ("--tp", "2", "--compare-batch", "1,64", "--out", str(first))
    assert output("report", *PAIR, "--batch", "64", *options) == ""
    step = json.loads(first.read_text())["steps"][1]
    alone = document("predict", PAIR[1], "--batch", "64", "--tp", "2")["parallel"]
    assert step["mesh"] == "2 GPUs (tp 2)"
    assert step["values"]["parallel.communication.time_s"] == alone["communication"]["time_s"]
    assert [line["path"] for line in step["exchanges"]] == [
        exchange["path"] for exchange in alone["exchanges"]
    ]
    assert output("report", str(first), "--out", str(again)) == ""
    assert "2 GPUs (tp 2)" in again.read_text()
