"""Power of the idle GPU, of a loop of copies and of a loop of matrix products, with their rates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from costmodel.recordings.calibration import Power
from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Missing
from profiler.calibrate.operations import ELEMENT_BYTES, normal
from profiler.instruments.energy import Energy

COPY_BYTES = 2**30  # read, and as many written
GEMM_WIDTH = 8192
DIGITS = 5

MeasureEnergy: TypeAlias = Callable[[Callable[[int], None]], Energy | Missing]
"""Measures the energy of a step, given a function that queues n steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerResult:
    """The measured power, or why it is unknown; and the GPU's state at the end of the last loop."""

    power: Power | Missing
    conditions: Conditions | None


def measure_power(
    idle: float | Missing,
    measure: MeasureEnergy,
    device: torch.device,
    *,
    copy_bytes: int = COPY_BYTES,
    width: int = GEMM_WIDTH,
) -> PowerResult:
    """Measure two steady loops: copies of `copy_bytes`, and products of matrices [width, width].

    `idle` is the power in watts that was measured before any load.
    """
    if isinstance(idle, Missing):
        return PowerResult(power=idle, conditions=None)
    copy = measure(_copies(copy_bytes, device))
    if isinstance(copy, Missing):
        return PowerResult(power=copy, conditions=None)
    gemm = measure(_products(width, device))
    if isinstance(gemm, Missing):
        return PowerResult(power=gemm, conditions=copy.conditions)
    power = Power(
        idle_w=_rounded(idle),
        copy_w=_rounded(copy.power_w),
        copy_bytes_per_s=_rounded(2 * copy_bytes * copy.steps / copy.seconds),
        gemm_w=_rounded(gemm.power_w),
        gemm_flops_per_s=_rounded(2 * width**3 * gemm.steps / gemm.seconds),
    )
    return PowerResult(power=power, conditions=gemm.conditions)


def _copies(copy_bytes: int, device: torch.device) -> Callable[[int], None]:
    source = normal(copy_bytes // ELEMENT_BYTES, device=device)
    target = torch.empty_like(source)

    def run(times: int) -> None:
        for _ in range(times):
            target.copy_(source)

    return run


def _products(width: int, device: torch.device) -> Callable[[int], None]:
    left, right = normal(width, width, device=device), normal(width, width, device=device)
    product = torch.empty_like(left)

    def run(times: int) -> None:
        for _ in range(times):
            torch.mm(left, right, out=product)

    return run


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
