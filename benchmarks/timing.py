"""How long a captured graph takes, what the card can do at best, and what it was while measured.

A time is that of a CUDA graph's replay between two events, divided by what the graph repeats; each
replay is preceded by a read of more bytes than the L2 holds, and the GPU is in the state of a
decode loop (`profiler.instruments.flush`). A reading is kept as its median, least and largest, with
the number of replays.
"""

import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch
import triton

from profiler.instruments.flush import L2Flush

WARM_S = 0.03
COPY_BYTES = 4 * 2**30
PRODUCT = 8192  # rows, columns and depth of the product that sets the FLOP ceiling
Step = Callable[[], object]


def captured(step: Step) -> torch.cuda.CUDAGraph:
    """One graph of what `step` launches; it is run once before, which compiles it."""
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            step()
    torch.cuda.synchronize()
    return graph


class Timer:
    """Times replays."""

    def __init__(self) -> None:
        self.flush = L2Flush()

    def replays_us(
        self,
        graph: torch.cuda.CUDAGraph,
        *,
        per: float = 1,
        replays: int = 15,
        before: Step | None = None,
    ) -> dict[str, float]:
        """Microseconds of one of `per` equal parts of the graph, replayed after `before`."""
        began = time.monotonic()
        while time.monotonic() - began < WARM_S:  # clocks rise only under work
            graph.replay()
            torch.cuda.synchronize()
        self.flush.settle()
        pairs = []
        for _ in range(replays + 2):
            if before is not None:
                before()
            self.flush()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            pairs.append((start, end))
        torch.cuda.synchronize()
        return spread([a.elapsed_time(b) * 1e3 / per for a, b in pairs[2:]])

    def step_us(
        self, step: Step, *, per: float = 1, replays: int = 15, before: Step | None = None
    ) -> dict[str, float]:
        """The same of what a function launches."""
        return self.replays_us(captured(step), per=per, replays=replays, before=before)


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest of several readings."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "replays": len(values),
    }


def copy_bytes_per_s() -> float:
    """Bytes read and written a second by a large device-to-device copy, eager: median of 8."""
    source = torch.empty(COPY_BYTES // 4, device="cuda", dtype=torch.int32).random_()
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / (_eager_us(lambda: target.copy_(source)) * 1e-6)


def product_flops_per_s() -> float:
    """FLOPs a second of an 8192^3 product in bf16 on random data, eager: median of 8."""
    a, b = (torch.randn(PRODUCT, PRODUCT, device="cuda").bfloat16() for _ in range(2))
    out = torch.empty_like(a)
    return 2 * PRODUCT**3 / (_eager_us(lambda: torch.mm(a, b, out=out)) * 1e-6)


def _eager_us(call: Step) -> float:
    times: list[float] = []
    for _ in range(11):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times[3:])


def kernel_durations_us(step: Step) -> dict[str, Any]:
    """By kernel name, how many one replay holds and what they last in all, from a CUPTI trace."""
    from torch.profiler import ProfilerActivity, profile

    graph = captured(step)
    graph.replay()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        graph.replay()
        torch.cuda.synchronize()
    durations: dict[str, list[float]] = {}
    for event in trace.profiler.kineto_results.events():
        if "CUDA" in str(event.device_type()):
            durations.setdefault(event.name()[:40], []).append(event.duration_ns() / 1e3)
    return {
        name: {"kernels": len(values), "us": round(sum(values), 1)}
        for name, values in durations.items()
    }


def circumstances() -> dict[str, Any]:
    """The card and software, without what would tell one card or host from another."""
    fields = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return {
        **dict(zip(fields.split(","), answer.stdout.strip().split(", "), strict=True)),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
    }


def add_ratios(part: dict[str, Any], ceilings: list[dict[str, float]]) -> None:
    """To everything that has bytes and a time, the reference time and the ratio.

    The reference is the bytes over the best copy rate, or FLOPs, if given, over the best rate of a
    large product, whichever is longer. Without ceilings nothing is added.
    """
    if not ceilings:
        return
    if isinstance(part.get("us"), dict) and "median" in part["us"] and "bytes" in part:
        best = {key: max(reading[key] for reading in ceilings) for key in ceilings[0]}
        by_flops = part.get("flops", 0) / best["product_flops_per_s"]
        part["reference_us"] = max(part["bytes"] / best["copy_bytes_per_s"], by_flops) * 1e6
        part["ratio"] = part["reference_us"] / part["us"]["median"]
    for value in part.values():
        if isinstance(value, dict):
            add_ratios(value, ceilings)
