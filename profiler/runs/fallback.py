"""HBM bytes of a step where CUPTI is refused in process: by ncu, and else by GPM over a loop.

ncu counts the kernels of one eager step of a process of its own, so nothing is known by leaf. GPM
(Hopper and later) knows only how busy the memory is, reads and writes together, over a steady load.
Each number says which of the two it came from.
"""

import sys
import time
from collections.abc import Callable

import torch

from costmodel.recordings.measured import Exact, Measured, Missing, Spread
from profiler.instruments.counters import READ, TENSOR, WRITTEN
from profiler.instruments.cupti import CounterError
from profiler.instruments.ncu import profile_command
from profiler.instruments.nvml import Gpu, NvmlError
from profiler.instruments.redact import anonymous
from profiler.instruments.spread import spread
from profiler.runs.case import PreparedCase

NCU_S = 300.0  # for building the model and counting one step
MOST_QUEUED = 500  # steps in the GPU's queue; more would make the host wait
WINDOWS = 4  # of GPM; the first reads high and is dropped
WINDOW_S = 0.5  # where so many steps may be queued
INPUTS = ("hbm_read_bytes", "hbm_written_bytes", "flops_tensor")


def counted_otherwise(
    case: PreparedCase,
    step: Callable[[], object],
    spec: str,
    gpu: Gpu,
    refused: CounterError,
) -> dict[str, Measured]:
    """Quantities of the whole step, which `step` runs; ncu watches another process run `spec`."""
    try:
        return _by_ncu(case, spec)
    except CounterError as no_ncu:
        words = (anonymous(str(error)) for error in (refused, no_ncu))  # ncu repeats its command's
        reason = "not measured (CUPTI: {}; ncu: {})".format(*words)[:600]
        missing: dict[str, Measured] = dict.fromkeys(INPUTS, Missing(reason=reason))
        return {**missing, "hbm_bytes": gpm_bytes(step, gpu)}


def _by_ncu(case: PreparedCase, spec: str) -> dict[str, Measured]:
    metrics = dict(zip(INPUTS, (READ, WRITTEN, TENSOR[case.workload.dtype]), strict=True))
    command = [sys.executable, "-m", "profiler.runs.ncu_step", spec]
    profile = profile_command(command, metrics=tuple(metrics.values()), timeout_s=NCU_S)
    found: dict[str, Measured] = {}
    for name, metric in metrics.items():
        total = profile.total(metric)
        found[name] = (
            Missing(reason="not measured (ncu gave no value for some kernel)")
            if total is None
            else Exact(value=round(total), source="ncu")
        )
    return found


def gpm_bytes(step: Callable[[], object], gpu: Gpu) -> Spread | Missing:
    """Bytes a second over windows of a steady load, times the seconds of a step."""
    try:
        step()
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        steps = max(1, min(MOST_QUEUED, int(WINDOW_S / (time.perf_counter() - start))))
        readings = []
        for _ in range(WINDOWS):
            found = _window(step, gpu, steps)
            if found is None:
                return Missing(reason="not measured (this GPU has no GPM)")
            readings.append(found)
    except NvmlError as error:
        return Missing(reason=f"not measured ({error})"[:600])
    return spread(readings[1:], "nvml_gpm")


def _window(step: Callable[[], object], gpu: Gpu, steps: int) -> float | None:
    """Bytes of a step by one window, with more steps in flight at either edge of it."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def queue(times: int) -> None:
        for _ in range(times):
            step()

    def steady() -> None:
        queue(steps)
        last.record()
        queue(max(1, steps // 4))
        last.synchronize()

    queue(max(1, steps // 4))
    first.record()
    rate = gpu.dram_bytes_per_s(steady)
    torch.cuda.synchronize()
    return None if rate is None else rate * first.elapsed_time(last) * 1e-3 / steps
