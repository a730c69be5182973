"""The tables of README and docs/measuring.md, and what is said of them, against the recordings.

`docs.measured` makes the tables with the project's own code; here their cells, and the numbers in
the text around them, are compared with the recordings' JSON, read without it.
"""

import json
import re
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.predict import step_costs
from docs.book import Book, decode, prefill
from docs.measured import PAGES, current

README, MEASURING = (page.read_text(encoding="utf-8") for page in PAGES)
FOLDER = PAGES[0].parent / "recordings"
SMALL, LARGE = ("olmoe-227m-1.2b", "ultramemv2-227m-1.2b"), ("olmoe-1b-7b", "ultramemv2-1b-7b")
RUN_OF = {"hbm_read_bytes": "counters", "flops_tensor": "counters", "energy_j": "energy"}


@pytest.fixture(scope="module")
def book() -> Book:
    return Book()


@cache
def recorded(model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"h200-{model}.json").read_text())
    return found


def a_case(model: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The case of a model with these fields of its workload; decode at 2,048 unless told."""
    wanted = {"phase": "decode", "context": 2048, "new_tokens": 1, "routing": "uniform"} | fields
    (found,) = [
        case
        for case in recorded(model)["cases"]
        if all(case["workload"][name] == value for name, value in wanted.items())
    ]
    return dict(found["runs"])


def step_value(model: str, quantity: str, **fields: Any) -> float:  # noqa: ANN401 - JSON
    step = a_case(model, **fields)[RUN_OF.get(quantity, "time")]["step"][quantity]
    return float(step.get("median", step.get("value")))


def leaf_sum(model: str, run: str, quantity: str, leaves: tuple[str, ...], batch: int) -> float:
    column = a_case(model, batch=batch)[run]["operators"][quantity]
    values = column.get("median", column.get("values"))
    pairs = zip(recorded(model)["paths"], values, strict=True)
    return float(sum(value for path, value in pairs if path.endswith(leaves) and value))


def table(page: str, name: str) -> list[list[str]]:
    """The rows of a table, without its head."""
    (block,) = re.findall(rf"(?s)<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", page)
    return [line.strip("|\n ").split(" | ") for line in block.splitlines()[2:]]


def percent(cell: str) -> float:
    return float(cell.removesuffix(" %")) / 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_current(page: Path, book: Book) -> None:
    text = page.read_text(encoding="utf-8")
    assert current(text, book) == text, "run: python -m docs.measured"


def test_the_readmes_measured_columns_are_the_recordings(book: Book) -> None:
    rows = table(README, "beside")
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
    del book


def test_the_readmes_compulsory_column_is_the_formula() -> None:
    for model, batch, *_, compulsory, _, ratio in table(README, "beside"):
        sums = step_costs(load_model(model), Workload(batch=int(batch), context=2048).step()).totals
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


def winners(pair: tuple[str, str], quantity: str) -> list[int]:
    """The batches at which the memory model takes less of it."""
    batches = (1, 4, 16, 64, 256, 1024)[: 6 if pair == SMALL else 5]
    return [
        batch
        for batch in batches
        if step_value(pair[1], quantity, batch=batch) < step_value(pair[0], quantity, batch=batch)
    ]


def test_the_readmes_sentences() -> None:
    rows = {(row[0].strip("`"), row[1]): row for row in table(MEASURING, "errors")}
    text = re.sub(r"\s+", " ", README)
    graph, eager, energy = (rows[name, "decode"][3] for name in ("graph_s", "eager_s", "energy_j"))
    assert f"took {graph} times the predicted time as a CUDA graph, {eager} times eagerly" in text
    assert f"and {energy} times the predicted energy" in text
    worst = max(float(cell) for row in table(MEASURING, "prompts")[::4] for cell in row[4:])
    assert {row[0] for row in table(MEASURING, "prompts")[::4]} == {SMALL[0], LARGE[0]}
    assert f"a prefill of an MoE took up to {worst:.1f} times" in text
    shares = [
        step_value(LARGE[1], quantity, batch=16) / step_value(LARGE[0], quantity, batch=16)
        for quantity in ("energy_j", "hbm_read_bytes", "graph_s")
    ]
    assert [round(each, 1) for each in shares] == [0.5, 0.4, 0.9]
    assert f"{100 * (1 - shares[2]):.0f} % less time" in text
    said = re.search(r"\(predicted: from (\d+) to (\d+)\)", text)
    shown = re.search(r"lower predicted time than OLMoE-1B-7B from batch (\d+) to (\d+)", README)
    assert said is not None
    assert shown is not None
    assert said.groups() == shown.groups()
    assert "lower predicted time than OLMoE-227M/1.2B at no batch" in README


def test_what_is_said_of_the_pairs() -> None:
    """Of the 227M and of the 1B pair: bytes, time and energy in which UltraMemV2 needs less."""
    assert winners(SMALL, "hbm_read_bytes") == [4, 16, 64, 256, 1024]
    assert winners(LARGE, "hbm_read_bytes") == [1, 4, 16, 64, 256]
    assert winners(SMALL, "graph_s") == []
    assert winners(LARGE, "graph_s") == [16, 64]
    assert winners(SMALL, "energy_j") == [16, 64, 256]
    assert winners(LARGE, "energy_j") == [4, 16, 64, 256]
    for _, _, _, time, _, predicted in table(MEASURING, "pairs"):
        assert (float(time) > 1) == (float(predicted) > 1)  # the same winner


def test_the_number_of_cases() -> None:
    made = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]
    cases = [case for each in made for case in each["cases"]]
    done = sum(bool(case["runs"]) for case in cases)
    for page in (README, MEASURING):
        assert re.search(r"(\d+)\s+of\s+the\s+(\d+)\s+cases", page), page
        assert set(re.findall(r"(\d+)\s+of\s+the\s+(\d+)\s+cases", page)) == {
            (str(done), str(len(cases)))
        }
    assert f"other {len(cases) - done} do not fit" in MEASURING


def test_self_checks_are_the_recordings() -> None:
    checks: dict[str, list[float]] = {}
    for path in FOLDER.glob("*.json"):
        for session in json.loads(path.read_text())["sessions"]:
            for check in session["self_check"]:
                checks.setdefault(check["name"], []).append(check["measured"] / check["known"])
    rows = {row[0]: row for row in table(MEASURING, "self_check")}
    assert rows.keys() == checks.keys()
    for name, found in checks.items():
        assert rows[name][2] == f"{min(found):.5f} to {max(found):.5f}"
        assert rows[name][4] == f"{len(found)} of {len(found)}"


def test_shares_of_routing_are_kernel_times_of_leaves_that_choose() -> None:
    choosing = (".moe.router", ".memory.query", ".memory.retrieve")
    for model, *cells in table(MEASURING, "routing"):
        for batch, cell in zip((1, 4, 16, 64, 256, 1024), cells, strict=True):
            if cell == "-":
                assert (model, batch) in {(each, 1024) for each in LARGE}
                continue
            share = leaf_sum(model, "time", "kernel_s", choosing, batch) / step_value(
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
            rate = read / leaf_sum(model, "time", "kernel_s", ends, batch)
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
            sums = step_costs(load_model(model), workload.step()).totals
            written = sums.kv_written_bytes + recorded(model)["model"]["vocab_size"] * 2
            fields = {"phase": "prefill", "context": 0, "new_tokens": tokens}
            read = step_value(model, "hbm_read_bytes", **fields)
            needed = float(sums.compulsory_bytes - written)
            assert float(cell) == pytest.approx(read / needed, abs=0.006)


def test_causes_of_misses_are_as_they_are_told(book: Book) -> None:
    """Numbers in the text on the predicted time."""
    said = re.sub(r"\s+", " ", MEASURING)
    worst = []
    for model in (SMALL[0], LARGE[0]):
        for tokens in (512, 2048, 8192):
            page = book.page(model, prefill(tokens))
            predicted, measured = page.leaf("kernel_s", "moe.experts")
            step = page.step["kernel_s"]
            assert step.predicted is not None
            assert measured - predicted > (page.value("kernel_s") - float(step.predicted)) / 2
            worst.append(measured / predicted)
    assert f"takes up to {max(worst):.1f} times what is predicted" in said
    eager = [
        step_value(LARGE[1], "eager_s", batch=64, routing=routing) * 1e3
        for routing in ("uniform", "zipf:1.0")
    ]
    assert f"{eager[0]:.0f} ms under `uniform` and {eager[1]:.0f} ms under `zipf:1.0`" in said
    energy = a_case(SMALL[1], batch=1)["energy"]["step"]
    assert 1.8 < energy["power_w"]["median"] / energy["idle_power_w"]["median"] < 2
    for batch in (1, 4, 16):
        predicted, measured = book.page(LARGE[1], decode(batch)).leaf("kernel_s", "memory.values")
        assert f"{round(measured / predicted * 2) / 2:.1f} times what is predicted up to" in said
    gathers = [row for _, row in book.rows() if (row.quantity, row.kind) == ("kernel_s", "gather")]
    assert max(gathers, key=lambda row: row.ratio or 0).path == "embed"


def test_a_calibration_and_two_profiles_stand_behind_the_text() -> None:
    """Two profiles ran at a time: cases of one model began between those of another."""
    began = [
        sorted(
            case["runs"]["time"]["conditions"]["started"]
            for case in recorded(model)["cases"]
            if case["runs"]
        )
        for model in (SMALL[0], LARGE[0])
    ]
    assert began[0][0] < began[1][-1]
    assert began[1][0] < began[0][-1]


def test_recordings_agree_with_the_page_on_the_reference_models() -> None:
    """Graph times of both were measured on cards of one kind, on one day: within 3 %."""
    text = (PAGES[1].parent / "reference_model.md").read_text(encoding="utf-8")
    older = json.loads((PAGES[1].parent / "reference_model_h200.json").read_text())
    off = [
        step_value(model, "graph_s", batch=batch)
        / (older[f"{model}, batch {batch}"]["graph_median_us"] * 1e-6)
        for model in (*SMALL, *LARGE, "llama-3.1-8b")
        for batch in (1, 16, 64, 256)
    ]
    assert f"within {max(abs(each - 1) for each in off) * 100:.0f} %" in text
    assert median(off) == pytest.approx(1, abs=0.01)
