"""The largest batch of requests that meets a target of TTFT or TPOT and fits a GPU.

Times rise with the batch, so the batch is found by bisection; where a predicted curve dips by
noise of its measurement, the batch found meets the target and a larger one may too.
"""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, Unknown
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.errors import InputError, shown
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import MAX_BATCH, Workload
from costmodel.layers.mesh import ONE_GPU
from costmodel.questions.request import Estimate, Request, Served, serve
from costmodel.units import capacity, rounded, seconds

LEAST_S, MOST_S = 1e-6, 1e6
DIGITS = 3  # significant ones of a time in a sentence
LATE_DIGITS = 4  # of one that may be just above the target
NAMES = {f"{name}_s": REQUEST_QUANTITIES[f"{name}.predicted_s"].label for name in ("ttft", "tpot")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The longest times that users accept, in seconds; None: any.

    Raises:
        InputError: A time is not from 1 us to 1e6 s, or none is given.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.times.items():
            if not LEAST_S <= value <= MOST_S:  # NaN is neither
                raise InputError(
                    f"target_{name.removesuffix('_s')}={shown(value * 1e3)}: must be a number of ms"
                    f" from {LEAST_S * 1e3:g} to {MOST_S * 1e3:g}"
                )
        if not self.times:
            raise InputError("target: a longest ttft or tpot is given")

    @property
    def times(self) -> dict[str, float]:
        """The times that are given, in seconds, by name."""
        both = {"ttft_s": self.ttft_s, "tpot_s": self.tpot_s}
        return {name: value for name, value in both.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetBatch:
    """The batch that was found: 0 if one request alone misses the target or does not fit."""

    target: Target
    basis: Literal["predicted", "floor"]  # of the times; by bounds the batch is an upper limit
    batch: int
    memory_batch: int  # the most requests that fit, whatever they take
    served: Served  # of the batch found, or of one request where there is none
    over: Served | None  # of one request more, where that misses the target

    @property
    def limited_by(self) -> str:
        """What one request more would miss: the memory, or the name of a time in the JSON."""
        if self.batch == self.memory_batch or self.over is None:
            return "memory"
        over = self.over
        return next(
            name for name, most in self.target.times.items() if _time(over, name, self.basis) > most
        )

    def sentence(self) -> str:
        """The answer in words."""
        asked = " and ".join(
            f"{NAMES[name]} of at most {_words(most)}" for name, most in self.target.times.items()
        )
        by = (
            f"by predicted times{_transferred(self.served)}"
            if self.basis == "predicted"
            else "by roofline bounds, so that it is an upper limit"
        )
        if not self.memory_batch:
            held = capacity(self.served.end_step.memory.capacity_bytes)
            return f"For a {asked}: no batch. Not one such request fits the {held} of memory."
        if not self.batch:
            name = self.limited_by
            alone = _words(_time(self.served, name, self.basis))
            return f"For a {asked}: no batch. One request alone takes {alone}, {by}."
        if self.limited_by == "memory":
            takes = ", ".join(
                f"{NAMES[name]} {_words(_time(self.served, name, self.basis))}"
                for name in self.target.times
            )
            limit = f"no more fit the memory. There: {takes}"
        else:
            assert self.over is not None
            name = self.limited_by
            late = seconds(rounded(_time(self.over, name, self.basis), LATE_DIGITS))
            limit = (
                f"one more would pass the {NAMES[name]} ({late}); the memory holds"
                f" {self.memory_batch:,}"
            )
        plural = "request" if self.batch == 1 else "requests"
        return f"For a {asked}: {self.batch:,} {plural} at once, {by}; {limit}."


def _words(time_s: float) -> str:
    return seconds(rounded(time_s, DIGITS))


def _transferred(served: Served) -> str:
    """Where predicted times were not measured, in brackets; empty where they were."""
    time = served.prefill_step.time
    if isinstance(time, Unknown) or time.transfer is None:
        return ""
    return f" ({time.transfer.label})"


def _time(served: Served, name: str, basis: Literal["predicted", "floor"]) -> float:
    """TTFT or TPOT; 0 of a TPOT where no decode step runs, since none is then late."""
    estimate: Estimate = getattr(served, name)
    value = getattr(estimate, basis)
    return 0.0 if isinstance(value, Unknown) else float(value)


def target_batch(
    model: ModelConfig,
    request: Request,
    workload: Workload,
    hardware: Hardware,
    target: Target,
    *,
    calibration: Curves | Unknown = NOT_ASKED,
) -> TargetBatch:
    """The largest batch of such requests that meets `target`; the request's own batch gives way.

    By predicted times where they are known, else by roofline bounds: then no engine meets the
    target with more, and real ones with fewer.

    Raises:
        InputError: The workload has several GPUs, on which not every batch divides.
    """
    if workload.mesh != ONE_GPU:
        raise InputError("target: a batch is sought on one GPU only; leave out --gpus and the mesh")

    def of(batch: int) -> Served:
        return serve(model, replace(request, batch=batch), workload, hardware, calibration)

    alone = of(1)
    basis: Literal["predicted", "floor"] = (
        "floor" if isinstance(alone.ttft_s.predicted, Unknown) else "predicted"
    )
    most = min(alone.max_batch, MAX_BATCH)
    batch = bisect_left(range(1, most + 1), x=True, key=_misses(of, target, basis))
    return TargetBatch(
        target=target,
        basis=basis,
        batch=batch,
        memory_batch=alone.max_batch,
        served=of(max(batch, 1)),
        over=of(batch + 1) if batch < most else None,
    )


def _misses(
    of: Callable[[int], Served], target: Target, basis: Literal["predicted", "floor"]
) -> Callable[[int], bool]:
    """Whether a batch takes longer than the target."""

    def misses(batch: int) -> bool:
        served = of(batch)
        return any(_time(served, name, basis) > most for name, most in target.times.items())

    return misses
