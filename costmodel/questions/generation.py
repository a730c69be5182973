"""The sums over the steps of a generation: time, HBM bytes, FLOPs and energy.

Each decode step has one more cached token than the one before it. All of them are evaluated at
once, as a grid over the context. Of more than `MAX_EVALUATED` steps, that many evenly spaced ones
are evaluated, the first and the last among them, and summed by the trapezoid rule.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from costmodel.costs.beyond_histogram import is_unknown
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.layers.numbers import Number
from costmodel.questions.sweep import sweep

MAX_EVALUATED = 4096  # steps: they take some 3 ms longer than one
SUMMED = {  # by column of a grid
    "floor_s": "time.floor_s",
    "predicted_s": "time.predicted_s",
    "energy_j": "energy.predicted_j",
    "hbm_bytes": "hbm_bytes.compulsory",
    "flops": "flops.total",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCosts:
    """What the steps of a prefill or of a generation cost the whole batch.

    Where not all steps are evaluated, the relative error of each sum is at most `error_bound`,
    provided that a quantity only rises, or only falls, between two neighbouring evaluated steps.
    """

    steps: int
    evaluated: int  # of these steps
    error_bound: float  # 0 where every step is evaluated
    floor_s: float
    predicted_s: float | Unknown
    energy_j: float | Unknown  # predicted
    hbm_bytes: float  # compulsory
    flops: float


NO_STEPS = PhaseCosts(
    steps=0,
    evaluated=0,
    error_bound=0.0,
    floor_s=0.0,
    predicted_s=0.0,
    energy_j=0.0,
    hbm_bytes=0,
    flops=0,
)


def one_step(step: Prediction) -> PhaseCosts:
    """The costs of a phase of one step, which is this prediction."""
    time, sums = step.time, step.costs.totals
    predicted: Number | Unknown
    energy: Number | Unknown
    predicted, energy = (
        (time, time) if isinstance(time, Unknown) else (time.predicted_s, time.energy_j)
    )
    return PhaseCosts(
        steps=1,
        evaluated=1,
        error_bound=0.0,
        floor_s=step.floor_s,
        predicted_s=predicted if isinstance(predicted, Unknown) else float(predicted),
        energy_j=energy if isinstance(energy, Unknown) else float(energy),
        hbm_bytes=_plain(sums.compulsory_bytes),
        flops=_plain(sums.flops),
    )


def _plain(value: Number) -> float:
    assert isinstance(value, int | float)  # of one step
    return value


def steps_up_to(last: Prediction, steps: int) -> PhaseCosts:
    """The costs of `steps` decode steps, of which `last` is the last: S - steps + 1 to S cached."""
    first = last.workload.context - steps + 1
    evaluated = min(steps, MAX_EVALUATED)
    offsets = [i * (steps - 1) // max(evaluated - 1, 1) for i in range(evaluated)]
    grid = sweep(
        last.model,
        last.workload,
        batches=[last.workload.batch],
        contexts=[first + offset for offset in offsets],
        routings=[last.workload.routing],
        hardwares=[last.hardware],
        calibrations=[last.calibration],
    )
    columns, alone = grid.table(), one_step(last)
    sums: dict[str, Any] = {}
    bound = 0.0
    for field, name in SUMMED.items():
        value = getattr(alone, field)
        if not isinstance(value, Unknown) and not is_unknown(value):
            sums[field], error = _sum(columns[name].ravel().tolist(), offsets)
            bound = max(bound, error / sums[field])
    return replace(alone, steps=steps, evaluated=evaluated, error_bound=bound, **sums)


def _sum(values: Sequence[float], offsets: Sequence[int]) -> tuple[float, float]:
    """The sum over all steps from the values at some of them, and a bound on its error.

    m steps lie from one offset to the next. With straight lines between values the sum is that of
    m (a + b) / 2 over all neighbours a and b, and (first + last) / 2. The m - 1 values between
    neighbours lie between a and b, so their sum is off by at most (m - 1) / 2 |b - a|. A sum of
    whole numbers stays whole, rounded up.
    """
    gaps = [after - before for before, after in pairwise(offsets)]
    weights = [a + b for a, b in pairwise([1, *gaps, 1])]
    doubled = [weight * value for weight, value in zip(weights, values, strict=True)]
    whole = all(isinstance(value, int) for value in values)
    error = sum((m - 1) / 2 * abs(b - a) for m, (a, b) in zip(gaps, pairwise(values), strict=True))
    return (sum(doubled) + 1) // 2 if whole else math.fsum(doubled) / 2, error
