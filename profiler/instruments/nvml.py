"""Power, clocks and state of the GPU that torch calls cuda:0, from NVML.

NVML is the driver's management library. It numbers GPUs in PCI order, whatever CUDA_VISIBLE_DEVICES
says, so the GPU is found by the PCI address that CUDA states. The address stays in memory: no
method returns it, and no message prints it. A reading that this GPU or driver lacks is None.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from costmodel.errors import WorkError, install_command
from costmodel.recordings.machine import Conditions

# Error codes, and the bits of clock event reasons, as nvml.h has them.
NO_PERMISSION = 4
UNSUPPORTED = {
    2,  # invalid argument: the driver does not know the field
    3,  # not supported
    6,  # not found
    13,  # function not found: the driver is too old
    21,  # no data
}
REASONS = {
    1: "NVML is not initialised",
    NO_PERMISSION: "the driver refused the permission to read the GPU through NVML",
    6: "NVML does not know the GPU that torch uses",
    9: "the NVIDIA driver is not loaded",
    12: "NVML's library was not found; it comes with the NVIDIA driver",
    15: "the GPU is lost: the driver cannot reach it any more",
    16: "the GPU must be reset before it works again",
    18: "the NVIDIA driver in memory and its library on disk are of different versions",
}
LOST = {15, 16}
EVENT_REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
TRANSFERS_A_CLOCK = 2  # of each pin; HBM and GDDR transfer on both edges of the clock NVML reports


class NvmlError(WorkError):
    """NVML cannot be used; the message says why."""


class GpuLostError(NvmlError):
    """The driver cannot reach the GPU any more; processes that use it cannot go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReading:
    """One reading of power: of this moment, or a mean over about a second."""

    w: float
    kind: Literal["instant", "mean"]


class NvmlGpu:
    """Readings of one GPU.

    Every method raises `NvmlError` where the GPU was lost or reading is not permitted.
    """

    __slots__ = ("_handle", "_nvml", "_own_pids")

    def __init__(self, nvml: Any, handle: object, own_pids: frozenset[int]) -> None:  # noqa: ANN401 - a module
        """Use `open_gpu` instead."""
        self._nvml = nvml
        self._handle = handle
        self._own_pids = own_pids

    def total_energy_j(self) -> float | None:
        """Energy since the driver was loaded. The counter changes about every 100 ms."""
        return _scaled(self._read("nvmlDeviceGetTotalEnergyConsumption"), 1e-3)

    def power(self) -> PowerReading | None:
        """Instant power; where the driver has none, the mean that NVML calls power usage."""
        nvml = self._nvml
        fields = self._read("nvmlDeviceGetFieldValues", [nvml.NVML_FI_DEV_POWER_INSTANT])
        if fields is not None and fields[0].nvmlReturn == nvml.NVML_SUCCESS:
            return PowerReading(w=fields[0].value.uiVal * 1e-3, kind="instant")
        mean = _scaled(self._read("nvmlDeviceGetPowerUsage"), 1e-3)
        return None if mean is None else PowerReading(w=mean, kind="mean")

    def power_limit_w(self) -> float | None:
        """The power limit that is enforced now."""
        return _scaled(self._read("nvmlDeviceGetEnforcedPowerLimit"), 1e-3)

    def sm_clock_mhz(self) -> float | None:
        """The clock of the multiprocessors now."""
        return _scaled(self._read("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM))

    def memory_clock_mhz(self) -> float | None:
        """The clock of the memory now."""
        return _scaled(self._read("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_MEM))

    def temperature_c(self) -> float | None:
        """The temperature of the GPU's die."""
        return _scaled(self._read("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU))

    def event_reasons(self) -> tuple[str, ...] | None:
        """Why clocks are below their highest; empty where nothing holds them down."""
        mask = self._read("nvmlDeviceGetCurrentClocksEventReasons")
        if mask is None:
            return None
        bits = [1 << place for place in range(int(mask).bit_length()) if mask >> place & 1]
        return tuple(EVENT_REASONS.get(bit, f"reason {bit:#x}") for bit in bits)

    def other_processes(self) -> int | None:
        """How many processes use the GPU besides this one.

        None where NVML refuses the list, or the list lacks this process, which must hold a CUDA
        context: in a container the driver may see other process ids.
        """
        compute = self._pids("nvmlDeviceGetComputeRunningProcesses")
        graphics = self._pids("nvmlDeviceGetGraphicsRunningProcesses")
        if compute is None or not compute & self._own_pids:
            return None
        return len((compute | (graphics or set())) - self._own_pids)

    def driver_version(self) -> str:
        """The version of the NVIDIA driver."""
        return str(_answer(self._nvml, self._nvml.nvmlSystemGetDriverVersion))

    def hbm_bytes_per_s(self) -> float | None:
        """Peak bandwidth of the memory: highest clock x 2 transfers x bus width / 8 bits."""
        clock = self._read("nvmlDeviceGetMaxClockInfo", self._nvml.NVML_CLOCK_MEM)
        width = self._read("nvmlDeviceGetMemoryBusWidth")
        if clock is None or width is None:
            return None
        return float(clock * 1e6 * width * TRANSFERS_A_CLOCK / 8)

    def dram_bytes_per_s(self, run_for: Callable[[], object]) -> float | None:
        """Mean bytes per second that memory reads and writes while `run_for` runs, by GPM.

        GPM samples before and after `run_for`, so the load must be steady before it starts and last
        beyond its end. The first window of a process reads high and should be dropped. GPM gives a
        percentage of `hbm_bytes_per_s`. None where the GPU has no GPM (before Hopper).
        """
        peak = self.hbm_bytes_per_s()
        support = self._read("nvmlGpmQueryDeviceSupport")
        if peak is None or support is None or not support.isSupportedDevice:
            return None
        nvml = self._nvml
        samples = [_answer(nvml, nvml.nvmlGpmSampleAlloc) for _ in range(2)]
        try:
            _answer(nvml, nvml.nvmlGpmSampleGet, self._handle, samples[0])
            run_for()
            _answer(nvml, nvml.nvmlGpmSampleGet, self._handle, samples[1])
            request = nvml.c_nvmlGpmMetricsGet_t()
            request.version = nvml.NVML_GPM_METRICS_GET_VERSION
            request.numMetrics = 1
            request.sample1, request.sample2 = samples
            request.metrics[0].metricId = nvml.NVML_GPM_METRIC_DRAM_BW_UTIL
            metric = _answer(nvml, nvml.nvmlGpmMetricsGet, request).metrics[0]
        finally:
            for sample in samples:
                nvml.nvmlGpmSampleFree(sample)
        return float(metric.value) / 100 * peak if metric.nvmlReturn == nvml.NVML_SUCCESS else None

    def conditions(self, *, started: str, warm_up: int) -> Conditions:
        """The state of the GPU now; to be read while the load still runs."""
        return Conditions(
            started=started,
            warm_up=warm_up,
            sm_clock_mhz=self.sm_clock_mhz(),
            memory_clock_mhz=self.memory_clock_mhz(),
            temperature_c=self.temperature_c(),
            event_reasons=self.event_reasons() or (),
            other_processes=self.other_processes(),
        )

    def _pids(self, question: str) -> set[int] | None:
        try:
            return {process.pid for process in getattr(self._nvml, question)(self._handle)}
        except self._nvml.NVMLError as error:
            if error.value in {*UNSUPPORTED, NO_PERMISSION}:
                return None
            raise _explained(error) from None

    def _read(self, question: str, *arguments: object) -> Any:  # noqa: ANN401 - as NVML gives it
        """The answer to a question about this GPU; None where GPU or driver has none."""
        try:
            return getattr(self._nvml, question)(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            if error.value in UNSUPPORTED:
                return None
            raise _explained(error) from None


def open_gpu() -> NvmlGpu:
    """The GPU that torch calls cuda:0 in this process. NVML stays open until the process ends.

    Raises:
        NvmlError: NVML is not installed, the driver is not loaded, or it refuses.
    """
    import torch

    try:
        nvml: Any = import_module("pynvml")
    except ImportError:
        raise NvmlError(f"NVML needs nvidia-ml-py: {install_command('gpu')}") from None
    gpu: Any = torch.cuda.get_device_properties(0)  # torch's stubs lack the PCI fields
    address = f"{gpu.pci_domain_id:08x}:{gpu.pci_bus_id:02x}:{gpu.pci_device_id:02x}.0"
    _answer(nvml, nvml.nvmlInit)
    handle = _answer(nvml, nvml.nvmlDeviceGetHandleByPciBusId, address)
    return NvmlGpu(nvml, handle, frozenset({os.getpid()}))


def _answer(nvml: Any, question: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - NVML's own
    """The answer to a question that every GPU can answer."""
    try:
        return question(*arguments)
    except nvml.NVMLError as error:
        raise _explained(error) from None


def _explained(error: Any) -> NvmlError:  # noqa: ANN401 - NVMLError of the imported module
    kind = GpuLostError if error.value in LOST else NvmlError
    return kind(REASONS.get(error.value, f"NVML failed: {error}"))


def _scaled(value: float | None, factor: float = 1.0) -> float | None:
    return None if value is None else value * factor
