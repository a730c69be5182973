"""HBM bytes and tensor-core FLOPs of work on the GPU, by its hardware counters.

Counting serialises launches and waits at every range, so durations are no latencies. Bytes are
those that cross between L2 and HBM. A line that a kernel writes stays in L2 until it is evicted,
and counts as written in the range where that happens: small outputs count in a later range, unless
L2 is flushed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from costmodel.recordings.case_workload import Dtype
from costmodel.routing.sectors import SECTOR_BYTES
from profiler.instruments.cupti import UnknownMetricError
from profiler.instruments.ranges import Enter, RangeCounters, RangeValues

READ = "dram__bytes_read.sum"
WRITTEN = "dram__bytes_write.sum"
HOST_SECTORS = "lts__d_sectors_fill_sysmem.sum"  # that L2 filled from host memory
DURATION = "gpu__time_duration.sum"  # nanoseconds
TENSOR: dict[Dtype, str] = {  # a multiply-add counts as 2; padding of tiles is included
    "bf16": "sm__ops_path_tensor_src_bf16_dst_fp32.sum",
    "fp32": "sm__ops_path_tensor_src_tf32_dst_fp32.sum",  # 0 where TF32 is off
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeCounts:
    """The counts of one range.

    `hbm_settled_bytes` are the written bytes after all lines have left L2; None without a flush
    after the range. `tensor_flops` is None where the chip has no such counter, `host_read_bytes`
    where they were not asked for.
    """

    hbm_read_bytes: int
    hbm_written_bytes: int
    tensor_flops: int | None
    duration_s: float
    hbm_settled_bytes: int | None = None
    host_read_bytes: int | None = None


class HardwareCounters:
    """Counts work on the GPU; a context manager that holds the hardware counters.

    Args:
        dtype: Whose tensor-core FLOPs are counted: products in bf16, or in fp32 by way of TF32.
        max_ranges: The most ranges of one step; `step` takes three.
        host: Whether to count what is read from host memory too.
        library: As in `RangeCounters`.

    Raises:
        CounterError: The counters are not available; its subclasses say what can be done.
    """

    def __init__(
        self,
        *,
        dtype: Dtype,
        max_ranges: int,
        host: bool = False,
        library: object | None = None,
    ) -> None:
        metrics = (READ, WRITTEN, DURATION, *((HOST_SECTORS,) if host else ()))
        self._host = host
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

    def step(self, run: Callable[[], object], *, flush: Callable[[], object]) -> RangeCounts:
        """Count one call of `run`, with L2 full of other data before and after it.

        `flush` queues work that fills all of L2, such as reading four times its size. It runs twice
        before `run` and once after. The first flush evicts what earlier work left and is not
        counted; the second is counted, as the cost of a flush; the third evicts what `run` left.

        Read bytes are those of `run` with none of its operands in L2. Written bytes are those that
        left L2 during `run`: without its last dirty lines, and with those of `flush`, which are
        none where it only reads. Settled bytes add what the third flush wrote beyond the second.
        L2 holds as many dirty lines of `flush` before as after, so the settled bytes are those that
        `run` wrote, whatever `flush` does. Their error is that of two flushes; they are never
        negative.

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
        return self._counts(ran, settled=max(0.0, ran.values[WRITTEN] + surplus))

    def ranges(self, step: Callable[[Enter], object]) -> list[tuple[str, RangeCounts]]:
        """Count the ranges of one step, in their order; L2 is not flushed between them.

        `step(range_)` wraps pieces of its work in `with range_("name"):`; see
        `RangeCounters.collect`. Dirty lines that a range leaves in L2 count in later ranges.

        Raises:
            CounterError: The counters failed, or a range too many was entered.
        """
        return [(range_.name, self._counts(range_)) for range_ in self._ranges.collect(step)]

    def _counts(self, range_: RangeValues, *, settled: float | None = None) -> RangeCounts:
        host = round(range_.values[HOST_SECTORS] * SECTOR_BYTES) if self._host else None
        return RangeCounts(
            host_read_bytes=host,
            hbm_read_bytes=round(range_.values[READ]),
            hbm_written_bytes=round(range_.values[WRITTEN]),
            tensor_flops=None if self._tensor is None else round(range_.values[self._tensor]),
            duration_s=range_.values[DURATION] * 1e-9,
            hbm_settled_bytes=None if settled is None else round(settled),
        )
