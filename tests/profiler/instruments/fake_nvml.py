"""A GPU of known power whose counters tick, and the module `pynvml` as it would read that GPU.

Time is the fake's own: reading, waiting and queuing advance it, so 3 s of load pass in no time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from profiler.instruments.energy import Clock

ADDRESS = "00000000:9b:00.0"
PEAK_BYTES_PER_S = 3201e6 * 6016 * 2 / 8  # an H200's memory clock and bus width
NOT_SUPPORTED, NO_PERMISSION, GPU_IS_LOST = 3, 4, 15  # nvml.h


@dataclass(kw_only=True)
class FakeGpu:
    """A queue of steps, drawing `load_w` while it is not empty (growing by `ramp_w_per_s`)."""

    load_w: float = 487.0
    idle_w: float = 110.0
    ramp_w_per_s: float = 0.0
    step_s: float = 0.004
    host_s: float = 1e-5  # that queuing a step takes
    tick_s: float = 0.1
    phase_s: float = 0.0
    time_s: float = 1.0
    busy: list[tuple[float, float]] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds

    def clock(self) -> Clock:
        return Clock(now=lambda: self.time_s, sleep=self.sleep)

    @property
    def end_s(self) -> float:
        return self.busy[-1][1] if self.busy else 0.0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.time_s += self.host_s
            start = max(self.time_s, self.end_s)
            if self.busy and start == self.end_s:
                self.busy[-1] = (self.busy[-1][0], start + self.step_s)
            else:
                self.busy.append((start, start + self.step_s))

    def synchronize(self) -> None:
        self.time_s = max(self.time_s, self.end_s)

    def mark(self) -> SimpleNamespace:
        end_s = self.end_s
        return SimpleNamespace(query=lambda: self.time_s >= end_s)

    def is_busy(self) -> bool:
        return self.time_s < self.end_s

    def busy_s(self, until_s: float) -> float:
        return sum(max(0.0, min(end, until_s) - start) for start, end in self.busy)

    def energy_j(self, until_s: float) -> float:
        ramp = self.ramp_w_per_s * until_s**2 / 2
        return self.idle_w * until_s + ramp + (self.load_w - self.idle_w) * self.busy_s(until_s)

    def ticked_s(self) -> float:
        """When the counters last moved."""
        ticks = (self.time_s - self.phase_s + 1e-9) // self.tick_s
        return self.phase_s + ticks * self.tick_s

    def power_w(self, over_s: float) -> float:
        """Mean over the last `over_s` before the tick."""
        at_s = self.ticked_s()
        return (self.energy_j(at_s) - self.energy_j(at_s - over_s)) / over_s


class FakeNvml:
    """The module. `failing` maps a function to the error code that it raises."""

    NVML_SUCCESS = 0
    NVML_FI_DEV_POWER_INSTANT = 186
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    NVML_GPM_METRICS_GET_VERSION = 1
    NVML_GPM_METRIC_DRAM_BW_UTIL = 10

    class NVMLError(Exception):
        """As the real one: a code in `value`."""

        def __init__(self, value: int) -> None:
            super().__init__(f"code {value}")
            self.value = value

    def __init__(self, gpu: FakeGpu | None = None, read_s: float = 2e-4) -> None:
        self.gpu = gpu or FakeGpu()
        self.read_s = read_s
        self.failing: dict[str, int] = {}
        self.lost_at_s = float("inf")
        self.instant_return = 0
        self.events = 0x4
        self.compute: list[int] = []
        self.graphics: list[int] = []
        self.gpm = True
        self.dram_share = 0.5  # of the peak, while busy
        self.samples = 0  # GPM samples not freed
        self.energy_mj: Callable[[], int] = lambda: int(
            self.gpu.energy_j(self.gpu.ticked_s()) * 1000
        )
        self.answers: dict[str, Callable[..., Any]] = {
            "nvmlInit": lambda: None,
            "nvmlDeviceGetHandleByPciBusId": self._handle,
            "nvmlSystemGetDriverVersion": lambda: "580.159.04",
            "nvmlDeviceGetTotalEnergyConsumption": lambda _: self.energy_mj(),
            "nvmlDeviceGetFieldValues": self._fields,
            "nvmlDeviceGetPowerUsage": lambda _: round(self.gpu.power_w(1.0) * 1000),
            "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700_000,
            "nvmlDeviceGetClockInfo": self._clock,
            "nvmlDeviceGetMaxClockInfo": lambda _, kind: {1: 1980, 2: 3201}[kind],
            "nvmlDeviceGetMemoryBusWidth": lambda _: 6016,
            "nvmlDeviceGetTemperature": lambda _, sensor: {0: 41}[sensor],
            "nvmlDeviceGetCurrentClocksEventReasons": lambda _: self.events,
            "nvmlDeviceGetComputeRunningProcesses": lambda _: _processes(self.compute),
            "nvmlDeviceGetGraphicsRunningProcesses": lambda _: _processes(self.graphics),
            "nvmlGpmQueryDeviceSupport": lambda _: SimpleNamespace(isSupportedDevice=self.gpm),
            "nvmlGpmSampleAlloc": self._alloc,
            "nvmlGpmSampleGet": self._sample,
            "nvmlGpmMetricsGet": self._metrics,
            "nvmlGpmSampleFree": self._free,
            "c_nvmlGpmMetricsGet_t": lambda: SimpleNamespace(
                metrics=[SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0)]
            ),
        }

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__") or name not in self.answers:
            raise AttributeError(name)

        def asked(*arguments: object) -> Any:  # noqa: ANN401 - as various as NVML
            self.gpu.time_s += self.read_s
            if name in self.failing:
                raise self.NVMLError(self.failing[name])
            if self.gpu.time_s >= self.lost_at_s:
                raise self.NVMLError(GPU_IS_LOST)
            return self.answers[name](*arguments)

        return asked

    def _handle(self, address: str) -> str:
        if address != ADDRESS:
            raise self.NVMLError(6)
        return "handle"

    def _fields(self, _: object, names: list[int]) -> list[SimpleNamespace]:
        assert names == [self.NVML_FI_DEV_POWER_INSTANT]
        value = SimpleNamespace(uiVal=round(self.gpu.power_w(self.gpu.tick_s) * 1000))
        return [SimpleNamespace(nvmlReturn=self.instant_return, value=value)]

    def _clock(self, _: object, kind: int) -> int:
        return {1: 1515 if self.gpu.is_busy() else 345, 2: 3201}[kind]

    def _alloc(self) -> SimpleNamespace:
        self.samples += 1
        return SimpleNamespace(time_s=0.0, busy_s=0.0)

    def _free(self, _: object) -> None:
        self.samples -= 1

    def _sample(self, _: object, sample: SimpleNamespace) -> None:
        sample.time_s = self.gpu.time_s
        sample.busy_s = self.gpu.busy_s(self.gpu.time_s)

    def _metrics(self, request: SimpleNamespace) -> SimpleNamespace:
        assert (request.version, request.numMetrics) == (1, 1)
        metric, first, last = request.metrics[0], request.sample1, request.sample2
        assert metric.metricId == self.NVML_GPM_METRIC_DRAM_BW_UTIL
        share = (last.busy_s - first.busy_s) / (last.time_s - first.time_s)
        metric.value = 100 * self.dram_share * share
        return request


def _processes(pids: list[int]) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid) for pid in pids]
