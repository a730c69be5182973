"""The run `energy`: energy and power of a step, measured while a loop repeats it for seconds."""

from functools import cache

import torch

from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Measured, Missing, Spread
from costmodel.recordings.recording import Check, RunResult
from profiler.instruments.energy import measure_energy, measure_idle
from profiler.instruments.flush import L2Flush
from profiler.instruments.machine import now
from profiler.instruments.nvml import open_gpu
from profiler.runs.base import CaseFacts
from profiler.runs.case import PreparedCase, captured_or_reason
from profiler.runs.self_check import energy_checks

NO_READING = "not measured (this GPU gives no instant power)"


class EnergyRun:
    """Measures by NVML's energy counter, and by its power readings."""

    def __init__(self) -> None:
        self.gpu = open_gpu()
        self.idle = idle_power()
        self.flush = L2Flush()

    def self_check(self) -> tuple[Check, ...]:
        """Compare the energy counter with power readings, over two steady loads."""
        return energy_checks(self.gpu)

    def measure(self, case: PreparedCase, facts: CaseFacts) -> RunResult:
        """Repeat the step for seconds, as a CUDA graph where it can be captured."""
        del facts
        started = now()
        replay, _ = captured_or_reason(case)
        self.flush.settle()
        step = replay or case.run

        def run(times: int) -> None:
            for _ in range(times):
                if case.fetches:
                    case.renew()
                step()

        idle = _one_reading(self.idle)
        energy = measure_energy(self.gpu, run, torch.cuda.synchronize)
        if isinstance(energy, Missing):
            return RunResult(
                conditions=Conditions(started=started, warm_up=0),
                step={
                    "energy_j": energy,
                    "power_w": energy,
                    "instant_power_w": energy,
                    "idle_power_w": idle,
                },
            )
        quantities: dict[str, Measured] = {
            "energy_j": energy.energy_j_per_step,
            "power_w": _one_reading(energy.power_w),
            "instant_power_w": _one_reading(
                energy.sampled_power_w if energy.power_reading == "instant" else None
            ),
            "idle_power_w": idle,
        }
        return RunResult(conditions=energy.conditions, step=quantities)


@cache
def idle_power() -> float | Missing:
    """Mean power without load, in watts: once per process, before loads warm up the GPU."""
    return measure_idle(open_gpu())


def _one_reading(watts: float | Missing | None) -> Measured:
    """A mean over one loop, whose quartiles are the mean itself."""
    if watts is None:
        return Missing(reason=NO_READING)
    if isinstance(watts, Missing):
        return watts
    rounded = float(f"{watts:.6g}")
    return Spread(median=rounded, q1=rounded, q3=rounded, repeats=1, source="nvml")
