"""The sums over the decode steps of a generation: time, bytes, FLOPs and energy, step by step.

Each step has one more cached token than the one before it. All of them are evaluated at once, as a
grid over the context; of more than `MAX_EVALUATED`, as many evenly spaced ones, the first and the
last among them, and the trapezoid rule.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from costmodel.columns import PREDICTED
from costmodel.costs.curves import Curves
from costmodel.costs.predicted import StepTime, Unknown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.workload import Workload
from costmodel.predict import Prediction
from costmodel.sweep import sweep

MAX_EVALUATED = 4096  # steps: 2 ms more than one, and a bound of the error below 1 in 8,000


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What the steps of a prefill or of a decode cost the whole batch."""

    steps: int
    evaluated: int  # of these steps; fewer where the sums are by the trapezoid rule
    error_bound: float  # relative, of the worst of the sums; 0 where every step is evaluated
    floor_s: float
    predicted_s: float | Unknown
    energy_j: float | Unknown  # predicted
    hbm_bytes: int | float  # compulsory
    flops: int | float


NO_STEPS = Phase(
    steps=0,
    evaluated=0,
    error_bound=0.0,
    floor_s=0.0,
    predicted_s=0.0,
    energy_j=0.0,
    hbm_bytes=0,
    flops=0,
)


def one_step(step: Prediction) -> Phase:
    """A phase of this step alone."""
    time, sums = step.time, step.costs.totals
    energy = time.energy_j if isinstance(time, StepTime) else time
    return Phase(
        steps=1,
        evaluated=1,
        error_bound=0.0,
        floor_s=step.floor_s,
        predicted_s=float(time.predicted_s) if isinstance(time, StepTime) else time,
        energy_j=energy if isinstance(energy, Unknown) else float(energy),
        hbm_bytes=_plain(sums.compulsory_bytes),
        flops=_plain(sums.flops),
    )
