"""The run `time` on a GPU: latency, memory, and what the tensors say.

Nothing is traced in its process; kernels have their own run.
"""

from collections.abc import Callable

import torch

from costmodel.recordings.measured import Column, Exact, Measured, Missing
from costmodel.recordings.recording import Check
from profiler.instruments.flush import L2Flush
from profiler.instruments.machine import now
from profiler.instruments.nvml import open_gpu
from profiler.instruments.spread import spread
from profiler.instruments.timing import cuda_seconds, under_load
from profiler.runs.bench import Known, Measurement
from profiler.runs.case import PreparedCase
from profiler.runs.tensor_facts import accesses, counts, distinct_column


class TimeRun:
    """Latency between events."""

    def __init__(self) -> None:
        self.gpu = open_gpu()
        self.flush = L2Flush()

    def self_check(self) -> tuple[Check, ...]:
        """Clocks of the GPU's own events need none."""
        return ()

    def measure(self, case: PreparedCase, known: Known) -> Measurement:
        """Run it eagerly and as a graph, in turns."""
        started = now()
        resident = _tensor_bytes() - self.flush.nbytes
        torch.cuda.reset_peak_memory_stats()
        case.run()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - self.flush.nbytes
        replay, why_not = captured(case)
        latency = cuda_seconds(replay, case.run, self.flush)
        conditions = under_load(self.gpu, replay or case.run, started=started)
        step: dict[str, Measured] = {
            "graph_s": spread(latency.graph_s, "cuda_event") if replay else Missing(reason=why_not),
            "eager_s": spread(latency.eager_s, "cuda_event"),
            "peak_memory_bytes": Exact(value=peak, source="allocator"),
            "resident_memory_bytes": Exact(value=resident, source="allocator"),
        }
        operators: dict[str, Column] = {"distinct": distinct_column(case.model)}
        counted = counts(case, known.flops())
        return Measurement(
            conditions=conditions,
            step={**counted.step, **step},
            operators={**counted.operators, **operators},
            accesses=accesses(case.model),
        )


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
