"""A fake CUPTI and CUDA driver: takes the real structs, checks the order of calls, and can fail.

As by the real one, ranges of one name are counted together, and pass p of n reads only the metrics
p, p + n, ...
"""

import ctypes
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

from tests.profiler.instruments.fake_gpu import BF16, DURATION, READ, TF32, WRITTEN, FakeGpu

Struct: TypeAlias = Any  # of profiler.instruments.cupti_structs, or a pointer to one
CONTEXT = 0xC0FFEE

# ..._STRUCT_SIZE of the headers of CUDA 13.0, as a C++ compiler gives them.
HEADER_SIZES = {
    "cuptiProfilerInitialize": 16,
    "cuptiDeviceGetChipName": 32,
    "cuptiProfilerHostInitialize": 48,
    "cuptiProfilerHostDeinitialize": 24,
    "cuptiProfilerHostGetMetricProperties": 60,
    "cuptiProfilerHostConfigAddMetrics": 40,
    "cuptiProfilerHostGetConfigImageSize": 32,
    "cuptiProfilerHostGetConfigImage": 40,
    "cuptiProfilerHostGetNumOfPasses": 40,
    "cuptiProfilerHostEvaluateToGpuValues": 72,
    "cuptiRangeProfilerEnable": 32,
    "cuptiRangeProfilerDisable": 24,
    "cuptiRangeProfilerGetCounterDataSize": 64,
    "cuptiRangeProfilerCounterDataImageInitialize": 40,
    "cuptiRangeProfilerSetConfig": 90,
    "cuptiRangeProfilerStart": 24,
    "cuptiRangeProfilerPushRange": 32,
    "cuptiRangeProfilerPopRange": 24,
    "cuptiRangeProfilerStop": 41,
    "cuptiRangeProfilerDecodeData": 32,
    "cuptiRangeProfilerGetCounterDataInfo": 40,
    "cuptiRangeProfilerCounterDataGetRangeInfo": 56,
}
OK, INVALID_PARAMETER, INVALID_OPERATION, INVALID_METRIC_NAME, UNKNOWN = 0, 1, 7, 17, 999
LAUNCH_FAILED = 719  # of the CUDA driver
NAMES = {
    INVALID_PARAMETER: b"CUPTI_ERROR_INVALID_PARAMETER",
    INVALID_OPERATION: b"CUPTI_ERROR_INVALID_OPERATION",
    INVALID_METRIC_NAME: b"CUPTI_ERROR_INVALID_METRIC_NAME",
    26: b"CUPTI_ERROR_HARDWARE_BUSY",
    35: b"CUPTI_ERROR_INSUFFICIENT_PRIVILEGES",
    LAUNCH_FAILED: b"CUDA_ERROR_LAUNCH_FAILED",
    UNKNOWN: b"CUPTI_ERROR_UNKNOWN",
}
FRESH, DECODED = 0xA5, 0x01  # the first byte of a counter data image
CONFIG_BYTES, IMAGE_BYTES = 24, 100


class FakeCupti:
    """The functions by their C names; `failing` maps one to the code that it returns.

    After `lost_after` calls the GPU is gone: CUPTI knows nothing better than CUPTI_ERROR_UNKNOWN,
    and the driver says CUDA_ERROR_LAUNCH_FAILED. The last `dropping` ranges get lost, and it admits
    to `admitting`. `held` are the objects that nobody gave back.
    """

    def __init__(
        self,
        *,
        passes: int = 1,
        known: Iterable[str] = (READ, WRITTEN, DURATION, BF16, TF32),
        failing: dict[str, int] | None = None,
        lost_after: int | None = None,
        dropping: int = 0,
        admitting: int = 0,
        context: int | None = CONTEXT,
        gpu: FakeGpu | None = None,
    ) -> None:
        self.gpu = gpu or FakeGpu()
        self.calls: list[str] = []
        self.held: set[int] = set()
        self.failing = failing or {}
        self._known, self._passes = set(known), passes
        self._dropping, self._admitting = dropping, admitting
        self._lost_after, self._context = lost_after, context
        self._metrics: list[str] = []
        self._max_ranges = 0
        self._state = "disabled"  # configured, started, in range, stopped, decoded
        self._pass = 0
        self._range: tuple[bytes, dict[str, float]] = (b"", {})
        self._found: dict[bytes, dict[str, float]] = {}
        self._handlers: dict[str, Callable[[Struct], int]] = {
            "cuptiProfilerInitialize": lambda _: OK,
            "cuptiDeviceGetChipName": self._chip,
            "cuptiProfilerHostInitialize": self._host,
            "cuptiProfilerHostDeinitialize": self._host_end,
            "cuptiProfilerHostGetMetricProperties": self._metric,
            "cuptiProfilerHostConfigAddMetrics": self._add,
            "cuptiProfilerHostGetConfigImageSize": self._config_size,
            "cuptiProfilerHostGetConfigImage": self._config,
            "cuptiProfilerHostGetNumOfPasses": self._pass_count,
            "cuptiProfilerHostEvaluateToGpuValues": self._evaluate,
            "cuptiRangeProfilerEnable": self._enable,
            "cuptiRangeProfilerDisable": self._disable,
            "cuptiRangeProfilerGetCounterDataSize": self._image_size,
            "cuptiRangeProfilerCounterDataImageInitialize": self._image,
            "cuptiRangeProfilerSetConfig": self._configure,
            "cuptiRangeProfilerStart": self._start,
            "cuptiRangeProfilerPushRange": self._push,
            "cuptiRangeProfilerPopRange": self._pop,
            "cuptiRangeProfilerStop": self._stop,
            "cuptiRangeProfilerDecodeData": self._decode,
            "cuptiRangeProfilerGetCounterDataInfo": self._count,
            "cuptiRangeProfilerCounterDataGetRangeInfo": self._name,
        }

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name in HEADER_SIZES:
            return partial(self._cupti, name)
        if name in {"cuptiGetResultString", "cuGetErrorName"}:
            return self._text
        driver: dict[str, Callable[..., int]] = {
            "cuCtxGetCurrent": self._current,
            "cuCtxGetDevice": self._device,
            "cuCtxSynchronize": self._wait,
        }
        if name not in driver:
            raise AttributeError(name)
        return driver[name]

    @property
    def lost(self) -> bool:
        return self._lost_after is not None and len(self.calls) > self._lost_after

    def _cupti(self, name: str, pointer: Struct) -> int:
        self.calls.append(name)
        if self.lost:
            return UNKNOWN
        if name in self.failing:
            return self.failing[name]
        struct = pointer.contents
        if struct.structSize != HEADER_SIZES[name] or struct.pPriv:
            return INVALID_PARAMETER
        if name not in {"cuptiProfilerHostInitialize", "cuptiRangeProfilerEnable"}:
            objects = {"pHostObject", "pRangeProfilerObject"} & {f[0] for f in struct._fields_}
            if any(getattr(struct, each) not in self.held for each in objects):
                return INVALID_PARAMETER
        return self._handlers[name](struct)

    def _text(self, code: int, pointer: Struct) -> int:
        pointer.contents.value = NAMES.get(code, b"another error")
        return OK

    def _current(self, pointer: Struct) -> int:
        pointer.contents.value = self._context
        return OK

    def _device(self, pointer: Struct) -> int:
        pointer.contents.value = 3
        return OK

    def _wait(self) -> int:
        self.gpu.wait()
        return LAUNCH_FAILED if self.lost else OK

    def _chip(self, struct: Struct) -> int:
        struct.pChipName = b"GH100" if struct.deviceIndex == 3 else b"another GPU"
        return OK

    def _host(self, struct: Struct) -> int:
        if struct.profilerType != 0 or struct.pChipName != b"GH100":
            return INVALID_PARAMETER
        struct.pHostObject = 0xA0
        self.held.add(0xA0)
        return OK

    def _host_end(self, struct: Struct) -> int:
        self.held.remove(struct.pHostObject)
        return OK

    def _metric(self, struct: Struct) -> int:
        return OK if struct.pMetricName.decode() in self._known else INVALID_METRIC_NAME

    def _add(self, struct: Struct) -> int:
        self._metrics = _texts(struct.ppMetricNames, struct.numMetrics)
        return OK if self._known.issuperset(self._metrics) else INVALID_PARAMETER

    def _config_size(self, struct: Struct) -> int:
        struct.configImageSize = CONFIG_BYTES
        return OK

    def _config(self, struct: Struct) -> int:
        ctypes.memset(struct.pConfigImage, FRESH, struct.configImageSize)
        return OK

    def _pass_count(self, struct: Struct) -> int:
        if ctypes.string_at(struct.pConfigImage, struct.configImageSize) != CONFIG_BYTES * b"\xa5":
            return INVALID_PARAMETER
        struct.numOfPasses = self._passes
        return OK

    def _enable(self, struct: Struct) -> int:
        if struct.ctx != CONTEXT:
            return INVALID_PARAMETER
        struct.pRangeProfilerObject = 0xB0
        self.held.add(0xB0)
        self._state = "enabled"
        return OK

    def _disable(self, struct: Struct) -> int:
        self.held.remove(struct.pRangeProfilerObject)
        self._state = "disabled"
        return OK

    def _image_size(self, struct: Struct) -> int:
        if _texts(struct.pMetricNames, struct.numMetrics) != self._metrics:
            return INVALID_PARAMETER
        if struct.maxNumRangeTreeNodes < struct.maxNumOfRanges:
            return INVALID_PARAMETER
        struct.counterDataSize = IMAGE_BYTES
        return OK

    def _image(self, struct: Struct) -> int:
        if struct.counterDataSize != IMAGE_BYTES:
            return INVALID_PARAMETER
        ctypes.memset(struct.pCounterData, FRESH, struct.counterDataSize)
        return OK

    def _configure(self, struct: Struct) -> int:
        modes = (struct.range, struct.replayMode, struct.passIndex)
        levels = (struct.numNestingLevels, struct.minNestingLevel, struct.targetNestingLevel)
        sizes = (struct.configSize, struct.counterDataImageSize)
        fresh = ctypes.string_at(struct.pCounterDataImage, IMAGE_BYTES) == IMAGE_BYTES * b"\xa5"
        right = (modes, levels, sizes) == ((2, 3, 0), (1, 1, 1), (CONFIG_BYTES, IMAGE_BYTES))
        if not (right and fresh):
            return INVALID_PARAMETER
        self._image_at = struct.pCounterDataImage
        self._max_ranges = struct.maxRangesPerPass
        self._state, self._pass, self._found = "configured", 0, {}
        return OK

    def _start(self, _: object) -> int:
        return self._go({"configured", "stopped"}, "started")

    def _push(self, struct: Struct) -> int:
        self._range = (struct.pRangeName, dict(self.gpu.counters))
        return self._go({"started"}, "in range")

    def _pop(self, _: object) -> int:
        name, before = self._range
        if name in self._found or len(self._found) < self._max_ranges:
            values = self._found.setdefault(name, defaultdict(float))
            for metric in self._metrics[self._pass :: self._passes]:
                values[metric] += self.gpu.counters[metric] - before.get(metric, 0.0)
        return self._go({"in range"}, "started")

    def _stop(self, struct: Struct) -> int:
        self._pass += 1
        struct.isAllPassSubmitted = self._pass == self._passes
        return self._go({"started"}, "stopped")

    def _decode(self, struct: Struct) -> int:
        for name in list(self._found)[len(self._found) - self._dropping :]:
            del self._found[name]
        struct.numOfRangeDropped = self._admitting
        ctypes.memset(self._image_at, DECODED, IMAGE_BYTES)
        return self._go({"stopped"}, "decoded")

    def _go(self, allowed: set[str], state: str) -> int:
        if self._state not in allowed:
            return INVALID_OPERATION
        self._state = state
        return OK

    def _count(self, struct: Struct) -> int:
        struct.numTotalRanges = len(self._found)
        return OK

    def _listed(self, struct: Struct) -> bytes:
        newest_first = list(self._found)[::-1]  # no order is promised
        label: bytes = newest_first[struct.rangeIndex]
        return label

    def _name(self, struct: Struct) -> int:
        struct.rangeName = self._listed(struct)
        return OK

    def _evaluate(self, struct: Struct) -> int:
        if ctypes.string_at(struct.pCounterDataImage, 1) != bytes([DECODED]):
            return INVALID_PARAMETER
        values = self._found[self._listed(struct)]
        out = (ctypes.c_double * struct.numMetrics).from_address(struct.pMetricValues)
        asked = _texts(struct.ppMetricNames, struct.numMetrics)
        out[:] = [values[metric] for metric in asked]
        return OK


def _texts(address: int, count: int) -> list[str]:
    return [(text or b"").decode() for text in (ctypes.c_char_p * count).from_address(address)]
