"""HBM bytes and FLOPs of a step where this process may not use CUPTI: by ncu, otherwise by GPM.

ncu counts the kernels of one eager step in a process of its own, so nothing is known by leaf. GPM
(Hopper and later) gives only how busy the memory is, reads and writes together, under a steady
load. Each number states its source.
"""

import sys
import time
from collections.abc import Callable

import torch

from costmodel.recordings.measured import Exact, Measured, Missing, Spread
from costmodel.routing.sectors import SECTOR_BYTES
from profiler.instruments.counters import HOST_SECTORS, READ, TENSOR, WRITTEN
from profiler.instruments.cupti import CounterError
from profiler.instruments.ncu import profile_command
from profiler.instruments.nvml import NvmlError, NvmlGpu
from profiler.instruments.redact import redacted
from profiler.instruments.spread import spread
from profiler.runs.case import PreparedCase

NCU_S = 300.0  # to build the model and count one step
MOST_QUEUED = 500  # steps in the GPU's queue; with more the host would have to wait
WINDOWS = 4  # of GPM; the first reads high and is dropped
WINDOW_S = 0.5  # unless `MOST_QUEUED` steps take less
SCALE = {HOST_SECTORS: SECTOR_BYTES}
QUANTITIES_OF_NCU = ("hbm_read_bytes", "hbm_written_bytes", "flops_tensor")


def counts_without_cupti(
    case: PreparedCase,
    step: Callable[[], object],
    spec: str,
    gpu: NvmlGpu,
    refused: CounterError,
) -> dict[str, Measured]:
    """The step's quantities by ncu, over a process that runs `spec`; otherwise by GPM, over `step`.

    `refused` is CUPTI's error; reasons of missing quantities repeat it.
    """
    try:
        return _by_ncu(case, spec)
    except CounterError as no_ncu:
        # ncu's message repeats the output of the command, which may hold paths and names
        words = (redacted(str(error)) for error in (refused, no_ncu))
        reason = "not measured (CUPTI: {}; ncu: {})".format(*words)[:600]
        missing: dict[str, Measured] = dict.fromkeys(QUANTITIES_OF_NCU, Missing(reason=reason))
        return {**missing, "hbm_bytes": gpm_bytes(step, gpu)}


def _by_ncu(case: PreparedCase, spec: str) -> dict[str, Measured]:
    metrics = dict(
        zip(QUANTITIES_OF_NCU, (READ, WRITTEN, TENSOR[case.workload.dtype]), strict=True)
    )
    if case.workload.tables == "host":
        metrics["host_read_bytes"] = HOST_SECTORS
    command = [sys.executable, "-m", "profiler.runs.ncu_step", spec]
    profile = profile_command(command, metrics=tuple(metrics.values()), timeout_s=NCU_S)
    quantities: dict[str, Measured] = {}
    for name, metric in metrics.items():
        total = profile.total(metric)
        quantities[name] = (
            Missing(reason="not measured (ncu gave no value for some kernel)")
            if total is None
            else Exact(value=round(total * SCALE.get(metric, 1)), source="ncu")
        )
    return quantities


def gpm_bytes(step: Callable[[], object], gpu: NvmlGpu) -> Spread | Missing:
    """HBM bytes of a step, read and written: GPM's rate under steady load times the step's time."""
    try:
        step()
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        steps = max(1, min(MOST_QUEUED, int(WINDOW_S / (time.perf_counter() - start))))
        readings = []
        for _ in range(WINDOWS):
            step_bytes = _window_bytes(step, gpu, steps)
            if step_bytes is None:
                return Missing(reason="not measured (this GPU has no GPM)")
            readings.append(step_bytes)
    except NvmlError as error:
        return Missing(reason=f"not measured ({error})"[:600])
    return spread(readings[1:], "nvml_gpm")


def _window_bytes(step: Callable[[], object], gpu: NvmlGpu, steps: int) -> float | None:
    """HBM bytes of a step by one window of GPM, at whose edges other steps keep the GPU busy."""
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
