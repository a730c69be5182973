"""Readings of copies that need no GPU: reasons for what is left out, and times on a CPU.

On a CPU the copies are called one after another, and there is only a time, of no meaning.
"""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Protocol, TypeVar

import torch

from costmodel.errors import InputError, WorkError
from costmodel.recordings.leaf_calibration import LeafRunName, Reading
from costmodel.recordings.measured import Missing, Source, Spread
from profiler.calibrate.leaves.copies import Call, Copies
from profiler.instruments.cupti import DeviceLostError
from profiler.instruments.nvml import GpuLostError
from profiler.instruments.redact import redacted
from profiler.instruments.spread import spread
from profiler.runs.base import NO_GPU

CPU_ROUNDS = 3
LOST = (DeviceLostError, GpuLostError, torch.AcceleratorError)
GPU_FAILED = ("CUDA error", "Triton Error [CUDA]")  # of other libraries

T = TypeVar("T")


class Instrument(Protocol):
    """Measures the leaves of one shape, in one kind of run."""

    def __call__(self, leaves: Sequence[Copies]) -> Iterator[tuple[str, Reading]]:
        """What was measured of each, by its path; of one that cannot be measured, the reason."""


def reason_of(error: Exception) -> str | None:
    """Why a leaf or a shape is left out; None where the process must end, the GPU having failed."""
    if isinstance(error, LOST) or any(words in str(error) for words in GPU_FAILED):
        return None
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    if isinstance(error, InputError | WorkError):
        return redacted(str(error))
    return redacted(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")


def or_reason(do: Callable[[Copies], T], copies: Copies) -> T | Missing:
    """What `do` gives, or why it fails.

    Raises:
        Exception: The GPU failed.
    """
    try:
        return do(copies)
    except Exception as error:
        reason = reason_of(error)
        if reason is None:
            raise
        return Missing(reason=f"not measured ({reason})")


def unread(run: LeafRunName, missing: Missing) -> Reading:
    """A reading of nothing."""
    match run:
        case "time":
            return Reading(copies=1, sets=1, step_s=missing)
        case "trace":
            return Reading(copies=1, sets=1, kernel_s=missing)
        case "counters":
            return Reading(
                copies=1,
                sets=1,
                hbm_read_bytes=missing,
                hbm_written_bytes=missing,
                flops_tensor=missing,
            )


class CpuClock:
    """Wall times on a CPU; nothing else can be had there."""

    def __init__(self, run: LeafRunName) -> None:
        self.run = run

    def __call__(self, leaves: Sequence[Copies]) -> Iterator[tuple[str, Reading]]:
        """Time all copies of each leaf in turn."""
        for copies in leaves:
            read = unread(self.run, Missing(reason=NO_GPU))
            if self.run == "time":
                timed = or_reason(self._time, copies)
                read = unread("time", timed) if isinstance(timed, Missing) else timed
            yield copies.path, read

    @torch.no_grad()
    def _time(self, copies: Copies) -> Reading:
        seconds = []
        copies.begin()
        for _ in range(CPU_ROUNDS):
            copies.prepare()
            start = perf_counter()
            in_turn(copies.calls)
            seconds.append(perf_counter() - start)
        count = len(copies.calls)
        return Reading(copies=count, sets=copies.sets, step_s=by_copy(seconds, count, "wall_clock"))


@torch.no_grad()
def in_turn(calls: Sequence[Call]) -> None:
    """Call all, one after another."""
    for call in calls:
        call()


def by_copy(totals: Sequence[float], copies: int, source: Source) -> Spread:
    """Totals of all copies, repeated, as a spread of one copy."""
    return spread([total / copies for total in totals], source)
