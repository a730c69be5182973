"""Hardware counters of named ranges of GPU work, read in this process by CUPTI's range profiler.

The counters are read where a range begins and where it ends, so a range may hold any work on the
GPU: one kernel, a module, the replay of a CUDA graph. Where the metrics need more counters than
exist, the work is repeated in several passes. torch.profiler and ncu must not run at the same time.

Source: CUPTI's documentation, "CUPTI Host API" and "CUPTI Range Profiling API", CUDA 13.0.
"""

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

from profiler.instruments.cupti import CounterError, Cupti, UnknownMetricError, load_library
from profiler.instruments.cupti_structs import RANGE_PROFILER, USER_RANGE, USER_REPLAY

Enter: TypeAlias = Callable[[str], AbstractContextManager[None]]  # a range of this name


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeValues:
    """The value of each metric over one range, in the metric's own unit."""

    name: str
    values: dict[str, float]


class RangeCounters:
    """Reads hardware counters around pieces of a step; a context manager that holds the counters.

    The counters are those of the GPU whose CUDA context is current in this thread. A collection has
    at most `max_ranges` ranges (CUPTI refuses more than some thousands). `library` has the
    functions of CUPTI and the CUDA driver under their C names; None loads them, after torch has
    initialised CUDA.

    Attributes:
        passes: how often one collection runs the step.

    Raises:
        CounterError: The counters are not available; its subclasses say what can be done. Some
            drivers refuse the permission only when `collect` starts.
    """

    def __init__(
        self, metrics: Sequence[str], *, max_ranges: int, library: object | None = None
    ) -> None:
        self._cupti = Cupti(load_library() if library is None else library)
        self._metrics = tuple(metrics)
        # C keeps the addresses of names, labels and images, so they live as long as this object
        self._names = (ctypes.c_char_p * len(metrics))(*(name.encode() for name in metrics))
        self._labels = [str(index).encode() for index in range(max_ranges)]
        self._entered: list[str] = []
        with ExitStack() as held:
            self._cupti.call("cuptiProfilerInitialize")
            context, device = self._cupti.current()
            chip = self._cupti.call("cuptiDeviceGetChipName", deviceIndex=device).pChipName
            self._host = self._cupti.call(
                "cuptiProfilerHostInitialize", profilerType=RANGE_PROFILER, pChipName=chip
            ).pHostObject
            held.enter_context(
                self._cupti.afterwards("cuptiProfilerHostDeinitialize", pHostObject=self._host)
            )
            self._config = self._schedule(chip.decode())
            self.passes = int(
                self._cupti.call(
                    "cuptiProfilerHostGetNumOfPasses",
                    configImageSize=len(self._config),
                    pConfigImage=ctypes.addressof(self._config),
                ).numOfPasses
            )
            self._ranges = self._cupti.call(
                "cuptiRangeProfilerEnable", ctx=context
            ).pRangeProfilerObject
            held.enter_context(
                self._cupti.afterwards(
                    "cuptiRangeProfilerDisable", pRangeProfilerObject=self._ranges
                )
            )
            size = self._call(
                "cuptiRangeProfilerGetCounterDataSize",
                pMetricNames=ctypes.addressof(self._names),
                numMetrics=len(metrics),
                maxNumOfRanges=max_ranges,
                maxNumRangeTreeNodes=max_ranges,
            ).counterDataSize
            self._image = (ctypes.c_uint8 * size)()
            self._held = held.pop_all()
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        self._held.__exit__(kind, error, trace)

    def collect(self, step: Callable[[Enter], object]) -> list[RangeValues]:
        """Count the ranges of one step, in the order in which the step enters them.

        `step(range_)` does the work once and wraps pieces of it in `with range_("name"):`. Ranges
        do not nest; names may repeat. The step is run `passes` times and must do the same each
        time. The host waits for the GPU at both ends of a range, so that exactly its work is
        counted.

        Raises:
            CounterError: The counters failed, the step entered too many ranges, or CUPTI lost one.
        """
        assert self._open, "the counters were released"  # CUPTI would follow freed pointers
        self._call(
            "cuptiRangeProfilerCounterDataImageInitialize",
            counterDataSize=len(self._image),
            pCounterData=ctypes.addressof(self._image),
        )
        self._call(
            "cuptiRangeProfilerSetConfig",
            **self._image_fields(),
            configSize=len(self._config),
            pConfig=ctypes.addressof(self._config),
            range=USER_RANGE,
            replayMode=USER_REPLAY,
            maxRangesPerPass=len(self._labels),
            numNestingLevels=1,
            minNestingLevel=1,
            targetNestingLevel=1,
        )
        names = self._replay(step)
        dropped = self._call("cuptiRangeProfilerDecodeData").numOfRangeDropped
        values = self._decoded()
        if dropped or len(values) != len(names):
            raise CounterError(
                f"CUPTI gave {len(values)} of the {len(names)} ranges and dropped {dropped}"
            )
        return [RangeValues(name=name, values=values[index]) for index, name in enumerate(names)]

    def _replay(self, step: Callable[[Enter], object]) -> list[str]:
        """Run the step once for each pass; the names of its ranges."""
        first: list[str] | None = None
        for _ in range(2 * self.passes):  # a library that never finishes must not hang the process
            self._entered = []
            finished = self._one_pass(step)
            if first is not None and self._entered != first:
                raise CounterError("the step entered other ranges when it was run again")
            first = self._entered
            if finished:
                return first
        raise CounterError(f"CUPTI wants more than the {self.passes} passes that it announced")

    def _one_pass(self, step: Callable[[Enter], object]) -> bool:
        """Run the step for one pass; whether it was the last."""
        self._call("cuptiRangeProfilerStart")
        try:
            step(self._range)
        except BaseException:
            with suppress(CounterError):
                self._call("cuptiRangeProfilerStop")
            raise
        return bool(self._call("cuptiRangeProfilerStop").isAllPassSubmitted)

    @contextmanager
    def _range(self, name: str) -> Iterator[None]:
        if len(self._entered) == len(self._labels):
            raise CounterError(f"range {name!r} is one more than max_ranges={len(self._labels)}")
        # CUPTI gets the range's number as its name, since it merges ranges of the same name
        label = self._labels[len(self._entered)]
        self._entered.append(name)
        self._cupti.wait()
        self._call("cuptiRangeProfilerPushRange", pRangeName=label)
        with self._cupti.afterwards(
            "cuptiRangeProfilerPopRange", pRangeProfilerObject=self._ranges
        ):
            yield
            self._cupti.wait()

    def _decoded(self) -> dict[int, dict[str, float]]:
        """The values of the metrics in the counter data image, by the number of the range."""
        image = self._image_fields()
        values_by_range = {}
        total = self._cupti.call("cuptiRangeProfilerGetCounterDataInfo", **image).numTotalRanges
        for index in range(total):
            label = self._cupti.call(
                "cuptiRangeProfilerCounterDataGetRangeInfo",
                **image,
                rangeIndex=index,
                rangeDelimiter=b"/",
            ).rangeName
            values = (ctypes.c_double * len(self._metrics))()
            self._cupti.call(
                "cuptiProfilerHostEvaluateToGpuValues",
                **image,
                pHostObject=self._host,
                rangeIndex=index,
                ppMetricNames=ctypes.addressof(self._names),
                numMetrics=len(self._metrics),
                pMetricValues=ctypes.addressof(values),
            )
            for metric, value in zip(self._metrics, values, strict=True):
                if not (math.isfinite(value) and value >= 0):
                    raise CounterError(f"CUPTI gives {value} for {metric}")
            values_by_range[int(label)] = dict(zip(self._metrics, values, strict=True))
        return values_by_range

    def _schedule(self, chip: str) -> ctypes.Array[ctypes.c_uint8]:
        """The config image, which says which counters each pass reads."""
        for metric in self._metrics:
            try:
                self._cupti.call(
                    "cuptiProfilerHostGetMetricProperties",
                    pHostObject=self._host,
                    pMetricName=metric.encode(),
                )
            except UnknownMetricError:
                raise UnknownMetricError(f"the GPU ({chip}) has no metric {metric!r}") from None
        self._cupti.call(
            "cuptiProfilerHostConfigAddMetrics",
            pHostObject=self._host,
            ppMetricNames=ctypes.addressof(self._names),
            numMetrics=len(self._metrics),
        )
        size = self._cupti.call(
            "cuptiProfilerHostGetConfigImageSize", pHostObject=self._host
        ).configImageSize
        image = (ctypes.c_uint8 * int(size))()
        self._cupti.call(
            "cuptiProfilerHostGetConfigImage",
            pHostObject=self._host,
            configImageSize=size,
            pConfigImage=ctypes.addressof(image),
        )
        return image

    def _image_fields(self) -> dict[str, int]:
        return {
            "pCounterDataImage": ctypes.addressof(self._image),
            "counterDataImageSize": len(self._image),
        }

    def _call(self, function: str, **fields: object) -> Any:  # noqa: ANN401 - a struct
        """Call a function of the enabled range profiler."""
        return self._cupti.call(function, pRangeProfilerObject=self._ranges, **fields)
