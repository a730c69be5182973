"""Expert products of a decode step on the matrix unit: gate and up with the activation, then down.

A block takes a tile of one expert's weight rows and up to BLOCK_T of the expert's tokens. Weights
stream through shared memory by tensor descriptors (TMA) into the wide side of the matrix unit;
tokens are gathered by the expert's list. An expert with more tokens has blocks side by side, next
to one another in the grid, so that they read the same weights out of L2: if one block looped over
its tokens instead, an expert that holds most of them would set the step's time alone.

Who works: while pairs are no more than experts, a group of blocks a pair; the pair in slot 0 of its
expert's list works for all of them and the others leave. With more pairs, a group an expert, and
empty ones leave. "dense" is one expert with all tokens: shared experts, and a dense model's FFN.
"""

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.activation import gated
from reference_model.kernels.launch import launch_options, wait_for_previous
from reference_model.kernels.routing import Routing
from reference_model.kernels.tiles import Tile


@triton.jit
def _expert_of(group, counts, ids, slots, T, WORK: tl.constexpr):
    """The expert that this group of blocks works for, and the length of its list."""
    if WORK == "pair":
        expert = tl.load(ids + group)
        tokens = tl.where(tl.load(slots + group) == 0, tl.load(counts + expert), 0)
    elif WORK == "expert":
        expert = group
        tokens = tl.load(counts + expert)
    else:
        expert = group
        tokens = T
    return expert, tokens


@triton.jit
def _pairs_of(lists, expert, place, real, T, WORK: tl.constexpr):
    if WORK == "dense":
        return place
    else:  # noqa: RET505 - Triton wants one return a branch
        return tl.load(lists + expert * T + place, mask=real, other=0)


@triton.jit
def _gate_up(
    x, weight, bias, hidden, counts, ids, slots, lists, T, SIDE,
    D: tl.constexpr, I: tl.constexpr, TOP_K: tl.constexpr,
    BLOCK_T: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr,
    ACTIVATION: tl.constexpr, BIAS: tl.constexpr, WORK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """hidden[pair] = activation(x gate^T, x up^T) for ROWS of the I columns."""
    wait_for_previous(PDL)
    row = tl.program_id(0) // SIDE * ROWS
    start = tl.program_id(0) % SIDE * BLOCK_T
    expert, tokens = _expert_of(tl.program_id(1), counts, ids, slots, T, WORK)
    first = expert * (2 * I) + row
    rows = row + tl.arange(0, ROWS)
    for begin in range(start, tokens, SIDE * BLOCK_T):
        place = begin + tl.arange(0, BLOCK_T)
        real = place < tokens
        pair = _pairs_of(lists, expert, place, real, T, WORK)
        source = x + (pair // TOP_K)[:, None] * D + tl.arange(0, DEPTH)[None, :]
        gate = tl.zeros((ROWS, BLOCK_T), tl.float32)
        up = tl.zeros((ROWS, BLOCK_T), tl.float32)
        for k in tl.range(0, D, DEPTH, num_stages=STAGES):
            a = tl.load(source + k, mask=real[:, None], other=0.0)
            gate = tl.dot(weight.load([first, k]), a.T, gate, input_precision="ieee")
            up = tl.dot(weight.load([first + I, k]), a.T, up, input_precision="ieee")
        if BIAS:
            gate += tl.load(bias + expert * (2 * I) + rows).to(tl.float32)[:, None]
            up += tl.load(bias + expert * (2 * I) + I + rows).to(tl.float32)[:, None]
        y = gated(gate, up, ACTIVATION).to(hidden.dtype.element_ty)
        tl.store(hidden + pair[None, :].to(tl.int64) * I + rows[:, None], y, mask=real[None, :])


@triton.jit
def _down(
    hidden, weight, bias, results, counts, ids, slots, lists, T, SIDE,
    D: tl.constexpr, I: tl.constexpr, BLOCK_T: tl.constexpr, ROWS: tl.constexpr,
    DEPTH: tl.constexpr, STAGES: tl.constexpr,
    BIAS: tl.constexpr, WORK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """results[pair] = hidden[pair] down^T for ROWS of the D columns."""
    row = tl.program_id(0) // SIDE * ROWS
    start = tl.program_id(0) % SIDE * BLOCK_T
    expert, tokens = _expert_of(tl.program_id(1), counts, ids, slots, T, WORK)
    wait_for_previous(PDL)  # the routing is two kernels old: read before the wait
    first = expert * D + row
    rows = row + tl.arange(0, ROWS)
    for begin in range(start, tokens, SIDE * BLOCK_T):
        place = begin + tl.arange(0, BLOCK_T)
        real = place < tokens
        pair = _pairs_of(lists, expert, place, real, T, WORK)
        source = hidden + pair[:, None].to(tl.int64) * I + tl.arange(0, DEPTH)[None, :]
        total = tl.zeros((ROWS, BLOCK_T), tl.float32)
        for k in tl.range(0, I, DEPTH, num_stages=STAGES):
            a = tl.load(source + k, mask=real[:, None], other=0.0)
            total = tl.dot(weight.load([first, k]), a.T, total, input_precision="ieee")
        if BIAS:
            total += tl.load(bias + expert * D + rows).to(tl.float32)[:, None]
        y = total.to(results.dtype.element_ty)
        tl.store(results + pair[None, :].to(tl.int64) * D + rows[:, None], y, mask=real[None, :])


def described(weight: Tensor, tile: Tile) -> TensorDescriptor:
    """A weight [.., rows, depth] as its kernel reads it: tiles of tile.rows x tile.depth."""
    flat = weight.flatten(0, -2)
    return TensorDescriptor.from_tensor(flat, [tile.rows, tile.depth])


def _work(tokens: int, routing: Routing | None) -> tuple[str, int]:
    """How blocks are dealt out, and to how many groups."""
    if routing is None:
        return "dense", 1
    experts, pairs = routing.counts.shape[0], tokens * routing.ids.shape[1]
    return ("pair", pairs) if pairs <= experts else ("expert", experts)


def gate_up(
    x: Tensor,
    weight: TensorDescriptor,
    hidden: Tensor,
    tile: Tile,
    *,
    routing: Routing | None = None,
    bias: Tensor | None = None,
    activation: str = "silu",
    pdl: bool = False,
) -> None:
    """x [T, D] times the chosen experts' [E, 2 I, D] (gates first) to hidden [T k, I].

    Without a routing the weight is one expert's that all tokens use, and hidden is [T, I].
    """
    tokens, d = x.shape
    width = hidden.shape[1]
    # A tile that does not divide the width would read the next expert's rows.
    assert width % tile.rows == 0, (width, tile.rows)
    assert d % tile.depth == 0, (d, tile.depth)
    work, groups = _work(tokens, routing)
    side = triton.cdiv(tokens, tile.tokens)
    of = [x] * 4 if routing is None else _buffers(routing)
    _gate_up[width // tile.rows * side, groups](
        x, weight, x if bias is None else bias, hidden, *of, tokens, side,
        D=d, I=width, TOP_K=1 if routing is None else routing.ids.shape[1],
        BLOCK_T=tile.tokens, ROWS=tile.rows, DEPTH=tile.depth, STAGES=tile.stages,
        ACTIVATION=activation, BIAS=bias is not None, WORK=work,
        **launch_options(pdl=pdl, warps=tile.warps, stages=tile.stages),
    )  # fmt: skip


def down(
    hidden: Tensor,
    weight: TensorDescriptor,
    results: Tensor,
    tile: Tile,
    *,
    tokens: int,
    routing: Routing | None = None,
    bias: Tensor | None = None,
    pdl: bool = False,
) -> None:
    """hidden [T k, I] times the chosen experts' [E, D, I] to results [T k, D], a row a pair.

    The weighted sum over a token's pairs is the next norm's to do (`norm.add_norm`).
    """
    width, d = hidden.shape[1], results.shape[1]
    assert d % tile.rows == 0, (d, tile.rows)
    assert width % tile.depth == 0, (width, tile.depth)
    work, groups = _work(tokens, routing)
    side = triton.cdiv(tokens, tile.tokens)
    of = [hidden] * 4 if routing is None else _buffers(routing)
    _down[d // tile.rows * side, groups](
        hidden, weight, hidden if bias is None else bias, results, *of, tokens, side,
        D=d, I=width, BLOCK_T=tile.tokens, ROWS=tile.rows, DEPTH=tile.depth, STAGES=tile.stages,
        BIAS=bias is not None, WORK=work,
        **launch_options(pdl=pdl, warps=tile.warps, stages=tile.stages),
    )  # fmt: skip


def _buffers(routing: Routing) -> list[Tensor]:
    return [routing.counts, routing.ids, routing.slots, routing.lists]
