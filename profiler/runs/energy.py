"""The run `energy`: energy and power of a step over a steady loop of it."""

from functools import cache

import torch

from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Measured, Missing, Spread
from costmodel.recordings.recording import Check
from profiler.instruments.energy import measure_energy, measure_idle
from profiler.instruments.flush import L2Flush
from profiler.instruments.machine import now
from profiler.instruments.nvml import open_gpu
from profiler.runs.bench import Known, Measurement
from profiler.runs.case import PreparedCase
from profiler.runs.self_check import energy_checks
from profiler.runs.time import captured

NO_READING = "not measured (this GPU gives no instant power)"


class EnergyRun:
    """NVML's energy counter over loops of seconds."""

    def __init__(self) -> None:
        self.gpu = open_gpu()
        self.idle = idle_power()
        self.flush = L2Flush()

    def self_check(self) -> tuple[Check, ...]:
        """Energy by the counter against instant power, over two steady loads."""
        return energy_checks(self.gpu)

    def measure(self, case: PreparedCase, known: Known) -> Measurement:
        """Loop the step, as a CUDA graph where it can be captured."""
        del known
        started = now()
        replay, _ = captured(case)
        self.flush.settle()
        step = replay or case.run

        def run(times: int) -> None:
            for _ in range(times):
                step()

        idle = _reading(self.idle)
        found = measure_energy(self.gpu, run, torch.cuda.synchronize)
        if isinstance(found, Missing):
            return Measurement(
                conditions=Conditions(started=started, warm_up=0),
                step={
                    "energy_j": found,
                    "power_w": found,
                    "instant_power_w": found,
                    "idle_power_w": idle,
                },
            )
        measured: dict[str, Measured] = {
            "energy_j": found.energy_j_per_step,
            "power_w": _reading(found.power_w),
            "instant_power_w": _reading(
                found.sampled_power_w if found.power_reading == "instant" else None
            ),
            "idle_power_w": idle,
        }
        return Measurement(conditions=found.conditions, step=measured)


@cache
def idle_power() -> float | Missing:
    """Mean power in watts without load: once in a process, before loads that warm it for long."""
    return measure_idle(open_gpu())


def _reading(watts: float | Missing | None) -> Measured:
    """One mean over a loop: it has no quartiles of its own."""
    if watts is None:
        return Missing(reason=NO_READING)
    if isinstance(watts, Missing):
        return watts
    rounded = float(f"{watts:.6g}")
    return Spread(median=rounded, q1=rounded, q3=rounded, repeats=1, source="nvml")
