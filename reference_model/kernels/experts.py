"""Expert products of a decode step on the matrix unit: gate and up with the activation, then down.

A block takes a tile of one expert's weight rows and up to BLOCK_T of the expert's tokens. Weights
stream through shared memory by tensor descriptors (TMA) into the wide side of the matrix unit;
tokens are gathered by the expert's list. An expert with more tokens has more tiles, each with
blocks of its own that run at the same time and read the same weights out of L2: if one block
looped over its tokens instead, an expert that holds most of them would set the step's time alone.
Groups are the grid's fast dimension, so that all tiles of a list meet at the same rows at the same
time: with rows as the fast dimension, uneven routing was measured to take up to a third longer.

Who works: "pair": while pairs are no more than experts, a group of blocks a pair; the pair in slot
0 of its expert's list works for all of them and the others leave. "expert": a group an expert, if
no list can be longer than a tile. "item": a group a tile that the router noted (`routing`). "dense"
is one expert with all tokens: shared experts, and a dense model's FFN.
"""

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.activation import gated
from reference_model.kernels.launch import launch_options, wait_for_previous
from reference_model.kernels.linear_split import SplitTile
from reference_model.kernels.routing import Routing
from reference_model.kernels.tiles import Tile


@triton.jit
def _expert_of(
    group, counts, ids, slots, items, T, E: tl.constexpr, BLOCK_T: tl.constexpr, WORK: tl.constexpr
):
    """This group's expert, its first token's place in the list, and the length of the list."""
    expert = group
    begin = 0
    if WORK == "pair":
        expert = tl.load(ids + group)
        tokens = tl.where(tl.load(slots + group) == 0, tl.load(counts + expert), 0)
    elif WORK == "expert":
        tokens = tl.load(counts + expert)
    elif WORK == "item":
        item = tl.load(items + group)
        there = group < tl.load(counts + E)
        expert = tl.where(there, item // 65536, 0)
        begin = item % 65536 * BLOCK_T
        tokens = tl.where(there, tl.load(counts + expert), 0)
    else:
        expert = 0
        begin = group * BLOCK_T
        tokens = T
    return expert, begin, tokens


@triton.jit
def _pairs_of(lists, expert, place, tokens, T, WORK: tl.constexpr):
    """Pairs at these places of the list, 0 beyond its end.

    What is read does not depend on the list's length, so that both are asked for at once.
    """
    if WORK == "dense":
        pair = place
    else:
        pair = tl.load(lists + expert * T + place, mask=place < T, other=0)
    return tl.where(place < tokens, pair, 0)


@triton.jit
def _gate_up(
    x, weight, bias, scale, hidden, counts, ids, slots, lists, items, T,
    E: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, TOP_K: tl.constexpr,
    BLOCK_T: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr,
    ACTIVATION: tl.constexpr, BIAS: tl.constexpr, SCALED: tl.constexpr, WORK: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """hidden[pair] = activation(x gate^T, x up^T) for ROWS of the I columns."""
    wait_for_previous(PDL)
    row = tl.program_id(1) * ROWS
    expert, begin, tokens = _expert_of(
        tl.program_id(0), counts, ids, slots, items, T, E, BLOCK_T, WORK
    )
    first = expert * (2 * WIDTH) + row
    rows = row + tl.arange(0, ROWS)
    there = rows < WIDTH  # a tile may reach beyond the expert: what it reads there is thrown away
    place = begin + tl.arange(0, BLOCK_T)
    real = place < tokens
    pair = _pairs_of(lists, expert, place, tokens, T, WORK)
    if begin < tokens:
        source = x + (pair // TOP_K)[:, None] * D + tl.arange(0, DEPTH)[None, :]
        gate = tl.zeros((ROWS, BLOCK_T), tl.float32)
        up = tl.zeros((ROWS, BLOCK_T), tl.float32)
        for k in tl.range(0, D, DEPTH, num_stages=STAGES):
            a = tl.load(source + k, mask=real[:, None], other=0.0)
            gate = tl.dot(weight.load([first, k]), a.T, gate, input_precision="ieee")
            up = tl.dot(weight.load([first + WIDTH, k]), a.T, up, input_precision="ieee")
        if SCALED:
            factor = tl.load(scale + pair // TOP_K)[None, :]
            gate *= factor
            up *= factor
        if BIAS:
            at = bias + expert * (2 * WIDTH) + rows
            gate += tl.load(at, mask=there, other=0.0).to(tl.float32)[:, None]
            up += tl.load(at + WIDTH, mask=there, other=0.0).to(tl.float32)[:, None]
        y = gated(gate, up, ACTIVATION).to(hidden.dtype.element_ty)
        to = hidden + pair[None, :].to(tl.int64) * WIDTH + rows[:, None]
        tl.store(to, y, mask=there[:, None] & real[None, :])


@triton.jit
def _down(
    hidden, weight, bias, results, counts, ids, slots, lists, items, T,
    E: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_T: tl.constexpr,
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr, STAGES: tl.constexpr,
    BIAS: tl.constexpr, WORK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """results[pair] = hidden[pair] down^T for ROWS of the D columns."""
    row = tl.program_id(1) * ROWS
    expert, begin, tokens = _expert_of(
        tl.program_id(0), counts, ids, slots, items, T, E, BLOCK_T, WORK
    )
    wait_for_previous(PDL)  # the routing is two kernels old: read before the wait
    first = expert * D + row
    rows = row + tl.arange(0, ROWS)
    place = begin + tl.arange(0, BLOCK_T)
    real = place < tokens
    pair = _pairs_of(lists, expert, place, tokens, T, WORK)
    if begin < tokens:
        column = tl.arange(0, DEPTH)[None, :]
        source = hidden + pair[:, None].to(tl.int64) * WIDTH + column
        total = tl.zeros((ROWS, BLOCK_T), tl.float32)
        for k in tl.range(0, WIDTH, DEPTH, num_stages=STAGES):
            seen = real[:, None]
            if WIDTH % DEPTH != 0:  # beyond a row's end a descriptor gives zeros
                seen = seen & (k + column < WIDTH)
            a = tl.load(source + k, mask=seen, other=0.0)
            total = tl.dot(weight.load([first, k]), a.T, total, input_precision="ieee")
        if BIAS:
            total += tl.load(bias + expert * D + rows).to(tl.float32)[:, None]
        y = total.to(results.dtype.element_ty)
        tl.store(results + pair[None, :].to(tl.int64) * D + rows[:, None], y, mask=real[None, :])


def described(weight: Tensor, tile: Tile | SplitTile) -> TensorDescriptor:
    """A weight [.., rows, depth] as its kernel reads it: tiles of tile.rows x tile.depth."""
    flat = weight.flatten(0, -2)
    return TensorDescriptor.from_tensor(flat, [tile.rows, tile.depth])


def _work(tokens: int, routing: Routing | None, tile: Tile) -> tuple[str, int]:
    """How blocks are dealt out, and to how many groups."""
    if routing is None:
        return "dense", triton.cdiv(tokens, tile.tokens)
    experts, pairs = routing.lists.shape[0], routing.ids.numel()
    if tokens <= tile.tokens:  # no list is longer than a tile
        return ("pair", pairs) if pairs <= experts else ("expert", experts)
    assert routing.item_tokens == tile.tokens, (routing.item_tokens, tile.tokens)
    return "item", routing.items.numel()


def gate_up(
    x: Tensor,
    weight: TensorDescriptor,
    hidden: Tensor,
    tile: Tile,
    *,
    routing: Routing | None = None,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    activation: str = "silu",
    pdl: bool = False,
) -> None:
    """Multiply x [T, D] by the chosen experts' [E, 2 I, D] (gates first): hidden [T k, I].

    `scale` [T] multiplies what a token's products give: an RMSNorm that was left out (`router`).
    Without a routing the weight is one expert's that all tokens use, and hidden is [T, I].
    """
    tokens, d = x.shape
    width = hidden.shape[1]
    assert d % tile.depth == 0, (d, tile.depth)
    work, groups = _work(tokens, routing, tile)
    of, experts, top_k = _buffers(routing, x)
    _gate_up[groups, triton.cdiv(width, tile.rows)](
        x, weight, x if bias is None else bias, x if scale is None else scale, hidden,
        *of, tokens,
        E=experts, D=d, WIDTH=width, TOP_K=top_k,
        BLOCK_T=tile.tokens, ROWS=tile.rows, DEPTH=tile.depth, STAGES=tile.stages,
        ACTIVATION=activation, BIAS=bias is not None, SCALED=scale is not None, WORK=work,
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
    """Multiply hidden [T k, I] by the chosen experts' [E, D, I]: results [T k, D], a row a pair.

    The weighted sum over a token's pairs is the next norm's to do (`norm.add_norm`).
    """
    width, d = hidden.shape[1], results.shape[1]
    assert d % tile.rows == 0, (d, tile.rows)
    work, groups = _work(tokens, routing, tile)
    of, experts, _ = _buffers(routing, hidden)
    _down[groups, d // tile.rows](
        hidden, weight, hidden if bias is None else bias, results, *of, tokens,
        E=experts, D=d, WIDTH=width, BLOCK_T=tile.tokens, ROWS=tile.rows, DEPTH=tile.depth,
        STAGES=tile.stages,
        BIAS=bias is not None, WORK=work,
        **launch_options(pdl=pdl, warps=tile.warps, stages=tile.stages),
    )  # fmt: skip


def _buffers(routing: Routing | None, spare: Tensor) -> tuple[list[Tensor], int, int]:
    """What says who works, how many experts there are, and how many a token has."""
    if routing is None:
        return [spare] * 5, 1, 1
    tensors = [routing.counts, routing.ids, routing.slots, routing.lists, routing.items]
    return tensors, routing.lists.shape[0], routing.ids.shape[1]
