"""The run `time` of a GPU with stand-ins: what it asks for, and what it makes of the answers."""

from collections.abc import Callable

import pytest
import torch

from costmodel.recordings.machine import Anchor
from costmodel.recordings.measured import Exact, Missing, Spread
from profiler.instruments.timing import Latency
from profiler.runs import time as time_run
from profiler.runs.case import PreparedCase, RenewingFlush
from profiler.runs.time import TimeRun
from tests.profiler.runs.gpu_runs import (
    ANCHOR_BYTES,
    FLUSH_BYTES,
    can_capture,
    has_agreed_names,
    known,
    selected_the_synthetic_experts,
    sparse_case,
    stand_in,
)


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, time_run)


@pytest.fixture
def case() -> PreparedCase:
    return sparse_case()


class Clocked:
    """Stand-ins for what times a step; they remember what they were given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, graph: bool) -> None:
        self.graph = graph
        self.workspaces = 32 * 2**20  # that cuBLAS keeps
        self.peak = 7_000_000
        monkeypatch.setattr(time_run, "cuda_seconds", self.cuda_seconds)
        # a process that has traced replays graphs more slowly
        monkeypatch.setattr(torch.profiler, "profile", lambda *_, **__: pytest.fail("traced"))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 5_000_000 + self.workspaces)
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: self.peak)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
        clear = "_cuda_clearCublasWorkspaces"  # which a build for CPUs lacks
        monkeypatch.setattr(torch._C, clear, self.clear_workspaces, raising=False)

    def clear_workspaces(self) -> None:
        self.workspaces = 0

    def cuda_seconds(
        self,
        replay: Callable[[], object] | None,
        eager: Callable[[], object],
        flush: RenewingFlush,
    ) -> Latency:
        assert (replay is not None) == self.graph
        assert callable(flush.settle)
        flush()
        eager()
        return Latency(graph_s=(0.02, 0.03, 0.04) if replay else (), eager_s=(0.1, 0.3, 0.2))


def test_the_run_time_gives_every_quantity_of_a_gpu(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clocked(monkeypatch, graph=True)
    can_capture(monkeypatch)
    result = TimeRun().measure(case, known(case))
    has_agreed_names(result, "time")
    step = result.step
    assert step["graph_s"] == Spread(
        median=0.03, q1=0.025, q3=0.035, repeats=3, source="cuda_event"
    )
    assert step["eager_s"] == Spread(median=0.2, q1=0.15, q3=0.25, repeats=3, source="cuda_event")
    # the measurement's own memory is no part of the step's; nor are workspaces resident
    own = FLUSH_BYTES + ANCHOR_BYTES
    assert step["peak_memory_bytes"] == Exact(value=7_000_000 - own, source="allocator")
    assert step["resident_memory_bytes"] == Exact(value=5_000_000 - own, source="allocator")
    assert result.conditions.anchors == (Anchor(name="a kernel", before_s=1e-6, after_s=2e-6),)
    assert result.conditions.sm_clock_mhz == 1980.0
    selected_the_synthetic_experts(result, case)
    assert set(result.accesses) == {"layers.0.moe.router"}


def test_a_step_that_cannot_be_captured_says_why_and_is_measured_eagerly(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clocked(monkeypatch, graph=False)
    can_capture(monkeypatch, RuntimeError("CUDA error: operation not permitted\nCompile with ..."))
    result = TimeRun().measure(case, known(case))
    assert result.step["graph_s"] == Missing(
        reason="not measured (cannot be captured as a CUDA graph:"
        " CUDA error: operation not permitted)"
    )
    assert isinstance(result.step["eager_s"], Spread)
    has_agreed_names(result, "time")


def test_out_of_memory_is_no_missing_graph(
    case: PreparedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clocked(monkeypatch, graph=True)
    can_capture(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        TimeRun().measure(case, known(case))
