"""The numbers that sentences take from recordings, against the recordings' own JSON."""

import json
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean, median, quantiles
from typing import Any

import pytest

from costmodel.inputs.workload import Phase
from docs.error_measures import errors_of
from docs.measured_values import measured_values
from docs.recorded import MeasuredCase
from docs.recorded import recorded as joined_cases
from docs.wording import listed, span
from docs.write import ROOT
from tests.commands import output
from tests.recorded_json import (
    FOLDER,
    LARGE,
    MEASURING,
    SMALL,
    a_case,
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


def measured_cases(phase: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Preset and case of each case of a phase that was measured."""
    for model in presets():
        for case in recorded(model)["cases"]:
            if case["runs"] and case["workload"]["phase"] == phase:
                yield model, case


def all_runs() -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """Kind of run, preset, run, and the commit that made it in short."""
    for model in presets():
        for case in recorded(model)["cases"]:
            for kind, run in case["runs"].items():
                yield kind, model, run, recorded(model)["sessions"][run["session"]]["commit"][:7]


def median_of(run: dict[str, Any], quantity: str) -> float:
    reading = run["step"][quantity]
    return float(reading.get("median", reading.get("value")))


def predicted_graph_s(model: str, workload: dict[str, Any]) -> float:
    """The time as a CUDA graph that `sparsecost predict --json` gives."""
    names = ("phase", "batch", "context", "new_tokens", "routing")
    options = [word for name in names for word in (f"--{name}", str(workload[name]))]
    text = output("predict", model, *(o.replace("_", "-") for o in options), "--json")
    return float(json.loads(text)["time"]["predicted_graph_s"])


def graph_ratios(phase: Phase) -> list[float]:
    """Measured over predicted time as a CUDA graph, of every case of a phase, as docs/ join them.

    Each is checked, but for those of a model that chose by its own scores: no option asks for that.
    """
    joined = [case.value("graph_s") / ratio_basis(case) for case in joined_cases().of_phase(phase)]
    by_hand = [
        None
        if case["workload"]["routing"] == "scores"
        else median_of(case["runs"]["time"], "graph_s") / predicted_graph_s(model, case["workload"])
        for model, case in measured_cases(phase)
    ]
    assert sum(ratio is not None for ratio in by_hand) > 0.8 * len(by_hand)
    for one, other in zip(joined, by_hand, strict=True):
        assert other is None or one == pytest.approx(other, rel=1e-12)
    return joined


def ratio_basis(case: MeasuredCase) -> float:
    value = case.step["graph_s"].predicted
    assert value is not None
    return float(value)


def test_errors_by_hand() -> None:
    """Ratios 2, 1 and 1/2: |ln| is ln 2, 0, ln 2; predicted / measured is 1/2, 1, 2."""
    errors = errors_of([2, 1, 0.5])
    assert (errors.count, errors.median, errors.least, errors.most) == (3, 1, 0.5, 2)
    assert errors.log_error == pytest.approx(2 ** (2 / 3) - 1)
    assert errors.mape == pytest.approx((0.5 + 0 + 1) / 3)


def test_errors_of_predicted_graph_times(values: dict[str, str]) -> None:
    decode, prompts = graph_ratios("decode"), graph_ratios("prefill")
    assert values["graph_decode_cases"] == f"{len(decode)}"
    assert values["graph_decode_median"] == f"{median(decode):.2f}"
    assert values["graph_decode_least"] == f"{min(decode):.2f}"
    assert values["graph_decode_most"] == f"{max(decode):.2f}"
    mean_log = fmean(abs(math.log(ratio)) for ratio in decode)
    assert values["graph_decode_error"] == f"{100 * (math.exp(mean_log) - 1):.1f} %"
    mape = fmean(abs(1 - 1 / ratio) for ratio in decode)
    assert values["graph_decode_mape"] == f"{100 * mape:.1f} %"
    assert values["graph_prefill_cases"] == f"{len(prompts)}"
    mape = fmean(abs(1 - 1 / ratio) for ratio in prompts)
    assert values["graph_prefill_mape"] == f"{100 * mape:.1f} %"


def test_errors_in_sentences_are_those_of_the_table(values: dict[str, str]) -> None:
    """And the prefill farthest off is an MoE's."""
    rows = {(row[0].strip("`"), row[1]): row for row in table(MEASURING, "errors")}
    for name, quantity in (("graph", "graph_s"), ("eager", "eager_s"), ("energy", "energy_j")):
        assert values[f"{name}_decode_median"] == rows[quantity, "decode"][3]
    prompts = {row[0]: max(map(float, row[4:])) for row in table(MEASURING, "prompts")}
    assert values["moe_prefill_most"] == f"{max(prompts.values()):.1f}"
    assert max(prompts, key=prompts.__getitem__) in {SMALL[0], LARGE[0]}


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
        if model == DENSE and context >= 2048:
            weights = 2 * (8_030_261_248 - 128_256 * 4_096)  # without the embedding table
            rows = 128_256 * (1 - (1 - 1 / 128_256) ** batch) * 4_096 * 2  # distinct tokens
            needed = weights + rows + 131_072 * batch * context + 8 * batch
            shares.append(median_of(case["runs"]["counters"], "hbm_read_bytes") / needed)
    assert len(shares) > 5
    assert float(values["reads_long_least"]) <= min(shares) + 5e-5
    assert max(shares) - 5e-5 <= float(values["reads_long_most"])
    assert float(values["reads_long_least"]) < float(values["reads_long_median"]) < 1.01


def test_the_number_of_long_decodes(values: dict[str, str]) -> None:
    contexts = [case["workload"]["context"] for _, case in measured_cases("decode")]
    assert values["reads_long_cases"] == f"{sum(context >= 2048 for context in contexts)}"
    assert {context for context in contexts if context < 2048} == {512}
    assert max(contexts) == 32_768  # as the README says


def test_a_second_run_reads_the_same(values: dict[str, str]) -> None:
    changes = []
    for path in (FOLDER / "again").glob("*.json"):
        for case in json.loads(path.read_text())["cases"]:
            first = a_case(path.stem.removeprefix("h200-"), **case["workload"])
            one, two = (
                median_of(runs["counters"], "hbm_read_bytes") for runs in (first, case["runs"])
            )
            changes.append(abs(two / one - 1))
    assert len(changes) == 10
    assert values["reads_repeat"] == f"{100 * max(changes):.1g} %"


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
        gaps.append(1e6 * (graph - kernels) / median_of(case["runs"]["trace"], "launches"))
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
    assert 1.9 < energy["power_w"]["median"] / energy["idle_power_w"]["median"] < 2.1


def test_runs_are_of_the_commits_that_the_page_names(values: dict[str, str]) -> None:
    """Times and traces model after model; counters and energy of two models at a time."""
    for kind in ("time", "trace"):
        runs = [
            (run["conditions"]["started"], model) for k, model, run, _ in all_runs() if k == kind
        ]
        assert {commit for k, _, _, commit in all_runs() if k == kind} == {values["commit_time"]}
        models = [model for _, model in sorted(runs)]
        assert sum(one != two for one, two in pairwise(models)) == len(presets()) - 1
    for kind in ("counters", "energy"):
        made = [
            (run["conditions"]["started"], model, commit)
            for k, model, run, commit in all_runs()
            if k == kind
        ]
        later = [model for _, model, commit in made if commit == values["commit_time"]]
        assert sorted(later) == sorted([*LARGE] * 5)
        assert {commit for *_, commit in made} == {values["commit_time"], values["commit_counters"]}
        first = [model for _, model, commit in sorted(made) if commit == values["commit_counters"]]
        if kind == "counters":
            assert sum(one != two for one, two in pairwise(first)) > len(presets()) - 1


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
