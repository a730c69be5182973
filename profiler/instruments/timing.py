"""Latency of a step: as a CUDA graph and eagerly, in interleaved rounds between events.

Rounds alternate, so that a drift of clocks or temperature falls on both alike. Each step is
preceded by reads that fill L2 with something else: a small one would find there what real decoding
finds cold. Replays are timed in the state that they have in a loop (`profiler.instruments.flush`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import Protocol

import torch

from costmodel.recordings.machine import Conditions

ROUNDS = 10
BUDGET_S = 0.8  # of all timed runs of a case, where the fewest rounds allow it
FEWEST_ROUNDS = 5
GRAPHS_A_ROUND = 4
LOAD_S = 0.05  # of work in flight while clocks are read


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Seconds of each timed run."""

    graph_s: tuple[float, ...]
    eager_s: tuple[float, ...]


class Flush(Protocol):
    """What runs between steps, untimed: `profiler.instruments.flush.L2Flush`."""

    def __call__(self) -> None:
        """Push everything out of L2."""

    def settle(self) -> None:
        """Undo what eager steps do to the next replays."""


def cuda_seconds(
    replay: Callable[[], object] | None, eager: Callable[[], object], flush: Flush
) -> Latency:
    """Time both forms of a step."""
    forms = [(eager, 1)] if replay is None else [(replay, GRAPHS_A_ROUND), (eager, 1)]
    once = [_between_events(form, 1, flush)[0] for form, _ in forms]
    round_s = sum(t * (times + 1) for t, (_, times) in zip(once, forms, strict=True))
    rounds = max(FEWEST_ROUNDS, min(ROUNDS, int(BUDGET_S / round_s)))
    readings: list[list[float]] = [[] for _ in forms]
    for _ in range(rounds):
        for (form, times), found in zip(forms, readings, strict=True):
            found.extend(_between_events(form, times, flush))
    graph = tuple(readings[0]) if replay is not None else ()
    return Latency(graph_s=graph, eager_s=tuple(readings[-1]))


def _between_events(run: Callable[[], object], times: int, flush: Flush) -> list[float]:
    """Seconds of `times` runs that follow one another, after one that is not counted.

    All are queued at once: the first would wait for the host, as no later one does.
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


class Clocked(Protocol):
    """What tells the state of the GPU: `profiler.instruments.nvml.Gpu`."""

    def conditions(self, *, started: str, warm_up: int) -> Conditions:
        """The state of the GPU now."""


def under_load(gpu: Clocked, run: Callable[[], object], *, started: str) -> Conditions:
    """The state of the GPU with some steps in flight: an idle one tells other clocks."""
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
    """Wall time of each of several runs on the CPU, after one that warms up."""
    run()
    times: list[float] = []
    while len(times) < FEWEST_ROUNDS or (len(times) < ROUNDS and sum(times) < BUDGET_S):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return tuple(times)
