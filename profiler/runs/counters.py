"""The run `counters`: HBM bytes and tensor-core FLOPs of a step and of its leaves, by hardware.

The whole step runs as a CUDA graph where it can be captured. It is one range of the counters,
between two ranges that fill L2 with other data; the bytes it wrote are those that left L2 in its
range and in the one after. Leaves are ranges of one eager step and find in L2 what their neighbours
left there. Bytes that a leaf writes may be counted in the range of a later leaf, and those of the
last leaves in none. A leaf or region whose launches alternate with those of another, as where a
long prompt is searched in parts, has several ranges in a step; its counts are their sums.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from costmodel.recordings.measured import Column, Measured, Missing
from costmodel.recordings.recording import Check, RunResult
from profiler.instruments.counters import HardwareCounters, RangeCounts
from profiler.instruments.cupti import CounterError, PermissionRefusedError, UnknownMetricError
from profiler.instruments.flush import L2Flush
from profiler.instruments.leaf_hooks import LeafContext
from profiler.instruments.machine import now
from profiler.instruments.nvml import open_gpu
from profiler.instruments.spread import spread, spread_column
from profiler.instruments.timing import under_load
from profiler.runs.base import CaseFacts
from profiler.runs.case import PreparedCase, captured_or_reason
from profiler.runs.fallback import counts_without_cupti
from profiler.runs.self_check import StepCounters, counter_checks, host_check
from profiler.runs.tensor_facts import distinct_column

REPEATS = 3
STEP_RANGES = 3  # the step, and a flush of L2 before and after it
NO_COUNTER = Missing(reason="not measured (this GPU has no such counter)")


class CounterRun:
    """Measures by CUPTI's range profiler; where that is refused, by ncu or GPM."""

    def __init__(self) -> None:
        self.gpu, self.flush = open_gpu(), L2Flush()

    def self_check(self) -> tuple[Check, ...]:
        """Count a copy, two products and a gather of rows, whose bytes and FLOPs are known."""
        try:
            with HardwareCounters(dtype="bf16", max_ranges=STEP_RANGES) as counters:
                checks = counter_checks(counters, "cuda")
        except PermissionRefusedError as refused:  # cases are counted by other means
            counter: StepCounters = _Refused(refused)
            return (*counter_checks(counter, "cuda"), host_check(counter, "cuda"))
        try:
            with HardwareCounters(dtype="bf16", max_ranges=STEP_RANGES, host=True) as counters:
                return (*checks, host_check(counters, "cuda"))
        except UnknownMetricError as unknown:
            return (*checks, host_check(_Refused(unknown), "cuda"))

    def measure(self, case: PreparedCase, facts: CaseFacts) -> RunResult:
        """Count the step and its leaves `REPEATS` times each."""
        started = now()
        case.run()
        operators: dict[str, Column] = {"distinct": distinct_column(case)}
        replay, _ = captured_or_reason(case)
        try:
            step = self._step_quantities(case, replay or case.run)
            operators |= _leaf_columns(case)
        except PermissionRefusedError as refused:
            step = counts_without_cupti(case, replay or case.run, facts.spec(), self.gpu, refused)
        return RunResult(
            conditions=under_load(self.gpu, replay or case.run, started=started),
            step=step,
            operators=operators,
        )

    def _step_quantities(
        self, case: PreparedCase, run: Callable[[], object]
    ) -> dict[str, Measured]:
        with _counters(case, STEP_RANGES) as counters:
            repeats = [counters.step(run, flush=self.flush) for _ in range(REPEATS)]
        of_host = {"host_read_bytes": _spread([counts.host_read_bytes for counts in repeats])}
        return {
            **(of_host if _reads_host(case) else {}),
            "hbm_read_bytes": _spread([counts.hbm_read_bytes for counts in repeats]),
            "hbm_written_bytes": _spread([counts.hbm_settled_bytes for counts in repeats]),
            "flops_tensor": _spread([counts.tensor_flops for counts in repeats]),
        }


def _reads_host(case: PreparedCase) -> bool:
    """Whether tables of the case stand in host memory."""
    return case.workload.tables == "host"


def _counters(case: PreparedCase, max_ranges: int) -> HardwareCounters:
    """The counters of a case."""
    dtype = case.workload.dtype
    if _reads_host(case):
        return HardwareCounters(dtype=dtype, max_ranges=max_ranges, host=True)
    return HardwareCounters(dtype=dtype, max_ranges=max_ranges)


class _Refused:
    """Counters that were refused, so that every check fails with the reason."""

    def __init__(self, error: CounterError) -> None:
        self._error = error

    def step(self, run: Callable[[], object], *, flush: Callable[[], object]) -> NoReturn:
        del run, flush
        raise self._error


def _leaf_columns(case: PreparedCase) -> dict[str, Column]:
    paths = case.paths

    def eager_step(range_: LeafContext) -> None:
        with case.within(range_):
            case.run()

    with _counters(case, _ranges_of(case)) as counters:
        repeats = [counters.ranges(eager_step) for _ in range(REPEATS)]

    def column(quantity: Callable[[RangeCounts], float | None]) -> Column:
        readings = []
        for ranges in repeats:
            sums: defaultdict[str, float] = defaultdict(float)
            for path, counts in ranges:
                value = quantity(counts)
                if value is not None:
                    sums[path] += value
            readings.append(sums)
        if not any(readings):
            return NO_COUNTER
        return spread_column(paths, readings, "hardware_counter")

    of_host = {"host_read_bytes": column(lambda counts: counts.host_read_bytes)}
    return {
        **(of_host if _reads_host(case) else {}),
        "hbm_read_bytes": column(lambda counts: counts.hbm_read_bytes),
        "hbm_written_bytes": column(lambda counts: counts.hbm_written_bytes),
        "flops_tensor": column(lambda counts: counts.tensor_flops),
    }


def _ranges_of(case: PreparedCase) -> int:
    """How many ranges an eager step enters: a leaf may be entered more than once."""
    entered = 0

    @contextmanager
    def counted(path: str) -> Iterator[None]:
        nonlocal entered
        del path
        entered += 1
        yield

    with case.within(counted):
        case.run()
    return entered


def _spread(values: Sequence[int | None]) -> Measured:
    known = [float(value) for value in values if value is not None]
    return spread(known, "hardware_counter") if known else NO_COUNTER
