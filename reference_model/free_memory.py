"""Memory that a run needs and memory that its device has free: a run that cannot fit is refused."""

from pathlib import Path

import torch

from costmodel.costs.footprint import footprint
from costmodel.costs.step import step_costs
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.kernel_shape import Attend

SCORE_BYTES = 12  # per query-key pair on a CPU: scores, masked scores and weights in float32
CGROUP = Path("/sys/fs/cgroup")


def needed_bytes(config: ModelConfig, prefill: Workload, last: Workload, *, device: str) -> int:
    """Bytes that a prefill and the decode steps after it need.

    Weights, buffers, the activations of the prefill, and the cache after the last step. On a CPU
    also the attention scores, which no fused kernel keeps on the chip there.
    Leaves out: the CUDA context, workspaces of libraries, fragmentation of the allocator.

    Args:
        config: The model.
        prefill: The first step.
        last: The last decode step, which leaves the largest cache.
        device: `cpu` or `cuda`.
    """
    costs = step_costs(config, prefill.step())
    kv = step_costs(config, last.step()).kv_cache
    needed = footprint(costs.operators, prefill.step(), kv, config.hidden_size, capacity_bytes=0)
    total = int(needed.total_bytes)
    if device == "cpu":
        shapes = [part.shape for operator in costs.operators for part in operator.parts]
        heads = [shape.heads for shape in shapes if isinstance(shape, Attend)]
        pairs = prefill.batch * prefill.new_tokens**2
        total += SCORE_BYTES * max(heads, default=0) * pairs
    return total


def free_bytes(device: str) -> int | None:
    """Bytes that can still be allocated on the device; None where the system does not say."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    limits = [free for free in (_host_free(), _group_free()) if free is not None]
    return min(limits, default=None)


def _host_free() -> int | None:
    """Bytes that Linux expects to be available without swapping; None on other systems."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return kilobytes[0] * 1024 if kilobytes else None


def _group_free() -> int | None:
    """Bytes left of a container's limit (cgroup v2); None: no limit. File pages count as free."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - used + int(stat.get("file", 0))
