"""The run `time` on a CPU: wall time, memory of the process, and what the tensors say.

What needs an NVIDIA GPU is missing, and says so; nothing stands in for it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Exact, Measured, Missing
from costmodel.recordings.recording import Check
from profiler.instruments.leaf_hooks import around_leaves
from profiler.instruments.machine import now
from profiler.instruments.spread import exact_column, spread, spread_column
from profiler.instruments.timing import wall_seconds
from profiler.runs.bench import NO_GPU, Known, Measurement
from profiler.runs.case import PreparedCase
from profiler.runs.operand_bytes import logical_bytes
from profiler.runs.tensor_facts import accesses, counts, distinct_column

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FORGET_PEAK = "5"  # see proc(5): the peak resident size starts anew
TRACED_STEPS = 3


class CpuRun:
    """Wall clock and operating system."""

    def self_check(self) -> tuple[Check, ...]:
        """There is no counter to check."""
        return ()

    def measure(self, case: PreparedCase, known: Known) -> Measurement:
        """Time eager steps, then each leaf of some more."""
        started = now()
        forgets = _forget_peak()
        seconds = wall_seconds(case.run)
        peak, resident = _kilobytes("VmHWM"), _kilobytes("VmRSS")
        paths = tuple(case.model.leaves())
        logical = logical_bytes(case)
        by_leaf = [_wall_by_leaf(case) for _ in range(TRACED_STEPS)]
        step: dict[str, Measured] = {
            "logical_bytes": Exact(value=sum(logical.values()), source="tensors"),
            "graph_s": Missing(reason=NO_GPU),
            "eager_s": spread(seconds, "wall_clock"),
            "peak_memory_bytes": (
                Exact(value=peak, source="process")
                if forgets and peak is not None
                else Missing(reason="not measured (the system does not give a step's peak)")
            ),
            "resident_memory_bytes": (
                Exact(value=resident, source="process")
                if resident is not None
                else Missing(reason="not measured (the system does not give it)")
            ),
        }
        counted = counts(case, known.flops())
        return Measurement(
            conditions=Conditions(started=started, warm_up=1),
            step={**counted.step, **step},
            operators={
                **counted.operators,
                "logical_bytes": exact_column(paths, logical, "tensors"),
                "wall_s": spread_column(paths, by_leaf, "wall_clock"),
                "distinct": distinct_column(case.model),
            },
            accesses=accesses(case.model),
        )


def _wall_by_leaf(case: PreparedCase) -> dict[str, float]:
    """Wall seconds within each leaf of one step."""
    found: dict[str, float] = {}

    @contextmanager
    def clocked(path: str) -> Iterator[None]:
        start = perf_counter()
        yield
        found[path] = perf_counter() - start

    with around_leaves(case.model, clocked):
        case.run()
    return found


def _forget_peak() -> bool:
    """Let the process's peak memory start anew; False where the system does not allow it."""
    try:
        CLEAR_REFS.write_text(FORGET_PEAK)
    except OSError:
        return False
    return True


def _kilobytes(field: str) -> int | None:
    """A size of /proc/self/status, in bytes; None where there is none."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) * 1024
