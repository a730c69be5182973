"""HBM bytes of a step where CUPTI is refused in process: by ncu, and else by GPM over a loop.

ncu counts the kernels of one eager step of a process of its own, so nothing is known by leaf. GPM
(Hopper and later) knows only how busy the memory is, reads and writes together, over a steady load.
Each number says which of the two it came from.
"""

import sys
import time

import torch

from costmodel.inputs.recording import Exact, Measured, Missing, Spread
from profiler.case import PreparedCase
from profiler.counters import READ, TENSOR, WRITTEN
from profiler.cupti import CounterError
from profiler.ncu import profile_command
from profiler.nvml import Gpu, NvmlError
from profiler.spread import spread
from profiler.timing import cuda_seconds

NCU_S = 300.0  # for building the model and counting one step
MOST_QUEUED = 500  # steps in the GPU's queue; more would make the host wait
WINDOWS = 4  # of GPM; the first reads high and is dropped
LOAD_S = 2.0  # of steps queued, where so many may be
INPUTS = ("hbm_read_bytes", "hbm_written_bytes", "flops_tensor")


def counted_otherwise(
    case: PreparedCase, spec: str, gpu: Gpu, refused: CounterError
) -> dict[str, Measured]:
    """Quantities of the whole step; `spec` describes the case to the process that ncu watches."""
    try:
        return _by_ncu(case, spec)
    except CounterError as no_ncu:
        reason = f"not measured (CUPTI: {refused}; ncu: {no_ncu})"[:600]
        missing: dict[str, Measured] = dict.fromkeys(INPUTS, Missing(reason=reason))
        return {**missing, "hbm_bytes": _by_gpm(case, gpu)}


def _by_ncu(case: PreparedCase, spec: str) -> dict[str, Measured]:
    metrics = dict(zip(INPUTS, (READ, WRITTEN, TENSOR[case.workload.dtype]), strict=True))
    command = [sys.executable, "-m", "profiler.ncu_step", spec]
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


def _by_gpm(case: PreparedCase, gpu: Gpu) -> Spread | Missing:
    """Bytes a second over windows of a steady load, times the seconds of a step."""
    try:
        step_s = min(cuda_seconds(None, case.run).eager_s)
        queued = max(1, min(MOST_QUEUED, int(LOAD_S / step_s)))
        readings = []
        for _ in range(WINDOWS):
            for _ in range(queued):
                case.run()
            rate = gpu.dram_bytes_per_s(lambda: time.sleep(queued * step_s / 4))
            torch.cuda.synchronize()
            if rate is None:
                return Missing(reason="not measured (this GPU has no GPM)")
            readings.append(rate * step_s)
    except NvmlError as error:
        return Missing(reason=f"not measured ({error})"[:600])
    return spread(readings[1:], "nvml_gpm")
