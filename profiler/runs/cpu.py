"""The run `time` on a CPU: wall time, memory of the process, and facts of the tensors.

Quantities that need an NVIDIA GPU are missing, with that reason; nothing replaces them.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Exact, Measured, Missing
from costmodel.recordings.recording import Check, RunResult
from profiler.instruments.machine import now
from profiler.instruments.spread import exact_column, spread, spread_column
from profiler.instruments.timing import wall_seconds
from profiler.runs.base import NO_GPU, CaseFacts
from profiler.runs.case import PreparedCase
from profiler.runs.operand_bytes import operand_bytes
from profiler.runs.tensor_facts import accesses, distinct_column, tensor_facts

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc(5): resets the peak resident set size
TRACED_STEPS = 3


class CpuRun:
    """Measures by the wall clock and the operating system's figures of the process."""

    def self_check(self) -> tuple[Check, ...]:
        """Check nothing: a CPU run reads no hardware counter."""
        return ()

    def measure(self, case: PreparedCase, facts: CaseFacts) -> RunResult:
        """Time eager steps, then the leaves of `TRACED_STEPS` more."""
        started = now()
        peak_was_reset = _reset_peak()
        seconds = wall_seconds(case.run)
        peak, resident = _status_bytes("VmHWM"), _status_bytes("VmRSS")
        bytes_by_leaf = operand_bytes(case)
        wall_by_leaf = [_wall_by_leaf(case) for _ in range(TRACED_STEPS)]
        step: dict[str, Measured] = {
            "logical_bytes": Exact(value=sum(bytes_by_leaf.values()), source="tensors"),
            "graph_s": Missing(reason=NO_GPU),
            "eager_s": spread(seconds, "wall_clock"),
            "peak_memory_bytes": (
                Exact(value=peak, source="process")
                if peak_was_reset and peak is not None
                else Missing(reason="not measured (the system does not give a step's peak)")
            ),
            "resident_memory_bytes": (
                Exact(value=resident, source="process")
                if resident is not None
                else Missing(reason="not measured (the system does not give it)")
            ),
        }
        exact = tensor_facts(case, facts.flops())
        return RunResult(
            conditions=Conditions(started=started, warm_up=1),
            step={**exact.step, **step},
            operators={
                **exact.operators,
                "logical_bytes": exact_column(case.paths, bytes_by_leaf, "tensors"),
                "wall_s": spread_column(case.paths, wall_by_leaf, "wall_clock"),
                "distinct": distinct_column(case),
            },
            accesses=accesses(case.model),
        )


def _wall_by_leaf(case: PreparedCase) -> dict[str, float]:
    """Wall seconds of each leaf in one eager step, by path."""
    seconds: dict[str, float] = {}

    @contextmanager
    def clocked(path: str) -> Iterator[None]:
        start = perf_counter()
        yield
        seconds[path] = perf_counter() - start

    with case.within(clocked):
        case.run()
    return seconds


def _reset_peak() -> bool:
    """Reset the process's peak memory; False where the system does not allow it."""
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _status_bytes(field: str) -> int | None:
    """A size in /proc/self/status, in bytes; None where the system has none."""
    try:
        line = re.search(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if line is None else int(line[1]) * 1024
