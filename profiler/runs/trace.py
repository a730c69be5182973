"""The run `trace` on a GPU: kernel time and kernels of each leaf, by torch.profiler."""

from costmodel.recordings.measured import Exact
from costmodel.recordings.recording import Check
from profiler.instruments.kernels import kernels_by_leaf
from profiler.instruments.machine import now
from profiler.instruments.nvml import open_gpu
from profiler.instruments.spread import exact_column, spread, spread_column
from profiler.instruments.timing import under_load
from profiler.runs.bench import Known, Measurement
from profiler.runs.case import PreparedCase
from profiler.runs.tensor_facts import distinct_column

TRACED_STEPS = 5


class TraceRun:
    """Kernels of eager steps, each with the leaf that launched it."""

    def __init__(self) -> None:
        self.gpu = open_gpu()

    def self_check(self) -> tuple[Check, ...]:
        """A trace is by the GPU's own clock, which nothing here could check."""
        return ()

    def measure(self, case: PreparedCase, known: Known) -> Measurement:
        """Trace some eager steps after one that warms up."""
        del known
        started = now()
        case.run()
        traced = kernels_by_leaf(case.model, case.run, steps=TRACED_STEPS)
        conditions = under_load(self.gpu, case.run, started=started)
        paths, last = tuple(case.model.leaves()), traced[-1]
        seconds = [each.step_seconds for each in traced]
        by_leaf = [each.seconds for each in traced]
        return Measurement(
            conditions=conditions,
            step={
                "kernel_s": spread(seconds, "torch_profiler"),
                "launches": Exact(value=last.step_launches, source="torch_profiler"),
            },
            operators={
                "kernel_s": spread_column(paths, by_leaf, "torch_profiler"),
                "launches": exact_column(paths, last.launches, "torch_profiler"),
                "distinct": distinct_column(case.model),
            },
        )
