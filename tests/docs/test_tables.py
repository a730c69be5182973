"""The tables of docs/ against the recordings' JSON, computed without the project's joins.

`docs.tables` makes them with the project's own code; here their cells come from the JSON itself.
"""

import json

import pytest

from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from tests.committed import FIRST, recording
from tests.recorded_json import (
    COMPARISON,
    LARGE,
    MEASURING,
    SMALL,
    leaf_sum,
    percent,
    recorded,
    step_value,
    table,
)


def test_measured_columns_of_the_pairs_are_the_recordings() -> None:
    rows = table(COMPARISON, "pair_steps")
    assert len(rows) == 16
    for model, batch, predicted_ms, ms, ratio, _, gb, _ in rows:
        assert float(ms) == pytest.approx(
            step_value(model, "graph_s", batch=int(batch)) * 1e3, abs=0.005
        )
        assert float(gb) == pytest.approx(
            step_value(model, "hbm_read_bytes", batch=int(batch)) / 1e9, abs=0.0005
        )
        assert float(ratio) == pytest.approx(float(ms) / float(predicted_ms), abs=0.01)
    assert {row[0] for row in rows} == {*SMALL, *LARGE}


def test_the_compulsory_column_of_the_pairs_is_the_formula() -> None:
    for model, batch, *_, compulsory, _, ratio in table(COMPARISON, "pair_steps"):
        sums = step_costs(
            recording(f"h200-{model}.json").model, Workload(batch=int(batch), context=2048).step()
        ).totals
        vocabulary = recorded(model)["model"]["vocab_size"]
        written = sums.kv_written_bytes + vocabulary * 2 * int(batch)
        read = float(sums.compulsory_bytes - written)
        assert float(compulsory) == pytest.approx(read / 1e9, abs=0.0005)
        assert 1 <= float(ratio) < 1.01  # as its text says


def test_ratios_of_pairs_are_the_recordings() -> None:
    rows = table(MEASURING, "pairs")
    assert len(rows) == 6 + 5
    for pair, batch, *cells, _ in rows:
        names = pair.split(" / ")
        for cell, quantity in zip(cells, ("hbm_read_bytes", "graph_s", "energy_j"), strict=True):
            moe, memory = (
                step_value(name, quantity, batch=int(batch.replace(",", ""))) for name in names
            )
            assert float(cell) == pytest.approx(moe / memory, abs=0.005)


def test_self_checks_are_the_recordings() -> None:
    checks: dict[str, list[float]] = {}
    for path in FIRST:
        for session in json.loads(path.read_text())["sessions"]:
            for check in session["self_check"]:
                checks.setdefault(check["name"], []).append(check["measured"] / check["known"])
    rows = {row[0]: row for row in table(MEASURING, "self_check")}
    assert rows.keys() == checks.keys()
    for name, shares in checks.items():
        assert rows[name][2] == f"{min(shares):.5f} to {max(shares):.5f}"
        assert rows[name][4] == f"{len(shares)} of {len(shares)}"


def test_shares_of_routing_are_kernel_times_of_leaves_that_choose() -> None:
    choosing = (".moe.router", ".memory.query", ".memory.retrieve")
    for model, *cells in table(MEASURING, "routing"):
        for batch, cell in zip((1, 4, 16, 64, 256, 1024), cells, strict=True):
            if cell == "-":
                assert (model, batch) in {(each, 1024) for each in LARGE}
                continue
            share = leaf_sum(model, "trace", "kernel_s", choosing, batch) / step_value(
                model, "kernel_s", batch=batch
            )
            assert percent(cell) == pytest.approx(share, abs=0.0005)
            if model in {SMALL[1], LARGE[1]} and batch <= 16:
                assert share > 2 / 5


def test_mbu_is_bytes_over_time_and_4_8_tb_per_s() -> None:
    """Of Llama, which chooses nothing: its compulsory bytes are those of any step."""
    ((_, *cells),) = [row for row in table(MEASURING, "mbu") if row[0] == "llama-3.1-8b"]
    for batch, cell in zip((1, 4, 16, 64, 256), cells, strict=False):
        sums = step_costs(
            load_model("llama-3.1-8b"), Workload(batch=batch, context=2048).step()
        ).totals
        seconds = step_value("llama-3.1-8b", "graph_s", batch=batch)
        share = float(sums.compulsory_bytes) / seconds / 4.8e12
        assert percent(cell) == pytest.approx(share, abs=0.0005)


def test_tiles_are_padded_as_the_text_says() -> None:
    """Rows of a product: 1 of 8 or of 64; of an expert: 1 of 128, or 8 on average at batch 64."""
    rows = {(row[0].strip("`"), row[1]): row[2:] for row in table(MEASURING, "tiles")}
    assert rows["ffn.gate_up", "llama-3.1-8b"][:2] == ["8.0", "2.0"]
    assert rows["memory.query", "ultramemv2-1b-7b"][:2] == ["64.0", "16.0"]
    experts = rows["moe.experts", "olmoe-1b-7b"]
    assert experts[0] == f"{128 / 1:.1f}"
    assert experts[3] == f"{128 * 64 / (64 * 8):.1f}"  # of 64 experts all are touched
    executed = leaf_sum("olmoe-1b-7b", "counters", "flops_tensor", (".moe.experts",), 1)
    useful = 16 * 8 * 3 * 2 * 2048 * 1024  # layers, experts, matrices of 2048 x 1024
    assert executed == useful * 128
    for model in (*SMALL, *LARGE, "llama-3.1-8b"):
        for batch in (1, 4, 16, 64, 256):
            flops = step_value(model, "flops_tensor", batch=batch)
            assert flops / step_value(model, "graph_s", batch=batch) < 989.4e12 / 4  # dense bf16
    one_head, four_heads = (
        float(rows["attention.core", model][0]) for model in ("olmoe-1b-7b", "llama-3.1-8b")
    )
    assert one_head == pytest.approx(4 * four_heads, rel=0.02)


def test_rates_are_bytes_over_kernel_time() -> None:
    for leaf, model, *cells in table(MEASURING, "rates"):
        for batch, cell in zip((1, 4, 16, 64, 256), cells, strict=True):
            ends = (f".{leaf.strip('`')}",)
            read = leaf_sum(model, "counters", "hbm_read_bytes", ends, batch)
            rate = read / leaf_sum(model, "trace", "kernel_s", ends, batch)
            assert float(cell.replace(",", "")) == pytest.approx(rate / 1e9, abs=0.5)
            if leaf == "`attention.core`" and batch >= 16:
                assert rate > 0.8 * 4.8e12
            if leaf == "`moe.experts`" and batch >= 16:
                share = 0.5 if model == LARGE[0] else 0.2
                assert rate == pytest.approx(share * 4.8e12, rel=0.15)
            if leaf.startswith("`memory"):
                assert rate < 0.2 * 4.8e12


def test_prefill_ratios_are_reads_over_the_formula() -> None:
    for model, *cells in table(MEASURING, "prompts"):
        for tokens, cell in zip((512, 2048, 8192), cells, strict=False):
            workload = Workload(phase="prefill", batch=1, context=0, new_tokens=tokens)
            sums = step_costs(recording(f"h200-{model}.json").model, workload.step()).totals
            written = sums.kv_written_bytes + recorded(model)["model"]["vocab_size"] * 2
            fields = {"phase": "prefill", "context": 0, "new_tokens": tokens}
            read = step_value(model, "hbm_read_bytes", **fields)
            needed = float(sums.compulsory_bytes - written)
            assert float(cell) == pytest.approx(read / needed, abs=0.006)
