"""What the README and docs/ say of the recordings in words is what the recordings hold."""

import json
import re

import pytest

from docs.book import Book, decode, prefill
from docs.measured import PAGES
from tests.recorded_json import (
    FOLDER,
    LARGE,
    MEASURING,
    README,
    SMALL,
    a_case,
    recorded,
    step_value,
    table,
)


@pytest.fixture(scope="module")
def book() -> Book:
    return Book()


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
    untimed = [case for case in cases if case["runs"] and "time" not in case["runs"]]
    assert (f"Of {len(untimed)} cases" in MEASURING) == bool(untimed)
    assert all("the time on the GPU was over" in case["lacking"]["time"] for case in untimed)


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
        step_value(LARGE[1], "eager_s", batch=256, routing=routing) * 1e3
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


def test_two_profiles_ran_at_a_time() -> None:
    """Cases of one model began between those of another."""
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
    """Graph times of decode steps, measured twice on one day."""
    folder = PAGES[1].parent
    text = re.sub(r"\s+", " ", (folder / "reference_model.md").read_text(encoding="utf-8"))
    older = json.loads((folder / "reference_model_h200.json").read_text())

    def less(model: str, batch: int) -> float:
        before = older[f"{model}, batch {batch}"]["graph_median_us"] * 1e-6
        return 100 * (1 - step_value(model, "graph_s", batch=batch) / float(before))

    sparse = [less(model, b) for model in (*SMALL, *LARGE) for b in (1, 16, 64, 256)]
    assert f"agree within {max(map(abs, sparse)):.0f} %" in text
    dense = [less("llama-3.1-8b", b) for b in (1, 16, 64, 256)]
    assert f"took {min(dense):.0f} to {max(dense):.0f} % less there" in text
