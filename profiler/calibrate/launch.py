"""What a kernel that has nothing to do costs: as a node of a CUDA graph, and launched by PyTorch.

A node adds 1 to one element; its cost is the slope over the number of nodes, so that the launch of
the graph itself is no part of it. The graph is replayed in the state that a loop has it in
(`profiler.instruments.flush`). Launched eagerly the queue stays full, and the host is what takes
the time: that of a mixture of ordinary calls on tiny tensors, over the kernels that they launch. A
mixture, because an in-place addition costs the host a third of what usual calls do.
"""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch.nn import functional

from costmodel.recordings.calibration import Launch
from profiler.calibrate.graph_timer import DIGITS, captured, kernel_nodes, replay_seconds, warm_up
from profiler.instruments.flush import L2Flush

FEW_NODES, MANY_NODES = 64, 1024
REPLAYS = 21
ROUNDS_OF_CALLS = 300  # in a row, so that the wait for the last one is no part of it
ROUNDS = 7


def launch_costs() -> Launch:
    """Both costs on the GPU that torch calls cuda:0."""
    x = torch.zeros(1, device="cuda")
    flush = L2Flush()

    def tiny() -> torch.Tensor:
        return x.add_(1)

    def of_nodes(nodes: int) -> float:
        return median(replay_seconds(captured([tiny] * nodes), REPLAYS, flush))

    mixture = ordinary_calls("cuda")
    warm_up(tiny)
    warm_up(mixture)
    with torch.no_grad():
        kernels = kernel_nodes(captured([mixture]))
        eager_s = median(eager_seconds(mixture, torch.cuda.synchronize)) / kernels
    return Launch(graph_s=_rounded(slope(of_nodes)), eager_s=_rounded(eager_s))


def ordinary_calls(device: str) -> Callable[[], torch.Tensor]:
    """Calls of the sorts that language models are made of, on tensors of a few hundred elements.

    Products, a norm, elementwise operations with and without conversion, a concatenation, a
    softmax, a choice and gathers: no model's own sequence.
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


def slope(of_nodes: Callable[[int], float]) -> float:
    """Seconds that one more node takes, between `FEW_NODES` and `MANY_NODES`."""
    return (of_nodes(MANY_NODES) - of_nodes(FEW_NODES)) / (MANY_NODES - FEW_NODES)


def eager_seconds(
    run: Callable[[], object],
    synchronize: Callable[[], object],
    clock: Callable[[], float] = perf_counter,
) -> list[float]:
    """Wall seconds of one of `ROUNDS_OF_CALLS` runs in a row, in each of `ROUNDS` rounds."""
    found = []
    for _ in range(ROUNDS):
        synchronize()
        start = clock()
        for _ in range(ROUNDS_OF_CALLS):
            run()
        synchronize()
        found.append((clock() - start) / ROUNDS_OF_CALLS)
    return found


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.{DIGITS}g}")
