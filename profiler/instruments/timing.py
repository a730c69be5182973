"""Latency of a step, as a CUDA graph and eagerly, between CUDA events.

Rounds of both forms alternate, so that a drift of clocks or temperature affects both alike. Before
each step L2 is filled with other data, since a small step would otherwise find operands in L2 that
are cold in real decoding. Replays are timed in the state of a decode loop (see
`profiler.instruments.flush`). Rounds end early where replays hardly differ, as most do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import Protocol

import torch

from costmodel.recordings.machine import Conditions
from profiler.instruments.spread import quartiles

ROUNDS = 10
BUDGET_S = 0.8  # for all timed runs of a case, unless the fewest rounds take longer
FEWEST_ROUNDS = 5
STEADY_ROUNDS = 4  # enough where replays are steady
STEADY_SHARE = 0.005  # interquartile range of replays over their median
GRAPHS_A_ROUND = 4
LOAD_S = 0.05  # of work in the GPU's queue while clocks are read


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds of each timed run of a step."""

    graph_s: tuple[float, ...]
    eager_s: tuple[float, ...]


class Flush(Protocol):
    """Untimed work between steps, such as `profiler.instruments.flush.L2Flush`."""

    def __call__(self) -> None:
        """Evict all data from L2."""

    def settle(self) -> None:
        """Undo the effect of eager steps on the next replays."""


def cuda_seconds(
    replay: Callable[[], object] | None, eager: Callable[[], object], flush: Flush
) -> Latency:
    """Time a step in both forms; `replay` is None where it cannot be captured as a graph.

    `ROUNDS` rounds, or as many as fit `BUDGET_S` but at least `FEWEST_ROUNDS`. They end after
    `STEADY_ROUNDS` where the quartiles of the replays lie within `STEADY_SHARE` of their median.
    """
    forms = [(eager, 1)] if replay is None else [(replay, GRAPHS_A_ROUND), (eager, 1)]
    once = [seconds_between_events(form, 1, flush)[0] for form, _ in forms]
    round_s = sum(t * (times + 1) for t, (_, times) in zip(once, forms, strict=True))
    rounds = max(FEWEST_ROUNDS, min(ROUNDS, int(BUDGET_S / round_s)))
    readings: list[list[float]] = [[] for _ in forms]
    for _ in range(rounds):
        for (form, times), seconds in zip(forms, readings, strict=True):
            seconds.extend(seconds_between_events(form, times, flush))
        if replay is not None and len(readings[0]) == STEADY_ROUNDS * GRAPHS_A_ROUND:
            low, middle, high = quartiles(readings[0])
            if high - low <= STEADY_SHARE * middle:
                break
    graph = tuple(readings[0]) if replay is not None else ()
    return Latency(graph_s=graph, eager_s=tuple(readings[-1]))


def seconds_between_events(run: Callable[[], object], times: int, flush: Flush) -> list[float]:
    """Seconds of `times` successive runs, after one that is left out.

    All are queued at once. Only the first waits for the host, so it is left out.
    """
    flush.settle()
    pairs = []
    for _ in range(times + 1):
        flush()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    return [float(start.elapsed_time(end)) * 1e-3 for start, end in pairs[1:]]


class HasConditions(Protocol):
    """What reads the state of the GPU, such as `profiler.instruments.nvml.NvmlGpu`."""

    def conditions(self, *, started: str, warm_up: int) -> Conditions:
        """The state of the GPU now."""


def under_load(gpu: HasConditions, run: Callable[[], object], *, started: str) -> Conditions:
    """The state of the GPU while it runs steps, since its clocks are others when it is idle."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    for _ in range(ceil(LOAD_S * 1e3 / float(start.elapsed_time(end)))):
        run()
    conditions = gpu.conditions(started=started, warm_up=1)
    torch.cuda.synchronize()
    return conditions


def wall_seconds(run: Callable[[], object]) -> tuple[float, ...]:
    """Wall seconds of several runs on the CPU, after one that warms up."""
    run()
    seconds: list[float] = []
    while len(seconds) < FEWEST_ROUNDS or (len(seconds) < ROUNDS and sum(seconds) < BUDGET_S):
        start = perf_counter()
        run()
        seconds.append(perf_counter() - start)
    return tuple(seconds)
