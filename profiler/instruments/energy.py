"""Energy of a step, by the GPU's energy counter over a steady loop of the step.

The counter changes about every 100 ms (a tick), which is far longer than a step. So the GPU is kept
busy without gaps for 3 s or more, from one tick to another. Each stretch of about half a second
between ticks gives one reading: its mean power times the seconds that a step took over the whole
loop. Steps are not counted stretch by stretch, since the loop is steady and only power varies. One
thread does all of it, in turns far shorter than the work that is queued.
"""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Literal, Protocol

from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Missing, Spread
from profiler.instruments.machine import now
from profiler.instruments.nvml import NvmlError, NvmlGpu
from profiler.instruments.spread import spread

BATCH_S = 0.02  # of steps queued at once: far longer than reading the counter takes
IN_FLIGHT = 2  # batches queued, so that the GPU is busy while the host reads the counter
WARM_UP_S = 0.3  # until clocks and power settle
POLL_S = 0.0005  # between two reads of the counter; 0.1 % of a stretch
STRETCH_S = 0.5  # between the ticks that give one reading
FEWEST_STRETCHES = 5
FEWEST_BATCHES = 3  # that end within the loop: two give one interval, three give two
STILL_S = 2.0  # without a tick, after which the counter counts as broken
SAMPLE_S = 0.05  # between two readings of power
SETTLED_S = 1.0  # before the first of them, since some GPUs give the mean of the last second


class Mark(Protocol):
    """A point in the GPU's queue of work, such as a recorded CUDA event."""

    def query(self) -> bool:
        """Whether all work queued before it is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A clock in seconds, and the way to wait on it; tests replace both."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of a step and power of the GPU, in a steady loop of the step."""

    energy_j_per_step: Spread  # over stretches of the loop
    power_w: float  # mean over the loop, by the energy counter
    sampled_power_w: float | None  # mean of power readings; None where the GPU has none
    power_reading: Literal["instant", "mean"] | None  # the kind of those readings
    steps: int  # that ended within the loop
    seconds: float  # of the loop, from its first tick to its last
    conditions: Conditions  # under load, at the loop's end


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tick:
    """A change of the counter."""

    at_s: float  # the middle between the last read before the change and the first after
    energy_j: float


def cuda_mark() -> Mark:
    """A CUDA event, recorded in the current stream."""
    import torch

    event = torch.cuda.Event()
    event.record()
    return event


def measure_energy(
    gpu: NvmlGpu,
    run: Callable[[int], object],
    synchronize: Callable[[], object],
    *,
    seconds: float = 3.0,
    mark: Callable[[], Mark] = cuda_mark,
    clock: Clock | None = None,
) -> Energy | Missing:
    """Measure the energy of a step while `run` repeats it for about `seconds`.

    `run(n)` queues n steps and need not wait for them; `synchronize` waits for all queued work. The
    result is Missing where the GPU has no energy counter, or where the counter stands still.

    Raises:
        NvmlError: The GPU was lost, or its counter went backwards.
    """
    clock = clock or Clock()
    started = now()
    batch, tried = _batch_size(run, synchronize, clock)
    load = _Load(run=run, mark=mark, clock=clock, batch=batch)
    power = _PowerSampler(gpu=gpu, clock=clock)

    def between_reads() -> bool:
        queue_was_full = load.top_up()
        power.sample()
        return queue_was_full

    counter = _EnergyCounter(gpu=gpu, clock=clock, between_reads=between_reads)
    warm = clock.now() + WARM_UP_S
    ticks: list[_Tick] = []
    while not _enough(ticks, seconds) or load.ended_since(ticks[0].at_s) < FEWEST_BATCHES:
        tick = counter.next_tick()
        if tick is None:
            synchronize()
            return Missing(reason=counter.reason)
        if tick.at_s >= warm:
            ticks.append(tick)
    conditions = gpu.conditions(started=started, warm_up=tried + load.ended_before(ticks[0].at_s))
    synchronize()
    step_s, steps = load.step_time(ticks[0].at_s, ticks[-1].at_s)
    powers_w = [_power_w(first, last) for first, last in pairwise(_stretch_borders(ticks))]
    return Energy(
        energy_j_per_step=spread([watts * step_s for watts in powers_w], "nvml"),
        power_w=_power_w(ticks[0], ticks[-1]),
        sampled_power_w=fmean(power.watts) if power.watts else None,
        power_reading=power.kind,
        steps=steps,
        seconds=ticks[-1].at_s - ticks[0].at_s,
        conditions=conditions,
    )


def measure_idle(
    gpu: NvmlGpu, *, seconds: float = 1.0, clock: Clock | None = None
) -> float | Missing:
    """Measure the mean power of the idle GPU in watts, before any load warms it up for long.

    Raises:
        NvmlError: The GPU was lost, or its counter went backwards.
    """
    counter = _EnergyCounter(gpu=gpu, clock=clock or Clock(), between_reads=lambda: True)
    ticks: list[_Tick] = []
    while not ticks or ticks[-1].at_s - ticks[0].at_s < seconds:
        tick = counter.next_tick()
        if tick is None:
            return Missing(reason=counter.reason)
        ticks.append(tick)
    return _power_w(ticks[0], ticks[-1])


@dataclass(slots=True, kw_only=True)
class _Load:
    """Batches of steps in the GPU's queue, and the times at which they were seen to have ended."""

    run: Callable[[int], object]
    mark: Callable[[], Mark]
    clock: Clock
    batch: int  # steps of one batch
    queued: deque[Mark] = field(default_factory=deque)
    ends_s: list[float] = field(default_factory=list)

    def top_up(self) -> bool:
        """Fill the queue; whether it was full already, so that the host may wait."""
        while self.queued and self.queued[0].query():
            self.queued.popleft()
            self.ends_s.append(self.clock.now())
        full = len(self.queued) == IN_FLIGHT
        while len(self.queued) < IN_FLIGHT:
            self.run(self.batch)
            self.queued.append(self.mark())
        return full

    def ended_since(self, at_s: float) -> int:
        """Batches that ended at this time or later."""
        return len(self.ends_s) - bisect_left(self.ends_s, at_s)

    def ended_before(self, at_s: float) -> int:
        """Steps that ended before this time."""
        return bisect_left(self.ends_s, at_s) * self.batch

    def step_time(self, from_s: float, to_s: float) -> tuple[float, int]:
        """Seconds of one step, by the batches that ended in this time, and the steps in them."""
        ends = [end for end in self.ends_s if from_s <= end <= to_s]
        between = (len(ends) - 1) * self.batch
        return (ends[-1] - ends[0]) / between, between + self.batch


@dataclass(slots=True, kw_only=True)
class _PowerSampler:
    """Reads power every `SAMPLE_S`, once `SETTLED_S` of load are over."""

    gpu: NvmlGpu
    clock: Clock
    watts: list[float] = field(default_factory=list)
    kind: Literal["instant", "mean"] | None = None
    due_s: float | None = None

    def sample(self) -> None:
        """Take a reading if one is due."""
        at_s = self.clock.now()
        if self.due_s is None:
            self.due_s = at_s + SETTLED_S
        if at_s < self.due_s:
            return
        self.due_s = at_s + SAMPLE_S
        reading = self.gpu.power()
        if reading is not None:
            self.watts.append(reading.w)
            self.kind = reading.kind


@dataclass(slots=True, kw_only=True)
class _EnergyCounter:
    """The energy counter, read again and again until it changes.

    `between_reads` is called before each read, and says whether there is time to wait for it.
    """

    gpu: NvmlGpu
    clock: Clock
    between_reads: Callable[[], bool]
    reason: str = ""  # why there was no tick
    last: _Tick | None = None  # the last read

    def next_tick(self) -> _Tick | None:
        """Wait for the counter's next change; None where there is none, and then `reason`."""
        began_s = self.clock.now()
        while self.clock.now() - began_s < STILL_S:
            if self.between_reads():
                self.clock.sleep(POLL_S)
            energy_j = self.gpu.total_energy_j()
            if energy_j is None:
                self.reason = "this GPU has no energy counter"
                return None
            before, self.last = self.last, _Tick(at_s=self.clock.now(), energy_j=energy_j)
            if before is None or energy_j == before.energy_j:
                continue
            if energy_j < before.energy_j:
                raise NvmlError("the GPU's energy counter went backwards")
            return _Tick(at_s=(before.at_s + self.last.at_s) / 2, energy_j=energy_j)
        self.reason = f"the GPU's energy counter did not move for {STILL_S:g} s"
        return None


def _batch_size(
    run: Callable[[int], object], synchronize: Callable[[], object], clock: Clock
) -> tuple[int, int]:
    """The number of steps that take about `BATCH_S` together, and the steps run to find it."""
    run(1)
    synchronize()
    steps, tried = 1, 1
    while True:
        start_s = clock.now()
        run(steps)
        synchronize()
        took_s = clock.now() - start_s
        tried += steps
        if took_s >= BATCH_S:
            return max(1, round(steps * BATCH_S / took_s)), tried
        steps *= 2


def _enough(ticks: list[_Tick], seconds: float) -> bool:
    return len(ticks) > FEWEST_STRETCHES and ticks[-1].at_s - ticks[0].at_s >= seconds


def _stretch_borders(ticks: list[_Tick]) -> list[_Tick]:
    """The ticks nearest to the borders of equal stretches of about `STRETCH_S`."""
    first_s, last_s = ticks[0].at_s, ticks[-1].at_s
    parts = max(FEWEST_STRETCHES, round((last_s - first_s) / STRETCH_S))
    borders = [first_s + (last_s - first_s) * part / parts for part in range(parts + 1)]
    nearest = {min(ticks, key=lambda tick: abs(tick.at_s - border)).at_s for border in borders}
    return [tick for tick in ticks if tick.at_s in nearest]


def _power_w(first: _Tick, last: _Tick) -> float:
    return (last.energy_j - first.energy_j) / (last.at_s - first.at_s)
