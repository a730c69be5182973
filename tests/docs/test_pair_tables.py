"""The measured part of docs/comparison.md against the recordings' JSON, and made-up times."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Backend, Workload
from costmodel.layers.attention import Attention
from costmodel.recordings.case_workload import CaseWorkload
from docs import pair_measurements, pair_summary, pair_tables
from docs.pair_measurements import GROUPED_PAIR, LARGE, PAIRS, SMALL, Lack, decode, model_of, prompt
from docs.pair_words import kernels, winners
from profiler.session.session import slug
from tests.committed import FIRST, FUSED, GROUPED, recording
from tests.recorded_json import COMPARISON, step_value, table

MEMORY, MOE = "UltraMemV2-1B/7B", "OLMoE-1B-7B"
Times = dict[tuple[str, Backend], dict[int, float]]


def compared(name: str) -> list[list[str]]:
    """The rows of a table, without what is told beneath it."""
    return [row for row in table(COMPARISON, name) if len(row) > 1]


def test_ratios_of_decode_are_the_recordings() -> None:
    rows = compared("compared_decode")
    assert len(rows) == 12
    names = {pair.title: pair for pair in PAIRS}
    seen = 0
    for title, batch, *cells in rows:
        pair = names[title]
        for column, quantity in ((2, "hbm_read_bytes"), (4, "graph_s"), (6, "energy_j")):
            if cells[column] == "-":
                continue
            seen += 1
            moe, memory = (
                step_value(name, quantity, batch=int(batch.replace(",", "")))
                for name in (pair.moe, pair.memory)
            )
            assert float(cells[column]) == pytest.approx(moe / memory, abs=0.0051)
    assert seen == 33  # 11 batches that fit


def test_times_and_energies_of_prompts_are_the_recordings() -> None:
    rows = compared("compared_prompt_steps")
    names = {pair_measurements.short(n): n for pair in PAIRS for n in (pair.moe, pair.memory)}
    assert len(rows) == 12
    for model, tokens, _, torch_ms, *_, energy_mj, _ in rows:
        n = int(tokens.replace(",", ""))
        at = {"phase": "prefill", "context": 0, "new_tokens": n}
        assert float(torch_ms) == pytest.approx(
            step_value(names[model], "graph_s", **at) * 1e3, abs=0.00051
        )
        if energy_mj != "-":
            joules = step_value(names[model], "energy_j", **at)
            assert float(energy_mj) == pytest.approx(joules / n * 1e3, rel=1e-3)


def test_the_promise_and_the_bound_are_the_formulas() -> None:
    """The bound of a decode step is its compulsory bytes over the datasheet's bandwidth."""
    bandwidth = load_hardware("h200").hbm_bytes_per_s
    bounds = {(row[0], row[1]): float(row[2]) for row in compared("compared_steps")}
    for pair in PAIRS:
        for batch in (1, 16, 256):
            needed = [
                float(step_costs(load_model(name), Workload(batch=batch, context=2048).step())
                .totals.compulsory_bytes)
                for name in (pair.moe, pair.memory)
            ]  # fmt: skip
            assert pair_measurements.bytes_share(pair, decode(batch)) == needed[0] / needed[1]
            shown = bounds[pair_measurements.short(pair.moe), str(batch)]
            assert shown == pytest.approx(needed[0] / bandwidth * 1e3, abs=0.00051)


def test_the_models_with_few_key_value_heads_are_the_presets_but_for_them() -> None:
    for name, preset in ((GROUPED_PAIR.moe, LARGE.moe), (GROUPED_PAIR.memory, LARGE.memory)):
        grouped, published = model_of(name), load_model(preset)
        assert slug(grouped.name) == name  # so that a profile files it where the page looks
        own = ("name", "source", "notes", "published", "attention")
        fields = set(published.__dataclass_fields__) - set(own)
        assert all(getattr(grouped, field) == getattr(published, field) for field in fields)
        assert isinstance(grouped.attention, Attention)
        heads = grouped.attention.num_key_value_heads, grouped.attention.num_attention_heads
        assert heads == (4, 16)


@pytest.fixture
def measured_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Times], None]:
    """Times of the large pair in place of recordings, by model, backend and size of the step."""

    def given(times: Times) -> None:
        def looked_up(
            name: str, backend: Backend, workload: CaseWorkload, quantity: str
        ) -> float | Lack:
            assert quantity == "graph_s"
            size = workload.batch if workload.phase == "decode" else workload.new_tokens
            found = times.get((name, backend), {}).get(size)
            return Lack(reason="not there") if found is None else found

        monkeypatch.setattr(pair_measurements, "measured", looked_up)

    return given


def torch_times(moe: dict[int, float], memory: dict[int, float]) -> Times:
    return {(LARGE.moe, "torch"): moe, (LARGE.memory, "torch"): memory}


def test_who_is_faster_where_and_by_how_much(measured_as: Callable[[Times], None]) -> None:
    measured_as(
        torch_times({1: 2.0, 4: 3.0, 16: 6.0, 64: 8.0}, {1: 3.0, 4: 3.02, 16: 4.0, 64: 4.0})
    )
    said = winners(LARGE, "torch", [decode(batch) for batch in (1, 4, 16, 64, 256)])
    assert said == (
        f"{MEMORY} is faster at batch 16 and 64, up to 2.00 times as fast at batch 64;"
        f" {MOE} is faster at batch 1, 1.50 times as fast;"
        " within 1 % they are alike at batch 4; batch 256: not there."
    )


def test_prompts_are_told_by_their_tokens(measured_as: Callable[[Times], None]) -> None:
    measured_as(torch_times({512: 1.0, 2048: 4.0}, {512: 2.0, 2048: 10.0}))
    said = winners(LARGE, "torch", [prompt(512), prompt(2048)])
    assert said == (
        f"{MOE} is faster at 512 and 2,048 tokens, up to 2.50 times as fast at 2,048 tokens."
    )


def test_how_much_is_kernels(measured_as: Callable[[Times], None]) -> None:
    """Of one batch, whose bound's ratio is 2.54: from 0.5 by torch to 1.6 by fused."""
    times = torch_times({16: 4.0}, {16: 8.0})
    measured_as(times | {(LARGE.moe, "fused"): {16: 3.2}, (LARGE.memory, "fused"): {16: 2.0}})
    said = kernels(LARGE)
    assert f"{MOE} 1.25 times and {MEMORY} 4.00 times as fast" in said
    assert "0.50 by `torch` and 1.60 by `fused`" in said
    assert said.endswith("nearer to the ratio of their bounds at 1 of 1 batches.")


def test_the_share_by_kernels_is_of_the_way_to_the_bounds(
    measured_as: Callable[[Times], None],
) -> None:
    """The bounds' ratio is 2.54 (16.41 GB over 6.465): ln(1.6 / 0.5) / ln(2.538 / 0.5) = 0.716."""
    times = torch_times({16: 4.0}, {16: 8.0})
    measured_as(times | {(LARGE.moe, "fused"): {16: 3.2}, (LARGE.memory, "fused"): {16: 2.0}})
    assert pair_summary.kernels_share(LARGE, 16) == pytest.approx(0.716, abs=0.001)
    assert pair_summary.kernels_share(LARGE, 4) == Lack(reason="not there")
    assert pair_summary.fused_speeds() == {"pair_large_fused_times": "1.60"}
    said = pair_summary.compared_summary()
    row = "| UltraMemV2 2.54x | OLMoE 2.00x | UltraMemV2 1.60x | 72 % |"
    assert f"| 1B/7B | 16 | 16 {row}\n" in said
    assert said.count("fused kernels close") == 2  # of the others nothing is known
    assert "what the bytes promise, fused kernels close 72 %." in said
    assert "\n`-`: not there.\n" in said
    assert "The gap is a factor of 5.08, of which fused kernels close 3.20: 72 % in" in said


def test_the_bound_promises_what_the_bytes_do() -> None:
    """As the page says of its first table: all of these steps are limited by memory."""
    for pair in (*PAIRS, GROUPED_PAIR):
        for batch in pair_measurements.BATCHES:
            bytes_share = pair_measurements.bytes_share(pair, decode(batch))
            assert pair_measurements.bound_share(pair, decode(batch)) == pytest.approx(bytes_share)


def test_the_winners_at_the_top_are_the_recordings() -> None:
    """By plain PyTorch and by fused kernels, from their own JSON, at each batch that fits."""
    rows = [row for row in compared("compared_summary") if row[0] in {"1B/7B", "227M/1.2B"}]
    pairs = {("1B/7B", "16"): LARGE, ("1B/7B", "4"): GROUPED_PAIR, ("227M/1.2B", "12"): SMALL}
    assert [(size, heads) for size, heads, *_ in rows] == [
        key for key, pair in pairs.items() for _ in range(6 if pair == SMALL else 5)
    ]
    for size, heads, batch, _, *by_backend, _ in rows:
        pair = pairs[size, heads]
        for cell, kernels_of in zip(by_backend, ("", "-fused"), strict=True):
            if cell == "-":
                assert (pair, GROUPED) == (GROUPED_PAIR, [])
                continue
            moe, memory = (
                step_value(name + kernels_of, "graph_s", batch=int(batch.replace(",", "")))
                for name in (pair.moe, pair.memory)
            )
            if cell == "alike":
                assert moe == pytest.approx(memory, rel=0.0101)
            else:
                name, factor = cell.removesuffix("x").split()
                assert (name == "UltraMemV2") == (moe > memory)
                assert float(factor) == pytest.approx(
                    max(moe, memory) / min(moe, memory), abs=0.0051
                )


def test_without_recordings_it_says_so(measured_as: Callable[[Times], None]) -> None:
    measured_as({})
    assert winners(LARGE, "fused", [decode(1), decode(4)]) == "not there."
    assert kernels(LARGE) == "not there."


def test_what_is_not_recorded_is_told_beneath_the_table() -> None:
    said = pair_tables.compared_decode()
    assert "not measured" not in said
    assert "does not fit the GPU" in said  # the large pair at batch 1,024


@pytest.mark.parametrize("path", [*FIRST, *FUSED], ids=lambda path: path.stem)
def test_times_of_batches_between_lie_between_those_of_their_neighbours(path: object) -> None:
    """3, 12, 48 and 192 between 1, 4, 16, 64 and 256: a step takes longer with more sequences.

    Within 5 %, since tiles of kernels make some larger batches cheaper.
    """
    made = recording(getattr(path, "name", ""))
    by_batch = {
        case.workload.batch: float(case.runs["time"].step["graph_s"].median)  # type: ignore[union-attr]
        for case in made.cases
        if case.workload == decode(case.workload.batch) and "time" in case.runs
    }
    for batch, after in pairwise(sorted(by_batch)):
        assert by_batch[batch] < 1.05 * by_batch[after], (batch, after)
