"""On a GPU: points are timed as physics allows, kernels counted, and the GPU survives a refusal."""

import pytest
import torch

from profiler.calibrate.graph_timer import GraphTimer, UnmeasuredError, capture, kernel_nodes
from profiler.calibrate.launch import launch_costs
from profiler.calibrate.operations import (
    AttentionOperation,
    GemmOperation,
    GroupedOperation,
    MoveOperation,
    Operation,
    RowsOperation,
    TopKOperation,
)
from profiler.instruments.nvml import open_gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module")
def timer() -> GraphTimer:
    return GraphTimer()


def peak() -> float:
    """Bytes a second by clock and width of the memory."""
    hbm_bytes_per_s = open_gpu().hbm_bytes_per_s()
    assert hbm_bytes_per_s is not None
    return hbm_bytes_per_s


def test_large_copies_come_near_the_bandwidth_and_never_pass_it(timer: GraphTimer) -> None:
    timing = timer(MoveOperation(bytes=2**29))
    assert 0.5 * peak() < 2**29 / timing.s < peak()
    assert timing.kernels == 1
    assert timing.q1_s <= timing.s <= timing.q3_s


@pytest.mark.parametrize("n", [2048, 8192, 65536])  # 8 MiB to 256 MiB
def test_weights_are_never_read_faster_than_memory_gives_them(timer: GraphTimer, n: int) -> None:
    """8 MiB stay in L2 if nothing rotates, and would be read at twice that."""
    timing = timer(GemmOperation(m=1, n=n, k=2048))
    assert 2 * n * 2048 / timing.s < peak()


def test_decode_attention_reads_from_memory(timer: GraphTimer) -> None:
    small = AttentionOperation(batch=1, heads=16, kv_heads=4, head_dim=128, queries=1, keys=8192)
    assert small.operand_bytes / timer(small).s < peak()


@pytest.mark.parametrize(
    "operation",
    [
        GroupedOperation(groups=16, rows=64, n=512, k=1024),
        RowsOperation(reads=2048, row_bytes=512),
        TopKOperation(rows=16, width=384, chosen=32),
        AttentionOperation(batch=1, heads=16, kv_heads=4, head_dim=128, queries=1024, keys=1024),
    ],
    ids=str,
)
def test_every_kind_is_timed(timer: GraphTimer, operation: Operation) -> None:
    timing = timer(operation)
    assert 1e-6 < timing.s < 1e-3
    assert 1 <= timing.kernels <= 20


def test_kernels_of_a_graph_are_counted_without_its_copies() -> None:
    x = torch.zeros(4, device="cuda")
    y = torch.zeros(4, device="cuda")
    graph = capture([lambda: x.add_(1), lambda: y.copy_(x), lambda: x.mul_(2)])
    assert kernel_nodes(graph) == 2


def test_what_does_not_fit_is_refused_and_the_next_point_is_measured(timer: GraphTimer) -> None:
    with pytest.raises(UnmeasuredError, match="out of memory"):
        timer(GemmOperation(m=1, n=2**22, k=2**18))  # 2 TiB
    assert timer(GemmOperation(m=1, n=2048, k=2048)).s > 0


def test_a_slow_operation_is_left_out(timer: GraphTimer) -> None:
    with pytest.raises(UnmeasuredError, match="at most 20"):
        timer(GemmOperation(m=32768, n=65536, k=16384))


def test_launches_cost_microseconds() -> None:
    costs = launch_costs()
    assert 3e-7 < costs.graph_s < 5e-6
    assert costs.graph_s < costs.eager_s < 1e-4
