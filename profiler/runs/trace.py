"""The run `trace` on a GPU: time and number of kernels by leaf or region, by torch.profiler."""

from costmodel.recordings.measured import Exact
from costmodel.recordings.recording import Check, RunResult
from profiler.instruments.kernels import kernels_by_path
from profiler.instruments.machine import now
from profiler.instruments.nvml import open_gpu
from profiler.instruments.spread import exact_column, spread, spread_column
from profiler.instruments.timing import under_load
from profiler.runs.base import CaseFacts
from profiler.runs.case import PreparedCase
from profiler.runs.tensor_facts import distinct_column

TRACED_STEPS = 5


class TraceRun:
    """Measures by torch.profiler, whose trace shows the leaf or region of each kernel."""

    def __init__(self) -> None:
        self.gpu = open_gpu()

    def self_check(self) -> tuple[Check, ...]:
        """Check nothing: kernels are timed by the GPU's own clock."""
        return ()

    def measure(self, case: PreparedCase, facts: CaseFacts) -> RunResult:
        """Trace `TRACED_STEPS` eager steps after one that warms up."""
        del facts
        started = now()
        case.run()
        traced = kernels_by_path(case.run, case.within, case.paths, steps=TRACED_STEPS)
        conditions = under_load(self.gpu, case.run, started=started)
        last = traced[-1]
        seconds = [sums.step_seconds for sums in traced]
        by_leaf = [sums.seconds for sums in traced]
        return RunResult(
            conditions=conditions,
            step={
                "kernel_s": spread(seconds, "torch_profiler"),
                "launches": Exact(value=last.step_launches, source="torch_profiler"),
            },
            operators={
                "kernel_s": spread_column(case.paths, by_leaf, "torch_profiler"),
                "launches": exact_column(case.paths, last.launches, "torch_profiler"),
                "distinct": distinct_column(case),
            },
        )
