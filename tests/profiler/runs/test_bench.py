"""A model on a device: which method measures it, what fits, and that a recording takes it all."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from costmodel.recordings.machine import Conditions, Machine
from costmodel.recordings.measured import Exact, ExactColumn
from costmodel.recordings.quantities import RUNS, RunName
from costmodel.recordings.recording import (
    Case,
    Recording,
    Run,
    RunResult,
    Session,
    load_recording,
    recording_text,
)
from profiler.runs import bench as module
from profiler.runs import tensor_facts
from profiler.runs.base import CaseFacts
from profiler.runs.bench import DoesNotFit, TorchBench, self_check, unmeasurable
from profiler.runs.case import PreparedCase
from profiler.runs.cpu import CpuRun
from reference_model.cache import Cache
from reference_model.flop_formulas import count_flops
from reference_model.model import ReferenceModel
from reference_model.product_key import ProductRetrieve
from tests.profiler.runs.cases import PREFILL, SEED, work
from tests.reference_model.tiny import MODELS, small

if TYPE_CHECKING:
    from costmodel.recordings.case_workload import CaseWorkload

CPU = Machine(device="cpu", name="a CPU", memory_bytes=2**30, python="3.11.7", torch="2.13.0")
CONDITIONS = Conditions(started="2026-01-02T03:04:05Z", warm_up=1)
MARGIN = 2**28


def bench_of(name: str, dtype: str = "bf16") -> TorchBench:
    assert dtype in ("bf16", "fp32")
    return TorchBench(
        MODELS[name],
        run="time",
        device="cpu",
        dtype="fp32" if dtype == "fp32" else "bf16",
        weights_seed=3,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt_oss", "mla", "ultramem", "memory_plus", "peer"])
def test_a_measurement_survives_a_recording(name: str, tmp_path: Path) -> None:
    bench = bench_of(name)
    cases = []
    for workload in (work(dtype="bf16"), work(**PREFILL, dtype="bf16", routing="scores")):
        run = Run.of_session(bench.measure(workload, SEED), 0)
        assert run.backend == "torch"
        cases.append(Case(workload=workload, seed=SEED, runs={"time": run}))
    recording = Recording(
        schema_version=1,
        preset=None,
        model=MODELS[name],
        weights_seed=3,
        paths=bench.paths,
        sessions=(
            Session(
                started=cases[0].runs["time"].conditions.started,
                machine=CPU,
                sparsecost_version="0",
                commit=None,
            ),
        ),
        cases=tuple(cases),
    )
    path = tmp_path / "recording.json"
    path.write_text(recording_text(recording))
    assert load_recording(path) == recording


def test_what_was_counted_is_of_the_case_asked_for() -> None:
    """fp32: twice the bytes, the same FLOPs; two sequences more: 5 / 3 of the cache."""
    wide, narrow = bench_of("deepseek", "fp32"), bench_of("deepseek")
    first = wide.measure(work(), SEED).step
    second = narrow.measure(work(dtype="bf16"), SEED).step
    third = narrow.measure(work(dtype="bf16", batch=5), SEED).step

    def value(step: dict[str, object], name: str) -> int:
        quantity = step[name]
        assert isinstance(quantity, Exact)
        return quantity.value

    assert value(dict(first), "kv_held_bytes") == 2 * value(dict(second), "kv_held_bytes")
    assert value(dict(first), "flops_counted") == value(dict(second), "flops_counted")
    assert 3 * value(dict(third), "kv_held_bytes") == 5 * value(dict(second), "kv_held_bytes")


def test_the_seed_of_a_case_decides_what_is_chosen() -> None:
    bench = bench_of("ultramem_v2")
    first, again, other = (bench.measure(work(dtype="bf16"), seed) for seed in (1, 1, 2))
    assert first.accesses == again.accesses
    assert first.operators["distinct"] == again.operators["distinct"]
    assert first.accesses != other.accesses
    assert isinstance(first.operators["distinct"], ExactColumn)


def test_the_seed_of_the_weights_decides_the_scores() -> None:
    by_seed = []
    for seed in (3, 3, 4):
        bench = TorchBench(MODELS["moe"], run="time", device="cpu", dtype="fp32", weights_seed=seed)
        by_seed.append(bench.measure(work(routing="scores", batch=16), SEED).accesses)
    assert by_seed[0] == by_seed[1] != by_seed[2]


def test_keys_are_folded_before_anything_is_measured() -> None:
    retrieve = bench_of("memory_plus").model.leaves()["layers.1.memory.retrieve"]
    assert isinstance(retrieve, ProductRetrieve)
    assert retrieve.folded


WIDE = small(vocab_size=100_000)  # two tables of 16 columns in bf16, 6.4 MB; the rest is far less
TABLES = 2 * 100_000 * 16 * 2


def free(bytes_: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda _: bytes_)


def wide_bench() -> TorchBench:
    return TorchBench(WIDE, run="time", device="cpu", dtype="bf16", weights_seed=0)


def test_weights_that_cannot_fit_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as unbuilt:
        unbuilt.setattr(module, "build_model", lambda *_, **__: pytest.fail("they were made"))
        free(MARGIN + TABLES, unbuilt)
        with pytest.raises(DoesNotFit, match=r"weights and buffers need .* are free"):
            wide_bench()
    free(MARGIN + TABLES + 2**20, monkeypatch)
    assert wide_bench().model.config == WIDE


def test_the_cache_and_a_margin_must_fit_beside_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """4 layers, 4096 tokens, keys and values of 2 heads of 4 elements of 2 bytes.

    Logits of 100,000 are the widest activation, and far below 1 MiB.
    """
    bench, workload = wide_bench(), work(dtype="bf16", batch=1, context=4095)
    cache = 4 * 4096 * 2 * 2 * 4 * 2
    with monkeypatch.context() as unbegun:
        unbegun.setattr(module, "PreparedCase", lambda *_: pytest.fail("it was begun"))
        free(MARGIN + cache, unbegun)
        with pytest.raises(
            DoesNotFit, match=r"cache and activations need 0\.25 GiB .* 0\.25 GiB are"
        ):
            bench.measure(workload, SEED)
    seen: list[CaseWorkload] = []

    def measure(_self: CpuRun, case: PreparedCase, _facts: CaseFacts) -> RunResult:
        seen.append(case.workload)
        return RunResult(conditions=CONDITIONS)

    monkeypatch.setattr(CpuRun, "measure", measure)
    free(MARGIN + cache + 2**20, monkeypatch)
    bench.measure(workload, SEED)
    assert seen == [workload]


def test_where_the_system_does_not_say_what_is_free_the_case_is_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free(None, monkeypatch)
    result = bench_of("dense").measure(work(dtype="bf16"), SEED)
    assert isinstance(result.step["parameters"], Exact)


def test_flops_are_counted_only_when_a_method_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[CaseFacts] = []

    def measure(_self: CpuRun, _case: PreparedCase, facts: CaseFacts) -> RunResult:
        seen.append(facts)
        return RunResult(conditions=CONDITIONS)

    monkeypatch.setattr(CpuRun, "measure", measure)
    monkeypatch.setattr(module, "_last_flop_count", [])
    bench = bench_of("dense")
    bench.measure(work(dtype="bf16"), SEED)
    (facts,) = seen
    assert bench.flop_count.known == {}
    assert set(facts.flops()) == set(bench.paths)


def test_a_bench_lets_its_model_go() -> None:
    bench = bench_of("moe")
    bench.measure(work(dtype="bf16"), SEED)
    bench.close()
    assert not hasattr(bench, "model")


@pytest.mark.parametrize("run", RUNS)
def test_a_cpu_is_measured_in_the_run_time_only(run: RunName) -> None:
    reason = None if run == "time" else "not measured (no NVIDIA GPU)"
    assert unmeasurable(run, "cpu") == reason
    assert unmeasurable(run, "cuda") is None


def test_a_cpu_has_no_self_check() -> None:
    assert self_check("time", "cpu") == ()


def test_paths_are_the_leaves_in_their_order() -> None:
    bench = TorchBench(
        small(num_hidden_layers=1), run="time", device="cpu", dtype="fp32", weights_seed=0
    )
    assert bench.paths[0] == "embed"
    assert bench.paths[-2:] == ("final_norm", "lm_head")
    assert len(bench.paths) == 11
    assert bench.model.dtype == torch.float32


def test_tables_stand_where_each_case_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stood: list[str] = []

    def measure(_self: CpuRun, case: PreparedCase, _facts: CaseFacts) -> RunResult:
        stood.append(case.model.tables)
        return RunResult(conditions=CONDITIONS)

    monkeypatch.setattr(CpuRun, "measure", measure)
    bench = TorchBench(MODELS["ngram"], run="time", device="cpu", dtype="fp32", weights_seed=0)
    for placement in ("tables=hbm", "tables=host", "tables=host", "tables=hbm"):
        bench.measure(work(placement=placement), SEED)
    assert stood == ["hbm", "host", "host", "hbm"]


def test_flops_of_a_model_are_counted_once_for_benches_that_follow_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By any backend: the meta device knows shapes alone."""
    counted: list[int] = []

    def count(shadow: ReferenceModel, cache: Cache, new_tokens: int) -> dict[str, int]:
        counted.append(cache.length)
        return count_flops(shadow, cache, new_tokens)

    monkeypatch.setattr(module, "_last_flop_count", [])
    monkeypatch.setattr(tensor_facts, "count_flops", count)
    first, again, other = bench_of("gpt_oss"), bench_of("gpt_oss", "fp32"), bench_of("mla")
    workload = work(dtype="bf16")
    flops = first.flop_count.of(workload)
    assert again.flop_count.of(workload) == flops
    assert counted == [workload.context]
    assert other.flop_count.of(workload) != flops
    assert bench_of("gpt_oss").flop_count.of(workload) == flops
    assert counted == [workload.context] * 3
