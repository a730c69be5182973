"""Energy of a step: a fake GPU of known power must come out, however its counter ticks."""

import pytest

from costmodel.recordings.measured import Missing
from profiler.instruments.energy import Energy, measure_energy, measure_idle
from profiler.instruments.nvml import NvmlError, NvmlGpu
from tests.profiler.instruments.fake_nvml import NOT_SUPPORTED, FakeGpu, FakeNvml

WITHIN = 0.005


def measured(nvml: FakeNvml, seconds: float = 3.0) -> Energy | Missing:
    fake = nvml.gpu
    return measure_energy(
        NvmlGpu(nvml, "handle", frozenset()),
        fake.run,
        fake.synchronize,
        seconds=seconds,
        mark=fake.mark,
        clock=fake.clock(),
    )


def energy(nvml: FakeNvml, seconds: float = 3.0) -> Energy:
    energy_or_reason = measured(nvml, seconds)
    assert isinstance(energy_or_reason, Energy)
    return energy_or_reason


def reason(nvml: FakeNvml) -> str:
    energy_or_reason = measured(nvml)
    assert isinstance(energy_or_reason, Missing)
    return energy_or_reason.reason


@pytest.mark.parametrize("phase_s", [0.0, 0.0003, 0.05, 0.0999])
@pytest.mark.parametrize("tick_s", [0.02, 0.1, 0.4])
def test_known_power_comes_out_whenever_the_counter_ticks(phase_s: float, tick_s: float) -> None:
    measured_energy = energy(
        FakeNvml(FakeGpu(load_w=487.0, step_s=0.004, phase_s=phase_s, tick_s=tick_s))
    )
    assert measured_energy.power_w == pytest.approx(487.0, rel=WITHIN)
    assert measured_energy.sampled_power_w == pytest.approx(487.0, rel=WITHIN)
    assert measured_energy.power_reading == "instant"
    # 487 W x 4 ms
    assert measured_energy.energy_j_per_step.median == pytest.approx(1.948, rel=WITHIN)
    assert measured_energy.energy_j_per_step.source == "nvml"
    assert measured_energy.energy_j_per_step.repeats >= 5
    assert measured_energy.seconds >= 3.0
    assert measured_energy.steps == pytest.approx(measured_energy.seconds / 0.004, rel=0.01)


def test_a_slow_counter_is_watched_for_longer() -> None:
    measured_energy = energy(FakeNvml(FakeGpu(load_w=487.0, tick_s=1.0)))
    assert measured_energy.energy_j_per_step.repeats == 5
    assert measured_energy.seconds == pytest.approx(5.0, rel=0.001)
    assert measured_energy.power_w == pytest.approx(487.0, rel=WITHIN)


@pytest.mark.parametrize("step_s", [2e-5, 0.0007, 0.03, 0.35, 2.0])
def test_steps_may_be_far_shorter_or_longer_than_a_tick(step_s: float) -> None:
    measured_energy = energy(FakeNvml(FakeGpu(load_w=690.0, step_s=step_s, host_s=1e-6)))
    assert measured_energy.power_w == pytest.approx(690.0, rel=WITHIN)
    assert measured_energy.energy_j_per_step.median == pytest.approx(690.0 * step_s, rel=WITHIN)


def test_a_step_that_waits_for_the_host_costs_idle_power_in_between() -> None:
    # 2 ms of host for 1 ms of GPU: busy half of the time, (110 + 510) / 2 W over 2 ms a step
    fake = FakeGpu(load_w=510.0, idle_w=110.0, step_s=0.001, host_s=0.002)
    measured_energy = energy(FakeNvml(fake))
    assert measured_energy.power_w == pytest.approx(310.0, rel=0.02)
    assert measured_energy.energy_j_per_step.median == pytest.approx(0.62, rel=0.02)


def test_the_gpu_has_no_gap_in_the_loop() -> None:
    fake = FakeGpu(step_s=0.004)
    energy(FakeNvml(fake, read_s=0.002))
    longest = max(end - start for start, end in fake.busy)
    assert longest >= 3.3  # warm-up and loop


def test_the_spread_is_that_of_half_second_stretches() -> None:
    # A ramp of 20 W/s: six stretches of 0.5 s, 10 W apart; their quartiles lie 2.5 x 10 W apart.
    # Stretches end at ticks, so that some are a tick longer: 10 %.
    measured_energy = energy(FakeNvml(FakeGpu(load_w=400.0, ramp_w_per_s=20.0, step_s=0.01)))
    spread = measured_energy.energy_j_per_step
    assert spread.repeats == 6
    assert spread.q3 - spread.q1 == pytest.approx(25.0 * 0.01, rel=0.1)
    assert spread.median == pytest.approx(measured_energy.power_w * 0.01, rel=WITHIN)
    # Power is read from 1 s of load on, the loop begins after 0.3 s: its middle is 0.35 s earlier.
    # A reading is of the tick before: of 0.1 s earlier.
    assert measured_energy.sampled_power_w == pytest.approx(
        measured_energy.power_w + 20.0 * 0.25, abs=2.0
    )


def test_a_longer_loop_gives_more_stretches() -> None:
    measured_energy = energy(FakeNvml(), seconds=6.0)
    assert measured_energy.seconds >= 6.0
    assert measured_energy.energy_j_per_step.repeats == 12


def test_power_that_is_a_mean_of_a_second_is_read_when_only_load_is_in_it() -> None:
    nvml = FakeNvml(FakeGpu(load_w=487.0))
    nvml.instant_return = NOT_SUPPORTED
    measured_energy = energy(nvml)
    assert measured_energy.power_reading == "mean"
    assert measured_energy.sampled_power_w == pytest.approx(487.0, rel=WITHIN)


def test_the_state_of_the_gpu_is_read_under_load() -> None:
    measured_energy = energy(FakeNvml(FakeGpu(step_s=0.004)))
    assert measured_energy.conditions.sm_clock_mhz == 1515
    assert measured_energy.conditions.event_reasons == ("power cap",)
    assert measured_energy.conditions.warm_up >= 0.3 / 0.004 - 3


def test_without_power_readings_the_counter_still_counts() -> None:
    nvml = FakeNvml()
    nvml.failing = {
        "nvmlDeviceGetFieldValues": NOT_SUPPORTED,
        "nvmlDeviceGetPowerUsage": NOT_SUPPORTED,
    }
    measured_energy = energy(nvml)
    assert (measured_energy.sampled_power_w, measured_energy.power_reading) == (None, None)
    assert measured_energy.power_w == pytest.approx(487.0, rel=WITHIN)


def test_without_an_energy_counter_nothing_is_measured() -> None:
    nvml = FakeNvml()
    nvml.failing["nvmlDeviceGetTotalEnergyConsumption"] = NOT_SUPPORTED
    assert reason(nvml) == "this GPU has no energy counter"
    assert not nvml.gpu.is_busy()
    assert isinstance(measure_idle(NvmlGpu(nvml, "handle", frozenset())), Missing)


def test_a_counter_that_stands_still_is_no_measurement() -> None:
    nvml = FakeNvml()
    nvml.energy_mj = lambda: 5000
    assert reason(nvml) == "the GPU's energy counter did not move for 2 s"


def test_a_counter_that_goes_backwards_is_an_error() -> None:
    nvml = FakeNvml()
    forwards = nvml.energy_mj
    nvml.energy_mj = lambda: forwards() if nvml.gpu.time_s < 2.5 else 1000
    with pytest.raises(NvmlError, match="backwards"):
        measured(nvml)


@pytest.mark.parametrize("lost_at_s", [1.0, 2.5, 4.0])
def test_a_gpu_lost_in_the_loop_is_an_error(lost_at_s: float) -> None:
    nvml = FakeNvml()
    nvml.lost_at_s = lost_at_s
    with pytest.raises(NvmlError, match="lost"):
        measured(nvml)


@pytest.mark.parametrize("phase_s", [0.0, 0.0999])
def test_idle_power_is_measured_without_load(phase_s: float) -> None:
    fake = FakeGpu(idle_w=110.0, phase_s=phase_s)
    measured_w = measure_idle(NvmlGpu(FakeNvml(fake), "handle", frozenset()), clock=fake.clock())
    assert measured_w == pytest.approx(110.0, rel=WITHIN)
    assert not fake.busy
    assert 1.0 <= fake.time_s - 1.0 < 1.4
