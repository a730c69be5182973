"""The numbers that sentences take from recordings, against the recordings' own JSON."""

import json
import re
from statistics import quantiles

import pytest

from docs.measured_values import measured_values
from docs.wording import listed, span
from docs.write import ROOT
from tests.recorded_json import (
    LARGE,
    MEASURING,
    SMALL,
    a_case,
    measured_cases,
    median_of,
    presets,
    recorded,
    step_value,
    table,
)

DENSE = "llama-3.1-8b"
BATCHES = (1, 4, 16, 64, 256, 1024)


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    return measured_values()


def test_the_number_of_cases(values: dict[str, str]) -> None:
    cases = [case for model in presets() for case in recorded(model)["cases"]]
    done = [case for case in cases if case["runs"]]
    assert values["models"] == f"{len(presets())}"
    assert (values["cases"], values["cases_planned"]) == (f"{len(done)}", f"{len(cases)}")
    assert values["cases_lacking"] == f"{len(cases) - len(done)}"
    lacking = [case["lacking"] for case in cases if not case["runs"]]
    assert all("fit" in reason for reasons in lacking for reason in reasons.values())
    assert all("time" in case["runs"] for case in done)


def test_every_count_is_equal(values: dict[str, str]) -> None:
    """Of FLOPs, one a step and one a leaf that counts any."""
    flops = 0
    for phase in ("decode", "prefill"):
        for _, case in measured_cases(phase):
            column = case["runs"]["time"]["operators"]["flops_counted"]["values"]
            flops += 1 + sum(value is not None for value in column)
    assert values["flops_equal"] == f"{flops:,} of {flops:,}"
    assert values["parameters_equal"] == f"{values['cases']} of {values['cases']}"


def test_reads_of_dense_decode_are_within_the_stated_span(values: dict[str, str]) -> None:
    """Llama-3.1-8B chooses nothing: a step reads 2 bytes a parameter, 16-bit, and its cache."""
    shares = []
    for model, case in measured_cases("decode"):
        batch, context = case["workload"]["batch"], case["workload"]["context"]
        if model == DENSE and context >= 2048 and "counters" in case["runs"]:
            weights = 2 * (8_030_261_248 - 128_256 * 4_096)  # without the embedding table
            rows = 128_256 * (1 - (1 - 1 / 128_256) ** batch) * 4_096 * 2  # distinct tokens
            needed = weights + rows + 131_072 * batch * context + 8 * batch
            shares.append(median_of(case["runs"]["counters"], "hbm_read_bytes") / needed)
    assert len(shares) > 5
    assert float(values["reads_long_least"]) <= min(shares) + 5e-5
    assert max(shares) - 5e-5 <= float(values["reads_long_most"])
    assert float(values["reads_long_least"]) < float(values["reads_long_median"]) < 1.01


def test_the_number_of_long_decodes(values: dict[str, str]) -> None:
    contexts = [
        case["workload"]["context"]
        for _, case in measured_cases("decode")
        if "counters" in case["runs"]
    ]
    assert values["reads_long_cases"] == f"{sum(context >= 2048 for context in contexts)}"
    assert {context for context in contexts if context < 2048} == {512}
    assert max(contexts) == 32_768  # as the README says


def wins(pair: tuple[str, str], quantity: str) -> list[str]:
    """The batches at which the memory model takes less of it."""
    return [
        f"{batch:,}"
        for batch in BATCHES[: 6 if pair == SMALL else 5]
        if step_value(pair[1], quantity, batch=batch) < step_value(pair[0], quantity, batch=batch)
    ]


def test_where_the_memory_models_win(values: dict[str, str]) -> None:
    for name, pair in (("small", SMALL), ("large", LARGE)):
        for word, quantity in (
            ("bytes", "hbm_read_bytes"),
            ("time", "graph_s"),
            ("energy", "energy_j"),
        ):
            won = wins(pair, quantity)
            if won:
                assert values[f"pair_{name}_{word}_wins"] == listed(won)
            else:
                assert (name, word) == ("small", "time")  # "and less time at none"
    for _, _, _, time, _, predicted_time in table(MEASURING, "pairs"):
        assert (float(time) > 1) == (float(predicted_time) > 1)  # the same winner


def test_the_large_pair(values: dict[str, str]) -> None:
    times = [
        step_value(LARGE[0], "graph_s", batch=batch) / step_value(LARGE[1], "graph_s", batch=batch)
        for batch in BATCHES[:5]
    ]
    assert values["pair_large_time_range"] == f"{min(times):.2f} to {max(times):.2f}"
    for word, quantity in (
        ("energy", "energy_j"),
        ("bytes", "hbm_read_bytes"),
        ("time", "graph_s"),
    ):
        share = step_value(LARGE[1], quantity, batch=16) / step_value(LARGE[0], quantity, batch=16)
        assert values[f"pair_large_16_{word}_less"] == f"{100 * (1 - share):.0f} %"
    assert values["example_ms"] == f"{1e3 * step_value(LARGE[0], 'graph_s', batch=16):.2f}"


def test_gaps_are_what_the_kernels_leave_of_a_graph(values: dict[str, str]) -> None:
    gaps, shares = [], []
    for _, case in measured_cases("decode"):
        graph = median_of(case["runs"]["time"], "graph_s")
        kernels = median_of(case["runs"]["trace"], "kernel_s")
        shares.append(100 * kernels / graph)
        if graph >= kernels:
            gaps.append(1e6 * (graph - kernels) / median_of(case["runs"]["trace"], "launches"))
    assert values["kernels_above_graph"] == f"{len(shares) - len(gaps)}"
    assert values["kernels_least"] == f"{min(shares):.0f}"
    assert values["kernels_most"] == f"{max(shares):.1f}"
    low, middle, high = quantiles(gaps, n=4)
    assert values["gap_median"] == f"{middle:.2f}"
    assert values["gap_quartiles"] == f"{low:.2f} and {high:.2f}"
    *_, largest_but_one, largest = sorted(gaps)
    assert values["gap_least"] == f"{min(gaps):.2f}"
    assert values["gap_most_but_one"] == f"{largest_but_one:.2f}"
    assert values["gap_most"] == f"{largest:.2f}"


def test_the_smallest_steps_draw_twice_the_idle_power() -> None:
    energy = a_case(SMALL[1], batch=1)["energy"]["step"]
    assert 1.85 < energy["power_w"]["median"] / energy["idle_power_w"]["median"] < 2.1


def test_profiles_that_checked_themselves(values: dict[str, str]) -> None:
    """A profile of several models keeps its self-check in the recording of each."""
    sessions = [
        session
        for model in presets()
        for session in recorded(model)["sessions"]
        if session["self_check"]
    ]
    profiles = {(session["started"], json.dumps(session["self_check"])) for session in sessions}
    assert values["sessions_checked"] == f"{len(sessions)}"
    assert values["profiles_checked"] == f"{len(profiles)}"


def test_replays_timed_by_hand_are_near_the_recordings(values: dict[str, str]) -> None:
    cases = ((DENSE, 1), ("ultramem-227m-1.2b", 16), (LARGE[0], 1))
    graphs = [step_value(model, "graph_s", batch=batch) * 1e3 for model, batch in cases]
    assert values["replayed_ms"] == listed([f"{ms:.2f}" for ms in graphs])
    (row,) = re.findall(r"(?m)^\| after eager steps and 4 of them \| (.*) \|$", MEASURING)
    assert [float(cell) for cell in row.split(" | ")] == pytest.approx(graphs, rel=0.012)


def test_recordings_agree_with_the_page_on_the_reference_models(values: dict[str, str]) -> None:
    """Graph times of decode steps, measured twice on one day."""
    older = json.loads((ROOT / "docs" / "reference_model_h200.json").read_text())

    def less(model: str, batch: int) -> float:
        before = older[f"{model}, batch {batch}"]["graph_median_us"] * 1e-6
        return 100 * (1 - step_value(model, "graph_s", batch=batch) / float(before))

    sparse = [less(model, b) for model in (*SMALL, *LARGE) for b in (1, 16, 64, 256)]
    assert values["reference_within"] == f"{max(map(abs, sparse)):.0f} %"
    dense = [less(DENSE, b) for b in (1, 16, 64, 256)]
    assert values["reference_dense_less"] == f"{min(dense):.0f} to {max(dense):.0f} %"


def test_lists_and_spans_in_words() -> None:
    assert [listed(range(1, n)) for n in (2, 3, 4)] == ["1", "1 and 2", "1, 2 and 3"]
    assert span([2.04, 1.0, 1.5], ".1f") == "1.0 to 2.0"
    assert span([1.04, 1.0], ".1f") == "1.0"
