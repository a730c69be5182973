"""The run `time` on a GPU: latency, memory, and facts of the tensors.

Nothing is traced in this process, since a trace slows replays of CUDA graphs; see the run `trace`.
"""

from typing import Any

import torch

from costmodel.recordings.measured import Column, Exact, Measured, Missing
from costmodel.recordings.recording import Check, RunResult
from profiler.instruments.flush import L2Flush
from profiler.instruments.machine import now
from profiler.instruments.nvml import open_gpu
from profiler.instruments.spread import spread
from profiler.instruments.timing import cuda_seconds, under_load
from profiler.runs.anchors import Anchors, with_anchors
from profiler.runs.base import CaseFacts
from profiler.runs.case import PreparedCase, RenewingFlush, captured_or_reason
from profiler.runs.tensor_facts import accesses, distinct_column, tensor_facts


class TimeRun:
    """Measures by CUDA events and the allocator."""

    def __init__(self) -> None:
        self.gpu = open_gpu()
        self.flush = L2Flush()
        self.anchors = Anchors()

    @property
    def _own_bytes(self) -> int:
        """Bytes that the measurement itself holds on the GPU."""
        return self.flush.nbytes + self.anchors.nbytes

    def self_check(self) -> tuple[Check, ...]:
        """Check nothing: CUDA events are timed by the GPU's own clock."""
        return ()

    def measure(self, case: PreparedCase, facts: CaseFacts) -> RunResult:
        """Time the step eagerly and as a CUDA graph, in turns, and the anchors around them."""
        started = now()
        before = self.anchors.seconds(self.flush)
        resident = _tensor_bytes() - self._own_bytes
        torch.cuda.reset_peak_memory_stats()
        case.run()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - self._own_bytes
        replay, why_not = captured_or_reason(case)
        latency = cuda_seconds(replay, case.run, RenewingFlush(self.flush, case))
        conditions = under_load(self.gpu, replay or case.run, started=started)
        conditions = with_anchors(conditions, before, self.anchors.seconds(self.flush))
        step: dict[str, Measured] = {
            "graph_s": spread(latency.graph_s, "cuda_event") if replay else Missing(reason=why_not),
            "eager_s": spread(latency.eager_s, "cuda_event"),
            "peak_memory_bytes": Exact(value=peak, source="allocator"),
            "resident_memory_bytes": Exact(value=resident, source="allocator"),
        }
        operators: dict[str, Column] = {"distinct": distinct_column(case)}
        exact = tensor_facts(case, facts.flops())
        return RunResult(
            conditions=conditions,
            step={**exact.step, **step},
            operators={**exact.operators, **operators},
            accesses=accesses(case.model),
        )


def _tensor_bytes() -> int:
    """Bytes of all tensors on the GPU, without the workspaces that cuBLAS keeps for streams."""
    torch.cuda.synchronize()
    clear: Any = torch._C._cuda_clearCublasWorkspaces  # noqa: SLF001 - no public way
    clear()
    return int(torch.cuda.memory_allocated())
