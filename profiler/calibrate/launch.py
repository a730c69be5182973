"""The cost of launching a kernel that has nothing to do: in a CUDA graph, and eagerly by PyTorch.

In a graph each node adds 1 to one element. The cost of a node is the slope over the number of
nodes, which leaves out the launch of the graph itself. Replays are timed in the state of a decode
loop (see `profiler.instruments.flush`). Eagerly the queue stays full and the host is the
bottleneck, so the cost is the host's time for a mixture of ordinary calls on tiny tensors, divided
by the kernels that they launch. A single sort of call would mislead: an in-place addition takes a
third of the time of a usual call.
"""

from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter

import torch
from torch.nn import functional

from costmodel.recordings.calibration import Launch
from profiler.calibrate.graph_timer import DIGITS, capture, kernel_nodes, replay_seconds, warm_up
from profiler.instruments.flush import L2Flush

FEW_NODES, MANY_NODES = 64, 1024
REPLAYS = 21
CALLS_A_ROUND = 300  # in a row, so that the final wait for the GPU takes a negligible part
ROUNDS = 7


def launch_costs() -> Launch:
    """Measure both costs on the GPU that torch calls cuda:0."""
    flush = L2Flush()
    mixture = ordinary_calls("cuda")
    warm_up(mixture)
    with torch.no_grad():
        kernels = kernel_nodes(capture([mixture]))
        eager_s = median(eager_seconds(mixture, torch.cuda.synchronize)) / kernels
    graph_s = seconds_per_node(partial(null_graph_s, flush=flush))
    return Launch(graph_s=_rounded(graph_s), eager_s=_rounded(eager_s))


def null_graph_s(nodes: int, *, flush: L2Flush) -> float:
    """Median seconds of a replay of a graph of so many nodes, which each add 1 to one element."""
    x = torch.zeros(1, device="cuda")
    tiny = partial(x.add_, 1)
    warm_up(tiny)
    return median(replay_seconds(capture([tiny] * nodes), REPLAYS, flush))


def null_graphs(flush: L2Flush) -> dict[str, float]:
    """Seconds of a replay of graphs of one, few and many such nodes, by name.

    Their slope is the cost of a node, and what is left the cost of a replay.
    """
    return {
        f"graph of {nodes:,} kernels that do nothing": _rounded(null_graph_s(nodes, flush=flush))
        for nodes in (1, FEW_NODES, MANY_NODES)
    }


def ordinary_calls(device: str) -> Callable[[], torch.Tensor]:
    """A function that makes one of each call that language models make, on tiny tensors.

    Products, a norm, elementwise operations with and without conversion, a concatenation, a
    softmax, a top-k and gathers; the sequence is that of no model.
    """
    x = torch.randn(4, 64, device=device, dtype=torch.bfloat16)
    square = torch.randn(64, 64, device=device, dtype=torch.bfloat16)
    wide = torch.randn(128, 64, device=device, dtype=torch.bfloat16)
    gain = torch.ones(64, device=device, dtype=torch.bfloat16)

    def calls() -> torch.Tensor:
        y = functional.rms_norm(x, (64,), gain)
        a, b = functional.linear(y, wide).chunk(2, dim=-1)
        z = functional.linear(functional.silu(a) * b, square)
        joined = torch.cat([z, y], dim=-1)
        scores = joined.float().softmax(dim=-1)
        chosen = scores.topk(8, dim=-1).indices
        weights = scores.gather(-1, chosen).to(x.dtype)
        rows = functional.embedding(chosen, wide)  # 128 scores, 128 rows
        return x + (rows * weights[..., None]).sum(1)

    return calls


def seconds_per_node(seconds_of: Callable[[int], float]) -> float:
    """Seconds that one more node takes; `seconds_of(n)` times a graph of n nodes."""
    return (seconds_of(MANY_NODES) - seconds_of(FEW_NODES)) / (MANY_NODES - FEW_NODES)


def eager_seconds(
    run: Callable[[], object],
    synchronize: Callable[[], object],
    clock: Callable[[], float] = perf_counter,
) -> list[float]:
    """Wall seconds of one run, in each of `ROUNDS` rounds of `CALLS_A_ROUND` runs."""
    seconds = []
    for _ in range(ROUNDS):
        synchronize()
        start = clock()
        for _ in range(CALLS_A_ROUND):
            run()
        synchronize()
        seconds.append((clock() - start) / CALLS_A_ROUND)
    return seconds


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.{DIGITS}g}")
