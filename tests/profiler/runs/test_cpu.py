"""On a CPU a run gives what can be had there, each from its source, and says what cannot."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from costmodel.recordings.measured import Exact, ExactColumn, Missing, Spread, SpreadColumn
from costmodel.recordings.quantities import QUANTITIES, measured_in
from costmodel.recordings.recording import RunResult
from profiler.runs import cpu as cpu_run
from profiler.runs.bench import TorchBench
from profiler.runs.cpu import CpuRun
from tests.profiler.runs.cases import SEED, work
from tests.reference_model.tiny import MODELS

NO_GPU = Missing(reason="not measured (no NVIDIA GPU)")
SOURCES = {
    "parameters": "tensors",
    "buffer_bytes": "tensors",
    "kv_held_bytes": "tensors",
    "kv_allocated_bytes": "tensors",
    "flops_counted": "flop_counter",
    "logical_bytes": "tensors",
    "eager_s": "wall_clock",
    "wall_s": "wall_clock",
    "peak_memory_bytes": "process",
    "resident_memory_bytes": "process",
    "distinct": "choices",
}
NEEDS_A_GPU = {"graph_s", "kernel_s", "launches"}


def measured(name: str = "moe") -> tuple[TorchBench, RunResult]:
    bench = TorchBench(MODELS[name], run="time", device="cpu", dtype="bf16", weights_seed=0)
    return bench, bench.measure(work(dtype="bf16"), SEED)


@pytest.mark.parametrize("name", ["moe", "ultramem_v2", "mla"])
def test_every_quantity_of_the_run_is_there_with_its_source(name: str) -> None:
    bench, result = measured(name)
    of_state = {name for name, each in QUANTITIES.items() if each.only == "state"}
    assert set(result.step) == set(measured_in("time", "step")) - of_state
    assert set(result.operators) == set(measured_in("time", "operators"))
    for given in (result.step, result.operators):
        missing = {name for name, value in given.items() if isinstance(value, Missing)}
        assert missing == NEEDS_A_GPU & set(given)
        assert all(given[name] == NO_GPU for name in missing)
        sources = {n: v.source for n, v in given.items() if not isinstance(v, Missing)}
        assert sources == {name: SOURCES[name] for name in sources}
    for column in result.operators.values():
        if isinstance(column, ExactColumn):
            assert len(column.values) == len(bench.paths)
        elif isinstance(column, SpreadColumn):
            assert len(column.median) == len(bench.paths)
    assert (result.accesses == {}) == (name == "mla")


def test_leaves_take_a_part_of_the_steps_time_and_all_of_its_bytes() -> None:
    _, result = measured("dense")
    eager, wall = result.step["eager_s"], result.operators["wall_s"]
    assert isinstance(eager, Spread)
    assert isinstance(wall, SpreadColumn)
    leaves = [seconds for seconds in wall.median if seconds is not None]
    assert len(leaves) == len(wall.median)
    assert all(seconds > 0 for seconds in leaves)
    assert wall.repeats == 3
    assert 0.01 * eager.median < sum(leaves) < 100 * eager.median  # other work may interfere
    step, column = result.step["logical_bytes"], result.operators["logical_bytes"]
    assert isinstance(step, Exact)
    assert isinstance(column, ExactColumn)
    assert step.value == sum(value for value in column.values if value is not None)


def test_the_state_of_a_cpu_is_not_read() -> None:
    _, result = measured("dense")
    unknown = {
        field.name: getattr(result.conditions, field.name)
        for field in dataclasses.fields(result.conditions)
        if field.name not in ("started", "warm_up")
    }
    assert set(unknown.values()) == {None, ()}
    assert result.conditions.warm_up == 1


def test_there_is_no_counter_to_check() -> None:
    assert CpuRun().self_check() == ()


def test_a_process_without_a_peak_of_its_own_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on systems other than Linux, and where the peak may not be reset."""
    monkeypatch.setattr(cpu_run, "CLEAR_REFS", tmp_path / "none" / "clear_refs")
    _, result = measured("dense")
    assert isinstance(result.step["peak_memory_bytes"], Missing)
    assert isinstance(result.step["resident_memory_bytes"], Exact)
    monkeypatch.setattr(cpu_run, "STATUS", tmp_path / "none" / "status")
    _, result = measured("dense")
    for name in ("peak_memory_bytes", "resident_memory_bytes"):
        missing = result.step[name]
        assert isinstance(missing, Missing)
        assert re.match(r"not measured \(the system does not ", missing.reason)


def test_sizes_are_read_in_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, reset = tmp_path / "status", tmp_path / "clear_refs"
    status.write_text("Name:\tpython\nVmPeak:\t  99 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1000 kB\n")
    monkeypatch.setattr(cpu_run, "STATUS", status)
    monkeypatch.setattr(cpu_run, "CLEAR_REFS", reset)
    _, result = measured("dense")
    assert result.step["peak_memory_bytes"] == Exact(value=2 * 2**20, source="process")
    assert result.step["resident_memory_bytes"] == Exact(value=1_024_000, source="process")
    assert reset.read_text() == "5"  # proc(5)


@pytest.mark.skipif(not cpu_run.CLEAR_REFS.exists(), reason="no /proc")
def test_the_peak_is_of_the_step_and_not_of_what_was_before() -> None:
    before = torch.ones(2**26)  # 256 MB, written and gone
    del before
    if not cpu_run._reset_peak():
        pytest.skip("the peak may not be reset here")
    peak = cpu_run._status_bytes("VmHWM")
    resident = cpu_run._status_bytes("VmRSS")
    assert peak is not None
    assert resident is not None
    assert peak - resident < 2**26
