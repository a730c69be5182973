"""Shares of the bound in groups, as tables, JSON and CSV show them."""

import csv
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.questions.published import public_bounds as module
from costmodel.questions.published.public_bounds import RowBound, as_point, public_bounds
from costmodel.questions.published.public_rows import PublicRow, public_rows
from costmodel.questions.published.public_shares import Spread, by_batch, by_model, coverage, rules
from costmodel.show.tables.public import batch_table, range_label
from tests.commands import output

COSTED = next(row for row in public_rows() if row.id.startswith("rocm-"))
MEASURED_S = 1.0


def bound(share: float, **changes: object) -> RowBound:
    """A row that took a second, and a bound of `share` seconds."""
    row: PublicRow = replace(COSTED, measured_s=MEASURED_S, timed="tpot", **changes)  # type: ignore[arg-type]
    return RowBound(point=as_point(row, load_model(row.model)), bound_s=share)


def test_median_least_and_most_of_each_group() -> None:
    bounds = [
        *(bound(share) for share in (0.2, 0.5, 0.3)),
        bound(0.9, engine="sglang"),
        bound(0.4, gpus=1, tp=1),
    ]
    lines = by_model(bounds)
    assert [(line.engine, line.gpus, line.shares.rows) for line in lines] == [
        ("sglang", 8, 1),
        ("vllm", 1, 1),
        ("vllm", 8, 3),
    ]
    assert lines[2].shares == Spread(rows=3, least=0.2, median=0.3, most=0.5)


def test_the_rule_of_an_engine_leaves_out_shares_that_are_understated() -> None:
    step = bound(0.5, running=8.0)
    request = replace(step, point=replace(step.point, row=replace(step.row, timed="e2e")))
    alike = bound(0.1, running=8.0, model="mixtral-8x7b", prompts="not stated")
    (line,) = by_batch([step, request, alike])
    assert line.shares == Spread(rows=1, least=0.5, median=0.5, most=0.5)
    assert (line.engine, line.several_gpus, line.first, line.last) == ("vllm", True, 8, 31)
    assert line.models == ("llama-3.1-70b",)


@pytest.mark.parametrize(
    ("running", "label"),
    [(1, "1"), (7.9, "2-7"), (8, "8-31"), (127.5, "32-127"), (128, "128+"), (4000, "128+")],
)
def test_ranges_of_batches(running: float, label: str) -> None:
    (line,) = by_batch([bound(0.5, running=running)])
    assert range_label(line.first, line.last) == label
    table = batch_table([line])
    assert table.rows[0][table.headers.index(label)] == "50 % (1)"


def test_the_command_says_the_same_in_json_and_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "public_bounds", cache(public_bounds))  # once for both
    document = json.loads(output("reproduce", "--public", "--json"))
    output("reproduce", "--public", "--csv", str(tmp_path / "rows.csv"))
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(document["rows"]) == len(public_rows())
    for written, told in zip(rows, document["rows"], strict=True):
        assert written["id"] == told["id"]
        assert written["share"] == ("" if told["share"] is None else str(told["share"]))
        assert (told["skipped"] is None) == (told["share"] is not None)
        assert written["address"] == document["sources"][told["source"]]["address"]
    costed = [row for row in document["rows"] if row["share"] is not None]
    assert sum(line["rows"] for line in document["by_model"]) == len(costed)
    assert sum(document["skipped"].values()) == len(rows) - len(costed)
    assert all(row["share"] == row["bound_s"] / row["measured_s"] < 1 for row in costed)


def test_published_numbers_have_a_csv_file_too(tmp_path: Path) -> None:
    output("reproduce", "--csv", str(tmp_path / "numbers.csv"))
    with (tmp_path / "numbers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    told = json.loads(output("reproduce", "--json"))
    assert [row["what"] for row in rows] == [number["what"].replace("\t", " ") for number in told]


def test_a_rule_says_how_many_times_its_bound_a_step_takes() -> None:
    few = [bound(0.5, running=1.0)] * 9
    some = [bound(0.5, running=8.0)] * 10
    many = [bound(0.25, running=200.0)] * 12
    assert rules(by_batch(few)) == (
        "vllm on several GPUs: no rule, as no range of batches has 10 rows.",
    )
    assert rules(by_batch(few + some)) == (
        "vllm on several GPUs: a step takes about 2.0 times its bound (10 rows).",
    )
    (rule,) = rules(by_batch(some + many))
    assert "about 2.0 (from 8 sequences) to 4.0 (from 128) times its bound (22 rows)" in rule


def test_rows_are_counted_with_the_reasons_why_they_lack_a_bound() -> None:
    rows = [COSTED, replace(COSTED, id="x", gpu="none"), replace(COSTED, id="y", weights="odd")]
    lines = coverage(rows, public_bounds(rows))
    assert [(line.of, line.name, line.rows, line.bounded) for line in lines] == [
        ("engine", "vllm", 3, 1),
        ("gpu", "mi300x", 2, 1),
        ("gpu", "none", 1, 0),
        ("model", "llama-3.1-70b", 3, 1),
    ]
    assert lines[0].skipped == {
        "no preset of the GPU none": 1,
        "the format of the weights odd is not known": 1,
    }
