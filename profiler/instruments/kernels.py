"""Kernel time and kernels of each leaf, from torch.profiler's trace of eager steps.

A leaf's forward runs inside an annotation; a launch belongs to the annotation during which the host
made it, and a kernel to its launch by their correlation id. Kernel time leaves out the gaps between
kernels, so a step's sum is less than its latency.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity

from profiler.instruments.leaf_hooks import around_leaves
from reference_model.model import ReferenceModel

STEP = "sparsecost: one step"
LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaMem", "cuMem")  # kernels, copies and fills


@dataclass(slots=True)
class KernelSums:
    """What one step did on the GPU, by leaf path; `outside` is what no leaf launched."""

    seconds: dict[str, float] = field(default_factory=dict)
    launches: dict[str, int] = field(default_factory=dict)
    outside_seconds: float = 0.0
    outside_launches: int = 0

    @property
    def step_seconds(self) -> float:
        """Of all kernels."""
        return sum(self.seconds.values()) + self.outside_seconds

    @property
    def step_launches(self) -> int:
        """Of all kernels."""
        return sum(self.launches.values()) + self.outside_launches


def kernels_by_leaf(
    model: ReferenceModel, run: Callable[[], object], *, steps: int
) -> list[KernelSums]:
    """Kernel seconds and launches by leaf, for each of `steps` eager steps."""
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with (
        around_leaves(model, record_function),
        torch.profiler.profile(activities=activities, acc_events=False) as trace,
    ):
        for _ in range(steps):
            with record_function(STEP):
                run()
        torch.cuda.synchronize()
    inner: Any = trace.profiler
    return attributed(inner.kineto_results.events(), set(model.leaves()))


def attributed(events: Iterable[Any], paths: set[str]) -> list[KernelSums]:
    """Kernels of a trace, summed by the annotation during which the host launched them."""
    steps: list[tuple[int, int]] = []
    leaves: list[tuple[int, int, str]] = []
    launched: dict[int, int] = {}  # correlation id: when
    kernels: list[tuple[int, int]] = []  # correlation id, nanoseconds
    for event in events:
        name = event.name()
        if event.device_type() == DeviceType.CUDA:
            if not event.is_user_annotation():
                kernels.append((event.correlation_id(), event.duration_ns()))
        elif name == STEP:
            steps.append((event.start_ns(), event.end_ns()))
        elif name in paths:
            leaves.append((event.start_ns(), event.end_ns(), name))
        elif name.startswith(LAUNCHES):
            launched[event.correlation_id()] = event.start_ns()
    steps.sort()
    leaves.sort()
    sums = [KernelSums() for _ in steps]
    step_starts, leaf_starts = [each[0] for each in steps], [each[0] for each in leaves]
    for correlation, duration in kernels:
        when = launched.get(correlation)
        at = -1 if when is None else bisect_right(step_starts, when) - 1
        if when is None or at < 0 or when > steps[at][1]:
            continue  # not of a step: the profiler's own
        found, seconds = sums[at], duration * 1e-9
        place = bisect_right(leaf_starts, when) - 1
        if place >= 0 and when <= leaves[place][1]:
            path = leaves[place][2]
            found.seconds[path] = found.seconds.get(path, 0.0) + seconds
            found.launches[path] = found.launches.get(path, 0) + 1
        else:
            found.outside_seconds += seconds
            found.outside_launches += 1
    return sums
