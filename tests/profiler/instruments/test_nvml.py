"""NVML: the GPU that torch uses, readings that may be missing, and failures told as they are."""

import os
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from profiler.instruments.nvml import NvmlError, NvmlGpu, PowerReading, open_gpu
from tests.profiler.instruments.fake_nvml import (
    ADDRESS,
    GPU_IS_LOST,
    NO_PERMISSION,
    NOT_SUPPORTED,
    FakeGpu,
    FakeNvml,
)

ME, STRANGER, VIEWER = os.getpid(), 2**22 + 1, 2**22 + 2
READINGS: dict[str, tuple[str, Callable[[NvmlGpu], object]]] = {
    "energy": ("nvmlDeviceGetTotalEnergyConsumption", NvmlGpu.total_energy_j),
    "power limit": ("nvmlDeviceGetEnforcedPowerLimit", NvmlGpu.power_limit_w),
    "SM clock": ("nvmlDeviceGetClockInfo", NvmlGpu.sm_clock_mhz),
    "memory clock": ("nvmlDeviceGetClockInfo", NvmlGpu.memory_clock_mhz),
    "temperature": ("nvmlDeviceGetTemperature", NvmlGpu.temperature_c),
    "event reasons": ("nvmlDeviceGetCurrentClocksEventReasons", NvmlGpu.event_reasons),
    "highest memory clock": ("nvmlDeviceGetMaxClockInfo", NvmlGpu.hbm_bytes_per_s),
    "bus width": ("nvmlDeviceGetMemoryBusWidth", NvmlGpu.hbm_bytes_per_s),
    "GPM": ("nvmlGpmQueryDeviceSupport", lambda gpu: gpu.dram_bytes_per_s(lambda: None)),
}


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    place = SimpleNamespace(pci_domain_id=0, pci_bus_id=0x9B, pci_device_id=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: place)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_the_fake_has_no_name_that_the_library_lacks() -> None:
    pynvml = pytest.importorskip("pynvml")
    constants = [name for name in vars(FakeNvml) if name.lower().startswith("nvml")]
    assert len(constants) == 8
    for name in (*constants, *FakeNvml().answers):
        assert hasattr(pynvml, name), name
    for name in constants:
        if name != "NVMLError":
            assert getattr(pynvml, name) == getattr(FakeNvml, name), name


def test_an_h200_reads_as_it_is(nvml: FakeNvml) -> None:
    gpu = open_gpu()
    nvml.energy_mj = lambda: 123_456_789
    assert gpu.total_energy_j() == pytest.approx(123_456.789)
    assert gpu.power() == PowerReading(w=110.0, kind="instant")
    assert gpu.power_limit_w() == pytest.approx(700.0)
    assert gpu.sm_clock_mhz() == 345
    assert gpu.memory_clock_mhz() == 3201
    assert gpu.temperature_c() == 41
    assert gpu.driver_version() == "580.159.04"
    # 3201 MHz x 6016 bits x 2 transfers / 8 bits a byte
    assert gpu.hbm_bytes_per_s() == 4_814_304_000_000


@pytest.mark.parametrize("reading", READINGS)
def test_a_reading_that_the_gpu_lacks_is_none_and_hides_no_other(
    nvml: FakeNvml, reading: str
) -> None:
    question, read = READINGS[reading]
    assert read(_busy(nvml)) is not None
    nvml.failing[question] = NOT_SUPPORTED
    gpu = open_gpu()
    assert read(gpu) is None
    lacking = {name for name, (other, _) in READINGS.items() if other == question}
    if reading in {"highest memory clock", "bus width"}:
        lacking |= {"highest memory clock", "bus width", "GPM"}  # all are of the peak
    for name, (_, other) in READINGS.items():
        assert (other(gpu) is None) == (name in lacking), name


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(
    ("code", "words"), [(GPU_IS_LOST, "the GPU is lost"), (NO_PERMISSION, "refused the permission")]
)
def test_a_lost_gpu_or_a_refused_permission_is_an_error(
    nvml: FakeNvml, reading: str, code: int, words: str
) -> None:
    question, read = READINGS[reading]
    gpu = open_gpu()
    nvml.failing[question] = code
    with pytest.raises(NvmlError, match=words):
        read(gpu)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (NO_PERMISSION, "refused the permission"),
        (9, "driver is not loaded"),
        (12, "library was not found"),
        (999, "NVML failed: code 999"),
    ],
)
def test_nvml_that_does_not_start_says_why(nvml: FakeNvml, code: int, words: str) -> None:
    nvml.failing["nvmlInit"] = code
    with pytest.raises(NvmlError, match=words):
        open_gpu()


def test_a_missing_package_is_named(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    del nvml
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NvmlError, match="nvidia-ml-py"):
        open_gpu()


def test_an_unknown_address_is_an_error_that_does_not_print_it(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    del nvml
    place = SimpleNamespace(pci_domain_id=0, pci_bus_id=0x1B, pci_device_id=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: place)
    with pytest.raises(NvmlError, match="does not know the GPU") as refused:
        open_gpu()
    assert "1b" not in str(refused.value).lower()


def test_no_reading_gives_the_address_away(nvml: FakeNvml) -> None:
    gpu = open_gpu()
    conditions = gpu.conditions(started="2025-01-01T00:00:00Z", warm_up=1)
    assert nvml.answers["nvmlDeviceGetHandleByPciBusId"](ADDRESS) == "handle"
    assert "9b" not in repr(gpu).rsplit(" at ", 1)[0] + repr(conditions)


@pytest.mark.parametrize("field_return", [NOT_SUPPORTED, 2])
def test_without_instant_power_the_mean_is_read_and_called_so(
    nvml: FakeNvml, field_return: int
) -> None:
    gpu = open_gpu()
    nvml.instant_return = field_return
    assert gpu.power() == PowerReading(w=110.0, kind="mean")
    nvml.failing["nvmlDeviceGetFieldValues"] = 13
    assert gpu.power() == PowerReading(w=110.0, kind="mean")
    nvml.failing["nvmlDeviceGetPowerUsage"] = NOT_SUPPORTED
    assert gpu.power() is None


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0x0, ()),
        (0x1, ("idle",)),
        (0x4, ("power cap",)),
        (0xC8, ("hardware slowdown", "hardware thermal slowdown", "hardware power brake")),
        (0x204, ("power cap", "reason 0x200")),
    ],
)
def test_event_reasons_are_words(nvml: FakeNvml, mask: int, words: tuple[str, ...]) -> None:
    nvml.events = mask
    assert open_gpu().event_reasons() == words


def test_other_processes_are_counted_once_and_ours_not_at_all(nvml: FakeNvml) -> None:
    nvml.compute = [ME, STRANGER]
    nvml.graphics = [STRANGER, VIEWER]
    assert open_gpu().other_processes() == 2
    nvml.compute, nvml.graphics = [ME], []
    assert open_gpu().other_processes() == 0


def test_processes_cannot_be_told_where_our_own_is_not_seen_or_the_list_is_refused(
    nvml: FakeNvml,
) -> None:
    gpu = open_gpu()
    nvml.compute = [STRANGER]  # a container: the driver knows us under another id
    assert gpu.other_processes() is None
    nvml.compute = [ME, STRANGER]
    nvml.failing["nvmlDeviceGetGraphicsRunningProcesses"] = NOT_SUPPORTED
    assert gpu.other_processes() == 1
    nvml.failing["nvmlDeviceGetComputeRunningProcesses"] = NO_PERMISSION
    assert gpu.other_processes() is None
    nvml.failing["nvmlDeviceGetComputeRunningProcesses"] = GPU_IS_LOST
    with pytest.raises(NvmlError, match="lost"):
        gpu.other_processes()


def test_memory_traffic_is_a_share_of_the_peak(nvml: FakeNvml) -> None:
    nvml.dram_share = 0.875
    gpu = _busy(nvml)
    # 0.875 x 4.814304e12
    assert gpu.dram_bytes_per_s(lambda: nvml.gpu.sleep(0.1)) == pytest.approx(4.212516e12)
    assert nvml.samples == 0
    nvml.gpm = False
    assert gpu.dram_bytes_per_s(lambda: None) is None


def test_a_load_that_fails_leaves_no_sample_behind(nvml: FakeNvml) -> None:
    gpu = open_gpu()
    with pytest.raises(ZeroDivisionError):
        gpu.dram_bytes_per_s(lambda: 1 // 0)
    assert nvml.samples == 0


def test_conditions_hold_what_can_be_read(nvml: FakeNvml) -> None:
    nvml.compute = [ME]
    nvml.failing["nvmlDeviceGetTemperature"] = NOT_SUPPORTED
    nvml.failing["nvmlDeviceGetCurrentClocksEventReasons"] = NOT_SUPPORTED
    state = _busy(nvml).conditions(started="2025-01-01T00:00:00Z", warm_up=7)
    assert (state.started, state.warm_up) == ("2025-01-01T00:00:00Z", 7)
    assert (state.sm_clock_mhz, state.memory_clock_mhz) == (1515, 3201)
    assert (state.temperature_c, state.event_reasons, state.other_processes) == (None, (), 0)


def _busy(nvml: FakeNvml) -> NvmlGpu:
    nvml.gpu = FakeGpu()
    nvml.gpu.run(10_000)
    return open_gpu()
