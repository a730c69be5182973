"""The time of one operation: many copies of it in one CUDA graph, each on operands outside L2.

Copies take sets of operands in turn. Either all sets together pass L2 `COLD` times, so that a set
has left it before it is used again, or every copy has a set of its own; and before each replay L2
is filled with something else. So weights, rows, keys and values are cold in every copy, as in a
model whose layers follow one another. What comes before the first copy, such as the launch of the
graph, is spread over all of them: `REPLAY_S` keeps it below a percent.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil
from typing import Any

import torch

from costmodel.errors import WorkError
from profiler.calibrate.operations import Operation, Run, Timing
from profiler.instruments.flush import L2Flush
from profiler.instruments.spread import quartiles

COLD = 2.5  # times L2 that the sets pass together
REPLAY_S = 1.5e-3  # that a replay takes at least
LONG_REPLAY_S = 5e-3  # beyond which no copies are added to pass L2: own sets and the flush do
FEWEST_COPIES = 3
MOST_COPIES = 1024  # of tiny operations, which the host must capture
TRIAL_COPIES = 16
SLOWEST_S = 0.02  # an operation that takes longer is left out
WARM_UPS = 3  # eager runs before a capture, and replays before the first that counts
REPLAYS = 11
KERNEL_NODE = 0  # CU_GRAPH_NODE_TYPE_KERNEL of cuda.h
DIGITS = 5


class UnmeasuredError(Exception):
    """A point that cannot be had here, and why; the others can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often the operation stands in a graph, and on how many sets of operands."""

    copies: int
    sets: int


def plan(one_s: float, operand_bytes: int, l2_bytes: int) -> Plan:
    """The copies of an operation that takes about `one_s`, and their sets of operands."""
    cold = ceil(COLD * l2_bytes / operand_bytes)
    passing_l2 = min(cold, ceil(LONG_REPLAY_S / one_s))
    copies = min(max(ceil(REPLAY_S / one_s), passing_l2, FEWEST_COPIES), MOST_COPIES)
    return Plan(copies=copies, sets=min(copies, cold))


def timing(seconds: Sequence[float], *, copies: int, kernels: int) -> Timing:
    """The median replay and its quartiles, by copy; `kernels` are those of the whole graph."""
    low, middle, high = (float(f"{each / copies:.{DIGITS}g}") for each in quartiles(seconds))
    return Timing(s=middle, q1_s=low, q3_s=high, kernels=round(kernels / copies))


class GraphTimer:
    """Times operations on the GPU that torch calls cuda:0."""

    def __init__(self) -> None:
        self.device = torch.device("cuda")
        self.l2_bytes = int(torch.cuda.get_device_properties(0).L2_cache_size)
        self.flush = L2Flush(self.device)

    @torch.no_grad()
    def __call__(self, operation: Operation) -> Timing:
        """Time one operation.

        Raises:
            UnmeasuredError: It does not fit, is refused by its library, or takes too long.
            WorkError: The GPU failed; nothing can be measured any more.
        """
        try:
            plan_ = self._trial(operation)
            runs = operation.runs(plan_.sets, self.device)
            graph = captured(list(islice(cycle(runs), plan_.copies)))
            seconds = replay_seconds(graph, REPLAYS, self.flush)
            return timing(seconds, copies=plan_.copies, kernels=kernel_nodes(graph))
        except WorkError:  # a RuntimeError too
            raise
        except torch.AcceleratorError as error:
            raise WorkError(f"{operation}: the GPU failed: {_first_line(error)}") from None
        except torch.OutOfMemoryError:
            raise UnmeasuredError("out of memory") from None
        except RuntimeError as error:  # such as a shape that cuDNN does not take
            raise UnmeasuredError(_first_line(error)) from None

    def _trial(self, operation: Operation) -> Plan:
        """Run it a few times on one set, to see how long it takes."""
        (run,) = operation.runs(1, self.device)
        warm_up(run)
        eager_s = min(seconds_between_events(run) for _ in range(2))
        if eager_s > SLOWEST_S:
            raise UnmeasuredError(f"takes {eager_s * 1e3:.0f} ms; at most {SLOWEST_S * 1e3:.0f}")
        graph = captured([run] * TRIAL_COPIES)
        one_s = min(replay_seconds(graph, 2, self.flush)) / TRIAL_COPIES
        return plan(one_s, operation.operand_bytes, self.l2_bytes)


def warm_up(run: Run) -> None:
    """Run eagerly, on a side stream as a capture wants it: libraries set themselves up."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()


def captured(runs: Sequence[Run]) -> torch.cuda.CUDAGraph:
    """The runs one after another as a CUDA graph; a result makes room for the next one's."""
    torch.cuda.synchronize()  # operands are written on another stream than the capture's
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph):
        for run in runs:
            run()
    graph.instantiate()
    return graph


def replay_seconds(graph: torch.cuda.CUDAGraph, replays: int, flush: L2Flush) -> list[float]:
    """Seconds of each replay after a few that warm up, each from an empty L2.

    All are queued at once, so that no replay waits for the host.
    """
    flush.settle()
    pairs = []
    for _ in range(WARM_UPS + replays):
        flush()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    return [float(start.elapsed_time(end)) * 1e-3 for start, end in pairs[WARM_UPS:]]


def seconds_between_events(run: Run) -> float:
    """Seconds of one eager run."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


def kernel_nodes(graph: torch.cuda.CUDAGraph) -> int:
    """Kernels in a graph captured with `keep_graph`; its copies and sets of memory do not count."""
    driver: Any = ctypes.CDLL("libcuda.so.1")
    handle, count = ctypes.c_void_p(graph.raw_cuda_graph()), ctypes.c_size_t()
    _asked(driver.cuGraphGetNodes(handle, None, ctypes.byref(count)))
    nodes = (ctypes.c_void_p * count.value)()
    _asked(driver.cuGraphGetNodes(handle, nodes, ctypes.byref(count)))
    found, kind = 0, ctypes.c_int()
    for node in nodes:
        _asked(driver.cuGraphNodeGetType(ctypes.c_void_p(node), ctypes.byref(kind)))
        found += kind.value == KERNEL_NODE
    return found


def _asked(status: int) -> None:
    if status:
        raise WorkError(f"the CUDA driver does not list a graph's nodes (error {status})")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
