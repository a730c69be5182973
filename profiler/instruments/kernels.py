"""Time and number of the kernels of each leaf or region, from torch.profiler's trace of steps.

The launches of each run inside an annotation. A launch belongs to the annotation during which the
host made it, and a kernel to the launch of the same correlation id. Kernel time leaves out the gaps
between kernels, so the sum over a step is less than its latency.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity

from profiler.instruments.leaf_hooks import LeafContext

STEP_ANNOTATION = "sparsecost: one step"
LAUNCHES = (  # of kernels, copies and fills, and of graphs of them
    "cudaLaunch",
    "cuLaunch",
    "cudaMem",
    "cuMem",
    "cudaGraphLaunch",
    "cuGraphLaunch",
)


@dataclass(slots=True)
class KernelSums:
    """Seconds and launches of one step's kernels, by path; `outside`: of no leaf or region."""

    seconds: dict[str, float] = field(default_factory=dict)
    launches: dict[str, int] = field(default_factory=dict)
    names: dict[str, Counter[str]] = field(default_factory=dict)  # of kernels, by path
    outside_seconds: float = 0.0
    outside_launches: int = 0

    @property
    def step_seconds(self) -> float:
        """Seconds of all kernels of the step."""
        return sum(self.seconds.values()) + self.outside_seconds

    @property
    def step_launches(self) -> int:
        """Number of all kernels of the step."""
        return sum(self.launches.values()) + self.outside_launches


def kernels_by_path(
    run: Callable[[], object],
    within: Callable[[LeafContext], AbstractContextManager[None]],
    paths: Iterable[str],
    *,
    steps: int,
) -> list[KernelSums]:
    """Trace `steps` eager steps, each by a call of `run`, and sum up their kernels by path.

    While `within(context)` is open, `run` runs each leaf or region inside `context(path)`.
    """
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with (
        within(record_function),
        torch.profiler.profile(activities=activities, acc_events=False) as trace,
    ):
        for _ in range(steps):
            with record_function(STEP_ANNOTATION):
                run()
        torch.cuda.synchronize()
    inner: Any = trace.profiler
    return sums_by_path(inner.kineto_results.events(), set(paths))


def sums_by_path(events: Iterable[Any], paths: set[str]) -> list[KernelSums]:
    """Sum up a trace's kernels, for each step, by the path during which the host launched them."""
    steps: list[tuple[int, int]] = []
    leaves: list[tuple[int, int, str]] = []
    launched: dict[int, int] = {}  # correlation id: nanoseconds of the launch
    kernels: list[tuple[int, int, str]] = []  # correlation id, nanoseconds that it took, name
    for event in events:
        name = event.name()
        if event.device_type() == DeviceType.CUDA:
            if not event.is_user_annotation():
                kernels.append((event.correlation_id(), event.duration_ns(), name))
        elif name == STEP_ANNOTATION:
            steps.append((event.start_ns(), event.end_ns()))
        elif name in paths:
            leaves.append((event.start_ns(), event.end_ns(), name))
        elif name.startswith(LAUNCHES):
            launched[event.correlation_id()] = event.start_ns()
    steps.sort()
    leaves.sort()
    sums = [KernelSums() for _ in steps]
    step_starts, leaf_starts = [start for start, _ in steps], [start for start, _, _ in leaves]
    for correlation, duration, name in kernels:
        launch_ns = launched.get(correlation)
        at = -1 if launch_ns is None else bisect_right(step_starts, launch_ns) - 1
        if launch_ns is None or at < 0 or launch_ns > steps[at][1]:
            continue  # of no step: torch.profiler's own work
        of_step, seconds = sums[at], duration * 1e-9
        place = bisect_right(leaf_starts, launch_ns) - 1
        if place >= 0 and launch_ns <= leaves[place][1]:
            path = leaves[place][2]
            of_step.seconds[path] = of_step.seconds.get(path, 0.0) + seconds
            of_step.launches[path] = of_step.launches.get(path, 0) + 1
            of_step.names.setdefault(path, Counter())[name] += 1
        else:
            of_step.outside_seconds += seconds
            of_step.outside_launches += 1
    return sums
