"""The run `time` on a GPU: latency, kernels by leaf, memory, and what the tensors say."""

from collections.abc import Callable
from math import ceil

import torch

from costmodel.inputs.recording import Check, Column, Exact, Measured, Missing
from profiler.bench import Known, Measurement
from profiler.case import PreparedCase
from profiler.counts import accesses, counts, distinct_column
from profiler.flush import L2Flush
from profiler.kernels import kernels_by_leaf
from profiler.machine import now
from profiler.nvml import open_gpu
from profiler.spread import exact_column, spread, spread_column
from profiler.timing import cuda_seconds

TRACED_STEPS = 3
LOAD_S = 0.05  # of work in flight while clocks are read


class TimeRun:
    """Latency between events, and torch.profiler's kernels."""

    def __init__(self) -> None:
        self.gpu = open_gpu()
        self.flush = L2Flush()

    def self_check(self) -> tuple[Check, ...]:
        """Clocks of the GPU's own events need none."""
        return ()

    def measure(self, case: PreparedCase, known: Known) -> Measurement:
        """Run it eagerly, then as a graph, then under torch.profiler."""
        started = now()
        resident = _tensor_bytes() - self.flush.nbytes
        torch.cuda.reset_peak_memory_stats()
        case.run()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - self.flush.nbytes
        replay, why_not = captured(case)
        small = int(known.costs.totals.compulsory_bytes) < self.flush.nbytes
        latency = cuda_seconds(replay, case.run, before=self.flush if small else None)
        self._load(replay or case.run, min(latency.graph_s or latency.eager_s))
        conditions = self.gpu.conditions(started=started, warm_up=1)
        torch.cuda.synchronize()
        traced = kernels_by_leaf(case.model, case.run, steps=TRACED_STEPS)
        paths = tuple(case.model.leaves())
        last = traced[-1]
        step: dict[str, Measured] = {
            "graph_s": spread(latency.graph_s, "cuda_event") if replay else Missing(reason=why_not),
            "eager_s": spread(latency.eager_s, "cuda_event"),
            "kernel_s": spread([each.step_seconds for each in traced], "torch_profiler"),
            "launches": Exact(value=last.step_launches, source="torch_profiler"),
            "peak_memory_bytes": Exact(value=peak, source="allocator"),
            "resident_memory_bytes": Exact(value=resident, source="allocator"),
        }
        operators: dict[str, Column] = {
            "kernel_s": spread_column(paths, [each.seconds for each in traced], "torch_profiler"),
            "launches": exact_column(paths, last.launches, "torch_profiler"),
            "distinct": distinct_column(case.model),
        }
        counted = counts(case, known.flops())
        return Measurement(
            conditions=conditions,
            step={**counted.step, **step},
            operators={**counted.operators, **operators},
            accesses=accesses(case.model),
        )

    @staticmethod
    def _load(run: Callable[[], object], seconds: float) -> None:
        for _ in range(ceil(LOAD_S / seconds)):
            run()


def _tensor_bytes() -> int:
    """Bytes of the tensors that are there: without the workspaces that cuBLAS keeps for streams."""
    torch.cuda.synchronize()
    clear: Callable[[], None] = torch._C._cuda_clearCublasWorkspaces  # noqa: SLF001 - no public way
    clear()
    return int(torch.cuda.memory_allocated())


def captured(case: PreparedCase) -> tuple[Callable[[], None] | None, str]:
    """What replays the step as a CUDA graph; or None, and why it cannot be captured."""
    try:
        return case.captured(), ""
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        torch.cuda.synchronize()
        first = str(error).strip().partition("\n")[0][:200]
        return None, f"not measured (cannot be captured as a CUDA graph: {first})"
