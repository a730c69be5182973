"""What the README and docs/ say of the recordings in words is what the recordings hold."""

import json
import re
from itertools import pairwise
from statistics import median, quantiles

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
    step_value,
    table,
)

SAID = re.sub(r"\s+", " ", MEASURING)


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
    worst = []
    for model in (SMALL[0], LARGE[0]):
        for tokens in (512, 2048, 8192):
            page = book.page(model, prefill(tokens))
            predicted, measured = page.leaf("kernel_s", "moe.experts")
            step = page.step["kernel_s"]
            assert step.predicted is not None
            assert measured - predicted > (page.value("kernel_s") - float(step.predicted)) / 2
            worst.append(measured / predicted)
    assert f"takes up to {max(worst):.1f} times what is predicted" in SAID
    energy = a_case(SMALL[1], batch=1)["energy"]["step"]
    assert 1.9 < energy["power_w"]["median"] / energy["idle_power_w"]["median"] < 2.1
    over = []
    for batch in (1, 4, 16):
        predicted, measured = book.page(LARGE[1], decode(batch)).leaf("kernel_s", "memory.values")
        over.append(measured / predicted)
    assert f"{median(over):.1f} times what is predicted up to batch 16" in SAID
    assert max(over) - min(over) < 0.1
    gathers = [row for _, row in book.rows() if (row.quantity, row.kind) == ("kernel_s", "gather")]
    assert max(gathers, key=lambda row: row.ratio or 0).path == "embed"


def runs_of(kind: str) -> list[tuple[str, str, str]]:
    """Commit, model and beginning of each run of a kind, in order of time."""
    found = []
    for path in FOLDER.glob("*.json"):
        made = json.loads(path.read_text())
        for run in (case["runs"][kind] for case in made["cases"] if kind in case["runs"]):
            commit = made["sessions"][run["session"]]["commit"][:7]
            found.append((commit, made["preset"], run["conditions"]["started"]))
    return sorted(found, key=lambda run: run[2])


def test_runs_are_of_the_commits_that_the_page_names() -> None:
    """Times and traces model after model; counters and energy of two models at a time."""
    for kind in ("time", "trace"):
        runs = runs_of(kind)
        assert {commit for commit, _, _ in runs} == {"5b4e8ac"}
        models = [model for _, model, _ in runs]
        assert sum(one != two for one, two in pairwise(models)) == 6  # seven models
    for kind in ("counters", "energy"):
        later = [model for commit, model, _ in runs_of(kind) if commit == "5b4e8ac"]
        assert sorted(later) == sorted([*LARGE] * 5)
        assert {commit for commit, _, _ in runs_of(kind)} == {"5b4e8ac", "77a97d6"}
    first = [model for commit, model, _ in runs_of("counters") if commit == "77a97d6"]
    assert sum(one != two for one, two in pairwise(first)) > 6
    assert "5b4e8ac, one model after another; counters and energy by 77a97d6" in SAID


def test_profiles_that_checked_themselves() -> None:
    """A profile of several models keeps its self-check in the recording of each."""
    made = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]
    sessions = [each for found in made for each in found["sessions"] if each["self_check"]]
    profiles = {(each["started"], json.dumps(each["self_check"])) for each in sessions}
    assert (len(sessions), len(profiles)) == (9, 5)
    assert "the nine are five profiles" in SAID


def test_gaps_are_what_the_kernels_leave_of_a_graph() -> None:
    gaps, shares = [], []
    for path in FOLDER.glob("*.json"):
        for case in json.loads(path.read_text())["cases"]:
            if not case["runs"] or case["workload"]["phase"] != "decode":
                continue
            graph = case["runs"]["time"]["step"]["graph_s"]["median"]
            kernels = case["runs"]["trace"]["step"]
            shares.append(100 * kernels["kernel_s"]["median"] / graph)
            gap = (graph - kernels["kernel_s"]["median"]) / kernels["launches"]["value"]
            gaps.append(gap * 1e6)
    assert f"sum to {min(shares):.0f} to {max(shares):.1f} % of a decode step's graph" in SAID
    low, middle, high = quantiles(gaps, n=4)
    assert f"leaves {middle:.2f} us a launch in the median" in SAID
    assert f"quartiles {low:.2f} and {high:.2f}" in SAID
    *_, largest_but_one, largest = sorted(gaps)
    assert f"all between {min(gaps):.2f} and {largest_but_one:.2f}, but for one case" in SAID
    assert f"{largest:.2f} us" in SAID


def test_the_table_of_replays_stands_beside_what_was_recorded() -> None:
    cases = (("llama-3.1-8b", 1), ("ultramem-227m-1.2b", 16), ("olmoe-1b-7b", 1))
    graphs = [step_value(model, "graph_s", batch=batch) * 1e3 for model, batch in cases]
    assert "recordings have {:.2f}, {:.2f} and {:.2f} ms".format(*graphs) in SAID
    slower = (6.43, 3.48, 3.33)  # of the table
    assert graphs == pytest.approx(slower, rel=0.012)
    assert (
        sum(f"| {' | '.join(map(str, slower))} |" in line for line in MEASURING.splitlines()) == 1
    )


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
