"""The parameter structs of the CUPTI functions that count ranges, as in CUPTI 13.0.

Every function takes a pointer to one struct. Its first field is the struct's size up to the end of
the last field (`..._STRUCT_SIZE` in the headers), by which a later CUPTI knows which fields exist.

Source: cupti_target.h, cupti_profiler_target.h, cupti_profiler_host.h, cupti_range_profiler.h of
CUDA 13.0, whose field names are kept. A test compares the layouts with the sizes in the headers.
"""

import ctypes
from typing import Any

RANGE_PROFILER = 0  # CUPTI_PROFILER_TYPE_RANGE_PROFILER
USER_RANGE = 2  # CUPTI_UserRange: the program defines ranges, instead of one for each kernel
USER_REPLAY = 3  # CUPTI_UserReplay: the program repeats its work for each pass

_SIZE, _POINTER, _TEXT, _ENUM = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_U8, _U16, _U32 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32

_HOST = ("pHostObject", _POINTER)
_RANGES = ("pRangeProfilerObject", _POINTER)
_IMAGE = (("pCounterDataImage", _POINTER), ("counterDataImageSize", _SIZE))
_METRICS = (("ppMetricNames", _POINTER), ("numMetrics", _SIZE))

_FIELDS: dict[str, tuple[tuple[str, Any], ...]] = {
    "cuptiProfilerInitialize": (),
    "cuptiDeviceGetChipName": (("deviceIndex", _SIZE), ("pChipName", _TEXT)),
    "cuptiProfilerHostInitialize": (
        ("profilerType", _ENUM),
        ("pChipName", _TEXT),
        ("pCounterAvailabilityImage", _POINTER),
        _HOST,
    ),
    "cuptiProfilerHostDeinitialize": (_HOST,),
    "cuptiProfilerHostGetMetricProperties": (
        _HOST,
        ("pMetricName", _TEXT),
        ("pDescription", _TEXT),
        ("pHwUnit", _TEXT),
        ("pDimUnit", _TEXT),
        ("metricType", _ENUM),
    ),
    "cuptiProfilerHostConfigAddMetrics": (_HOST, *_METRICS),
    "cuptiProfilerHostGetConfigImageSize": (_HOST, ("configImageSize", _SIZE)),
    "cuptiProfilerHostGetConfigImage": (
        _HOST,
        ("configImageSize", _SIZE),
        ("pConfigImage", _POINTER),
    ),
    "cuptiProfilerHostGetNumOfPasses": (
        ("configImageSize", _SIZE),
        ("pConfigImage", _POINTER),
        ("numOfPasses", _SIZE),
    ),
    "cuptiProfilerHostEvaluateToGpuValues": (
        _HOST,
        *_IMAGE,
        ("rangeIndex", _SIZE),
        *_METRICS,
        ("pMetricValues", _POINTER),
    ),
    "cuptiRangeProfilerEnable": (("ctx", _POINTER), _RANGES),
    "cuptiRangeProfilerDisable": (_RANGES,),
    "cuptiRangeProfilerGetCounterDataSize": (
        _RANGES,
        ("pMetricNames", _POINTER),
        ("numMetrics", _SIZE),
        ("maxNumOfRanges", _SIZE),
        ("maxNumRangeTreeNodes", _U32),
        ("counterDataSize", _SIZE),
    ),
    "cuptiRangeProfilerCounterDataImageInitialize": (
        _RANGES,
        ("counterDataSize", _SIZE),
        ("pCounterData", _POINTER),
    ),
    "cuptiRangeProfilerSetConfig": (
        _RANGES,
        ("configSize", _SIZE),
        ("pConfig", _POINTER),
        ("counterDataImageSize", _SIZE),
        ("pCounterDataImage", _POINTER),
        ("range", _ENUM),
        ("replayMode", _ENUM),
        ("maxRangesPerPass", _SIZE),
        ("numNestingLevels", _U16),
        ("minNestingLevel", _U16),
        ("passIndex", _SIZE),
        ("targetNestingLevel", _U16),
    ),
    "cuptiRangeProfilerStart": (_RANGES,),
    "cuptiRangeProfilerPushRange": (_RANGES, ("pRangeName", _TEXT)),
    "cuptiRangeProfilerPopRange": (_RANGES,),
    "cuptiRangeProfilerStop": (
        _RANGES,
        ("passIndex", _SIZE),
        ("targetNestingLevel", _SIZE),
        ("isAllPassSubmitted", _U8),
    ),
    "cuptiRangeProfilerDecodeData": (_RANGES, ("numOfRangeDropped", _SIZE)),
    "cuptiRangeProfilerGetCounterDataInfo": (*_IMAGE, ("numTotalRanges", _SIZE)),
    "cuptiRangeProfilerCounterDataGetRangeInfo": (
        *_IMAGE,
        ("rangeIndex", _SIZE),
        ("rangeDelimiter", _TEXT),
        ("rangeName", _TEXT),
    ),
}


def _struct(name: str, fields: tuple[tuple[str, Any], ...]) -> type[ctypes.Structure]:
    # __slots__: a misspelt field fails, instead of becoming an attribute that C never sees
    body = {"_fields_": [("structSize", _SIZE), ("pPriv", _POINTER), *fields], "__slots__": ()}
    return type(name, (ctypes.Structure,), body)


PARAMETERS = {function: _struct(function, fields) for function, fields in _FIELDS.items()}


def struct_size(struct: type[ctypes.Structure]) -> int:
    """The struct's size in bytes up to the end of its last field, without padding after it."""
    last = getattr(struct, struct._fields_[-1][0])
    return int(last.offset + last.size)
