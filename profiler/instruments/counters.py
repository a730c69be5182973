"""HBM bytes and tensor FLOPs of work on the GPU, as its hardware counters saw them.

Counting serialises launches and waits at every range, so durations are no latencies. Bytes are
those that cross between L2 and HBM. A line that was written stays in L2 until something else needs
its place, and only then counts as written, wherever that happens: small outputs are charged to a
later range, unless L2 is flushed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypeAlias

from profiler.instruments.cupti import UnknownMetricError
from profiler.instruments.ranges import Enter, RangeCounters, RangeValues

READ = "dram__bytes_read.sum"
WRITTEN = "dram__bytes_write.sum"
DURATION = "gpu__time_duration.sum"  # nanoseconds
Dtype: TypeAlias = Literal["bf16", "fp32"]
TENSOR: dict[Dtype, str] = {  # a multiply-add counts 2, padding of tiles counts too
    "bf16": "sm__ops_path_tensor_src_bf16_dst_fp32.sum",
    "fp32": "sm__ops_path_tensor_src_tf32_dst_fp32.sum",  # 0 where TF32 is off
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the counters gave for one range.

    `hbm_settled_bytes` is what the range wrote once all its lines have left L2; None where no flush
    followed it. `tensor_flops` is None where the chip has no such counter.
    """

    hbm_read_bytes: int
    hbm_written_bytes: int
    tensor_flops: int | None
    duration_s: float
    hbm_settled_bytes: int | None = None


class Counters:
    """Counts work on the GPU; a context manager that holds the hardware counters.

    Args:
        dtype: Which tensor FLOPs are counted: of products of bf16, or of fp32 by way of TF32.
        max_ranges: The most ranges of one step; `step` takes three.
        library: As in `RangeCounters`.

    Raises:
        CounterError: The counters cannot be had; its subclasses say what can be done.
    """

    def __init__(self, *, dtype: Dtype, max_ranges: int, library: object | None = None) -> None:
        metrics = (READ, WRITTEN, DURATION)
        self._tensor: str | None = TENSOR[dtype]
        try:
            self._ranges = RangeCounters(
                (*metrics, self._tensor), max_ranges=max_ranges, library=library
            )
        except UnknownMetricError:  # chips before Ampere
            self._tensor = None
            self._ranges = RangeCounters(metrics, max_ranges=max_ranges, library=library)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ranges.__exit__(kind, error, trace)

    def step(self, run: Callable[[], object], *, flush: Callable[[], object]) -> Counted:
        """One run in a range of its own, with L2 full of other data before and after.

        `flush` queues work that takes all of L2, such as reading four times its size; it runs
        twice before and once after. The first puts out what earlier work left, and is not counted.
        The second, in a range, says what a flush costs. The third puts out what `run` left.

        Read bytes are those of `run` with nothing of its operands in L2. Written bytes are those
        that left L2 during `run`: without its last dirty lines, and with those that `flush` left,
        which are none where it only reads. Settled bytes add what the third flush wrote beyond the
        second: L2 holds as many dirty lines of `flush` before as after, so they are what `run`
        wrote, whatever `flush` does. Their error is that of two flushes (and never below zero).

        Raises:
            CounterError: The counters failed.
        """

        def measured(range_: Enter) -> None:
            flush()
            with range_("flush before"):
                flush()
            with range_("run"):
                run()
            with range_("flush after"):
                flush()

        before, ran, after = self._ranges.collect(measured)
        surplus = after.values[WRITTEN] - before.values[WRITTEN]
        return self._counted(ran, settled=max(0.0, ran.values[WRITTEN] + surplus))

    def ranges(self, step: Callable[[Enter], object]) -> list[tuple[str, Counted]]:
        """The ranges of one step in order, L2 being as the work before each leaves it.

        `step(range_)` wraps pieces of its work in `with range_("name"):`; see
        `RangeCounters.collect`. What a range left dirty in L2 is charged to those after it.

        Raises:
            CounterError: The counters failed, or a range too many was entered.
        """
        return [(each.name, self._counted(each)) for each in self._ranges.collect(step)]

    def _counted(self, found: RangeValues, *, settled: float | None = None) -> Counted:
        return Counted(
            hbm_read_bytes=round(found.values[READ]),
            hbm_written_bytes=round(found.values[WRITTEN]),
            tensor_flops=None if self._tensor is None else round(found.values[self._tensor]),
            duration_s=found.values[DURATION] * 1e-9,
            hbm_settled_bytes=None if settled is None else round(settled),
        )
