"""The run `counters`: HBM bytes and tensor FLOPs of the whole step and of each leaf, by hardware.

The whole step is a CUDA graph where it can be captured, measured in one range between two ranges
that fill L2 with other data; the bytes it wrote are those that left L2 during it and in the range
after. Leaves are ranges of one eager step, L2 being as their neighbours leave it; what a leaf
writes may be charged to a later one, and what the last ones write to none.
"""

from collections.abc import Callable, Sequence
from typing import NoReturn

from costmodel.recordings.measured import Column, Measured, Missing
from costmodel.recordings.recording import Check
from profiler.instruments.counters import Counted, Counters
from profiler.instruments.cupti import PermissionRefusedError
from profiler.instruments.flush import L2Flush
from profiler.instruments.leaf_hooks import Around, around_leaves
from profiler.instruments.machine import now
from profiler.instruments.nvml import open_gpu
from profiler.instruments.spread import spread, spread_column
from profiler.instruments.timing import under_load
from profiler.runs.bench import Known, Measurement
from profiler.runs.case import PreparedCase
from profiler.runs.fallback import counted_otherwise
from profiler.runs.self_check import counter_checks
from profiler.runs.tensor_facts import distinct_column
from profiler.runs.time import captured

REPEATS = 3
STEP_RANGES = 3  # the step, and a flush on either side of it
NO_COUNTER = Missing(reason="not measured (this GPU has no such counter)")


class CounterRun:
    """CUPTI's range profiler around steps and leaves."""

    def __init__(self) -> None:
        self.gpu, self.flush = open_gpu(), L2Flush()

    def self_check(self) -> tuple[Check, ...]:
        """A copy, a streaming product and a square one, whose bytes and FLOPs are known."""
        try:
            with Counters(dtype="bf16", max_ranges=STEP_RANGES) as counters:
                return counter_checks(counters, "cuda")
        except PermissionRefusedError as refused:  # cases are counted otherwise
            return counter_checks(_Refused(refused), "cuda")

    def measure(self, case: PreparedCase, known: Known) -> Measurement:
        """Counters of the step and of its leaves, several times each."""
        started = now()
        case.run()
        operators: dict[str, Column] = {"distinct": distinct_column(case.model)}
        replay, _ = captured(case)
        try:
            step = self._steps(case, replay or case.run)
            operators |= _leaves(case)
        except PermissionRefusedError as refused:
            step = counted_otherwise(case, replay or case.run, known.spec(), self.gpu, refused)
        return Measurement(
            conditions=under_load(self.gpu, replay or case.run, started=started),
            step=step,
            operators=operators,
        )

    def _steps(self, case: PreparedCase, run: Callable[[], object]) -> dict[str, Measured]:
        with Counters(dtype=case.workload.dtype, max_ranges=STEP_RANGES) as counters:
            found = [counters.step(run, flush=self.flush) for _ in range(REPEATS)]
        return {
            "hbm_read_bytes": _spread([each.hbm_read_bytes for each in found]),
            "hbm_written_bytes": _spread([each.hbm_settled_bytes for each in found]),
            "flops_tensor": _spread([each.tensor_flops for each in found]),
        }


class _Refused:
    """Counters that are not there: each check says why."""

    def __init__(self, error: PermissionRefusedError) -> None:
        self._error = error

    def step(self, run: Callable[[], object], *, flush: Callable[[], object]) -> NoReturn:
        del run, flush
        raise self._error


def _leaves(case: PreparedCase) -> dict[str, Column]:
    paths = tuple(case.model.leaves())

    def eager(range_: Around) -> None:
        with around_leaves(case.model, range_):
            case.run()

    with Counters(dtype=case.workload.dtype, max_ranges=len(paths)) as counters:
        found = [counters.ranges(eager) for _ in range(REPEATS)]

    def column(value: Callable[[Counted], float | None]) -> Column:
        readings = [{path: value(counted) for path, counted in each} for each in found]
        known = [{path: v for path, v in each.items() if v is not None} for each in readings]
        if not any(known):
            return NO_COUNTER
        return spread_column(paths, known, "hardware_counter")

    return {
        "hbm_read_bytes": column(lambda counted: counted.hbm_read_bytes),
        "hbm_written_bytes": column(lambda counted: counted.hbm_written_bytes),
        "flops_tensor": column(lambda counted: counted.tensor_flops),
    }


def _spread(values: Sequence[int | None]) -> Measured:
    known = [float(value) for value in values if value is not None]
    return spread(known, "hardware_counter") if known else NO_COUNTER
