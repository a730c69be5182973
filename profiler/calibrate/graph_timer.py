"""Times one operation: many copies of it in one CUDA graph, each on operands that are not in L2.

Copies use sets of operands in turn. Either the sets together are `COLD` times as large as L2, so
that a set is evicted before it is used again, or every copy has a set of its own. Before each
replay L2 is filled with other data. So weights, rows, keys and values are cold in every copy, as in
a model whose layers follow one another. The launch of the graph is spread over all copies;
`REPLAY_S` keeps its share below one percent.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil
from typing import Any

import torch

from costmodel.errors import WorkError
from profiler.calibrate.operations import Call, Operation, Timing
from profiler.instruments.flush import L2Flush
from profiler.instruments.spread import quartiles

COLD = 2.5  # times the size of L2 that all sets of operands have together
REPLAY_S = 1.5e-3  # that a replay takes at least
LONG_REPLAY_S = 5e-3  # a replay this long needs no copies beyond it to exceed L2
FEWEST_COPIES = 3
MOST_COPIES = 1024  # a limit to what the host must capture of tiny operations
TRIAL_COPIES = 16
SLOWEST_S = 0.02  # an operation that takes longer is left out
WARM_UPS = 3  # eager calls before a capture, and replays before the first that counts
REPLAYS = 11
KERNEL_NODE = 0  # CU_GRAPH_NODE_TYPE_KERNEL of cuda.h
DIGITS = 5


class UnmeasuredError(Exception):
    """A point cannot be measured here, though others can; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphPlan:
    """How many copies of an operation a graph has, and on how many sets of operands they run."""

    copies: int
    sets: int


def plan_graph(one_s: float, operand_bytes: int, l2_bytes: int) -> GraphPlan:
    """Plan the graph of an operation that takes about `one_s` and has `operand_bytes` per set."""
    cold_sets = ceil(COLD * l2_bytes / operand_bytes)
    copies_beyond_l2 = min(cold_sets, ceil(LONG_REPLAY_S / one_s))
    copies = min(max(ceil(REPLAY_S / one_s), copies_beyond_l2, FEWEST_COPIES), MOST_COPIES)
    return GraphPlan(copies=copies, sets=min(copies, cold_sets))


def timing_of_copy(seconds: Sequence[float], *, copies: int, kernels: int) -> Timing:
    """The timing of one copy, from seconds of replays and the `kernels` of the whole graph."""
    low, middle, high = (float(f"{value / copies:.{DIGITS}g}") for value in quartiles(seconds))
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
            UnmeasuredError: It does not fit, its library refuses it, or it takes too long.
            WorkError: The GPU failed; nothing can be measured any more.
        """
        try:
            plan = self._trial(operation)
            calls = operation.calls(plan.sets, self.device)
            graph = capture(list(islice(cycle(calls), plan.copies)))
            seconds = replay_seconds(graph, REPLAYS, self.flush)
            return timing_of_copy(seconds, copies=plan.copies, kernels=kernel_nodes(graph))
        except WorkError:  # it is a RuntimeError as well
            raise
        except torch.AcceleratorError as error:
            raise WorkError(f"{operation}: the GPU failed: {_first_line(error)}") from None
        except torch.OutOfMemoryError:
            raise UnmeasuredError("out of memory") from None
        except RuntimeError as error:  # such as a shape that cuDNN refuses
            raise UnmeasuredError(_first_line(error)) from None

    def _trial(self, operation: Operation) -> GraphPlan:
        """Time the operation roughly on one set of operands, and plan its graph."""
        (call,) = operation.calls(1, self.device)
        warm_up(call)
        eager_s = min(seconds_between_events(call) for _ in range(2))
        if eager_s > SLOWEST_S:
            raise UnmeasuredError(f"takes {eager_s * 1e3:.0f} ms; at most {SLOWEST_S * 1e3:.0f}")
        graph = capture([call] * TRIAL_COPIES)
        one_s = min(replay_seconds(graph, 2, self.flush)) / TRIAL_COPIES
        return plan_graph(one_s, operation.operand_bytes, self.l2_bytes)


def warm_up(call: Call) -> None:
    """Call eagerly on a side stream, so that libraries initialise themselves before a capture."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            call()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()


def capture(calls: Sequence[Call]) -> torch.cuda.CUDAGraph:
    """Capture the calls, one after another, as a CUDA graph; each result is freed at once."""
    torch.cuda.synchronize()  # operands are written on another stream than that of the capture
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.instantiate()
    return graph


def replay_seconds(graph: torch.cuda.CUDAGraph, replays: int, flush: L2Flush) -> list[float]:
    """Seconds of `replays` replays after `WARM_UPS` more, each with none of its operands in L2.

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


def seconds_between_events(call: Call) -> float:
    """Seconds of one eager call."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) * 1e-3


def kernel_nodes(graph: torch.cuda.CUDAGraph) -> int:
    """The kernels in a graph captured with `keep_graph`, without copies and fills of memory."""
    driver: Any = ctypes.CDLL("libcuda.so.1")
    handle, count = ctypes.c_void_p(graph.raw_cuda_graph()), ctypes.c_size_t()
    _check(driver.cuGraphGetNodes(handle, None, ctypes.byref(count)))
    nodes = (ctypes.c_void_p * count.value)()
    _check(driver.cuGraphGetNodes(handle, nodes, ctypes.byref(count)))
    kernels, node_type = 0, ctypes.c_int()
    for node in nodes:
        _check(driver.cuGraphNodeGetType(ctypes.c_void_p(node), ctypes.byref(node_type)))
        kernels += node_type.value == KERNEL_NODE
    return kernels


def _check(status: int) -> None:
    if status:
        raise WorkError(f"the CUDA driver does not list a graph's nodes (error {status})")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
