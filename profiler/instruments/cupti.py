"""CUPTI through ctypes: its functions as Python calls, its codes as errors with advice.

CUPTI is NVIDIA's library for a GPU's hardware counters; torch's CUDA wheels contain it. The order
in which its functions must be called is that of `profiler.instruments.ranges`.
"""

import ctypes
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from costmodel.errors import WorkError
from profiler.instruments.cupti_structs import PARAMETERS, struct_size

PERMISSION_ADVICE = (
    "the driver lets only administrators read performance counters: run as root (in a container:"
    " with CAP_SYS_ADMIN), or load the driver with NVreg_RestrictProfilingToAdminUsers=0"
)
BUSY_ADVICE = (
    "another profiler holds the performance counters (ncu, Nsight Systems, torch.profiler, DCGM's"
    " profiling metrics): stop it and try again"
)


class CounterError(WorkError):
    """Hardware counters are not available; the message says why."""


class PermissionRefusedError(CounterError):
    """This user may not read the counters."""


class CountersBusyError(CounterError):
    """Another profiler holds the counters."""


class DeviceLostError(CounterError):
    """This process can no longer use the GPU; only a new process can."""


class CountersUnavailableError(CounterError):
    """This machine lacks the GPU, driver, library or program that counters need."""


class UnknownMetricError(CounterError):
    """This chip has no such metric."""


NAMES = ("libcupti.so.13", "libcupti.so.12")
HELPERS = ("libnvperf_host.so", "libnvperf_target.so")  # CUPTI opens them by name

# By CUptiResult, see cupti_result.h of CUDA 13.0; users can do nothing about other codes.
REASONS: dict[int, tuple[type[CounterError], str]] = {
    2: (DeviceLostError, "the GPU is gone"),
    3: (DeviceLostError, "the CUDA context is gone"),
    9: (DeviceLostError, "the GPU's counter hardware failed"),
    11: (CountersUnavailableError, "this CUPTI lacks the function"),
    15: (CountersUnavailableError, "CUPTI cannot reach the CUDA driver"),
    17: (UnknownMetricError, "this chip has no such metric"),
    23: (CountersBusyError, BUSY_ADVICE),
    26: (CountersBusyError, BUSY_ADVICE),
    27: (CountersUnavailableError, "this GPU or system gives no counters"),
    33: (CountersUnavailableError, "a virtual GPU gives no counters"),
    35: (PermissionRefusedError, PERMISSION_ADVICE),
    39: (CountersBusyError, BUSY_ADVICE),
    40: (PermissionRefusedError, "the hypervisor forbids this virtual GPU to read counters"),
    41: (CountersUnavailableError, "confidential computing forbids counters"),
    42: (CountersUnavailableError, "a mining GPU gives no counters"),
    43: (CountersUnavailableError, "a part of a GPU (MIG) gives no counters"),
    44: (CountersUnavailableError, "GPUs coupled by SLI give no counters"),
    45: (CountersUnavailableError, "Windows' Linux subsystem gives no counters"),
    46: (CountersUnavailableError, "this CUPTI does not know the GPU; a newer one may"),
}


class Cupti:
    """Calls the functions of `library`: those of CUPTI and the CUDA driver, by their C names."""

    def __init__(self, library: object) -> None:
        self._library: Any = library

    def call(self, function: str, **fields: object) -> Any:  # noqa: ANN401 - a struct of PARAMETERS
        """Call a function with these input fields, and return its parameter struct afterwards.

        Raises:
            CounterError: The library lacks the function, or the call failed.
        """
        struct: Any = PARAMETERS[function]
        parameters = struct(structSize=struct_size(struct), **fields)
        try:
            entry = getattr(self._library, function)
        except AttributeError:
            raise CountersUnavailableError(
                f"CUPTI has no {function}: it is older than CUDA 12.6"
            ) from None
        code = entry(ctypes.pointer(parameters))
        if code:
            raise self._error(function, code)
        return parameters

    @contextmanager
    def afterwards(self, function: str, **fields: object) -> Iterator[None]:
        """Call the function when the context is left; its failure never hides an earlier error."""
        try:
            yield
        except BaseException:
            with suppress(CounterError):
                self.call(function, **fields)
            raise
        self.call(function, **fields)

    def current(self) -> tuple[int, int]:
        """The CUDA context of this thread, and the index of its GPU.

        Raises:
            CountersUnavailableError: There is none.
        """
        context, device = ctypes.c_void_p(), ctypes.c_int()
        self._library.cuCtxGetCurrent(ctypes.pointer(context))
        if not context.value or self._library.cuCtxGetDevice(ctypes.pointer(device)):
            raise CountersUnavailableError("no CUDA context is current in this thread")
        return context.value, device.value

    def wait(self) -> None:
        """Wait until the GPU has done all work of the current context.

        Raises:
            DeviceLostError: Work failed, so the context is unusable.
        """
        code = self._library.cuCtxSynchronize()
        if code:
            name = self._name("cuGetErrorName", code)
            raise DeviceLostError(f"work on the GPU failed: {name} ({code})")

    def _error(self, function: str, code: int) -> CounterError:
        kind, reason = REASONS.get(code, (CounterError, ""))
        if kind is CounterError:
            try:
                self.wait()  # CUPTI has no code for a failed context, but the driver has
            except DeviceLostError as lost:
                kind, reason = DeviceLostError, str(lost)
        name = self._name("cuptiGetResultString", code)
        return kind(f"{function} failed with {name} ({code}){reason and ': ' + reason}")

    def _name(self, function: str, code: int) -> str:
        text = ctypes.c_char_p()
        getattr(self._library, function)(code, ctypes.pointer(text))
        return (text.value or b"unknown error").decode()


class _Loaded:
    """Two shared libraries as one object."""

    def __init__(self, cupti: ctypes.CDLL, driver: ctypes.CDLL) -> None:
        self._cupti, self._driver = cupti, driver

    def __getattr__(self, name: str) -> object:
        return getattr(self._cupti if name.startswith("cupti") else self._driver, name)


def load_library() -> object:
    """Load CUPTI and the CUDA driver, after torch has initialised CUDA in this process.

    Raises:
        CountersUnavailableError: There is no NVIDIA GPU, or no CUPTI.
    """
    import torch

    if not torch.cuda.is_available():
        raise CountersUnavailableError("no NVIDIA GPU that torch can use")
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    tried = library_files(Path("/proc/self/maps").read_text(), sys.path)
    for file in tried:
        with suppress(OSError):
            return _Loaded(_opened(file), ctypes.CDLL("libcuda.so.1"))
    raise CountersUnavailableError(f"CUPTI was not found; tried {', '.join(tried)}")


def library_files(maps: str, folders: Iterable[str]) -> list[str]:
    """Where CUPTI may be, best first: loaded already, in NVIDIA's wheels, on the system.

    Args:
        maps: The text of /proc/self/maps.
        folders: The folders that hold Python packages.
    """
    lines = [line.split(maxsplit=5) for line in maps.splitlines()]
    mapped = [line[5] for line in lines if len(line) == 6 and "/libcupti.so" in line[5]]  # noqa: PLR2004 - columns
    wheels = [
        str(file)
        for name in NAMES
        for folder in folders
        for file in sorted(Path(folder).glob(f"nvidia/*/lib/{name}"))
    ]
    return list(dict.fromkeys([*mapped, *wheels, *NAMES]))


def _opened(file: str) -> ctypes.CDLL:
    """Load the library, after its helpers from the same folder, so that it finds them."""
    for name in HELPERS:
        helper = Path(file).parent / name
        if Path(file).is_absolute() and helper.exists():
            ctypes.CDLL(str(helper), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(file, mode=ctypes.RTLD_GLOBAL)
