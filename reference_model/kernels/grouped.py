"""Expert products of many tokens: tiles of tokens that share an expert, dealt out to all blocks.

Pairs are put in the order of their experts first (`group_pairs`); each expert's rows begin at a
multiple of a tile, so that a tile of rows has one expert, and rows between an expert's end and the
next beginning hold anything. Then both products are plain products in tiles of TOKENS rows by ROWS
outputs, whose operands stream through shared memory by tensor descriptors (TMA). Outputs are the
fast dimension: blocks that run together read the same few experts' weights out of L2.

The number of tiles is known on the device alone. So a launch has a fixed number of blocks, each of
which takes tiles until there are no more.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.activation import gated
from reference_model.kernels.launch import block_of, launch_options, wait_for_previous
from reference_model.kernels.routing import Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTile:
    """A block's tile, and how blocks work.

    `blocks` is how many a launch has at most. With `flat` the next tile's operands are asked for
    while a tile is finished.
    """

    tokens: int
    rows: int  # outputs; of gate_up as many gates and as many ups
    depth: int
    stages: int
    warps: int
    blocks: int = 132
    flat: bool = True


def group_tiles() -> tuple[GroupTile, GroupTile]:
    """The tiles of gate_up and down; both take as many tokens."""
    return (
        GroupTile(tokens=128, rows=128, depth=64, stages=3, warps=8),
        GroupTile(tokens=128, rows=256, depth=64, stages=3, warps=8),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Where the pairs of T tokens stand in the order of experts, and room for their rows."""

    tokens: int  # of a tile
    places: Tensor  # [T, k] int32: the row of each pair
    sources: Tensor  # [R] int32: the token of each row; any token where no pair stands
    owners: Tensor  # [R / tokens] int32: the expert of each tile
    tiles: Tensor  # [1] int32: how many tiles there are
    rows: Tensor  # [R, D]: inputs of the experts, then their results

    @classmethod
    def make(
        cls, *, tokens: int, experts: int, top_k: int, hidden: int, tile: int, like: Tensor
    ) -> "Groups":
        """Room for any routing of T tokens: each expert's last tile may hold one pair alone."""
        pairs = tokens * top_k
        most = min((pairs + experts * (tile - 1)) // tile, pairs)

        def ints(*shape: int) -> Tensor:
            return torch.zeros(shape, device=like.device, dtype=torch.int32)

        return cls(
            tokens=tile, places=ints(tokens, top_k), sources=ints(most * tile),
            owners=ints(most), tiles=ints(1), rows=like.new_full((most * tile, hidden), torch.nan),
        )  # fmt: skip


@triton.jit
def _group(
    x, ids, slots, counts, places, sources, owners, tiles, rows,
    D: tl.constexpr, E: tl.constexpr, TOP_K: tl.constexpr, TOKENS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_K: tl.constexpr, COPY: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """The rows of one token's pairs; the first block notes whose the tiles are."""
    token = tl.program_id(0)
    expert = tl.arange(0, BLOCK_E)
    j = tl.arange(0, BLOCK_K)
    wait_for_previous(PDL)
    count = tl.load(counts + expert, mask=expert < E, other=0)
    taken = (count + TOKENS - 1) // TOKENS
    pair = token * TOP_K + j
    real = j < TOP_K
    mine = tl.load(ids + pair, mask=real, other=0)
    slot = tl.load(slots + pair, mask=real, other=0)
    before = tl.where(expert[None, :] < mine[:, None], taken[None, :], 0)
    place = tl.sum(before, 1) * TOKENS + slot
    tl.store(places + pair, place, mask=real)
    tl.store(sources + place, token + j * 0, mask=real)
    if COPY:
        offsets = tl.arange(0, BLOCK_D)
        inside = offsets < D
        row = tl.load(x + token.to(tl.int64) * D + offsets, mask=inside)
        to = rows + place[:, None].to(tl.int64) * D + offsets[None, :]
        copied = tl.broadcast_to(row[None, :], (BLOCK_K, BLOCK_D))
        tl.store(to, copied, mask=real[:, None] & inside[None, :])
    if token == 0:
        first = tl.cumsum(taken, 0) - taken
        tl.store(tiles, tl.sum(taken, 0))
        for number in range(tl.max(taken, 0)):
            tl.store(owners + first + number, expert, mask=number < taken)


@triton.jit
def _gate_up(
    x, rows, weight, bias, hidden, sources, owners, tiles,
    D: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr,
    DEPTH: tl.constexpr, STAGES: tl.constexpr, FLAT: tl.constexpr, GATHER: tl.constexpr,
    ACTIVATION: tl.constexpr, BIAS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """hidden[row] = activation(x gate^T, x up^T) of every tile of rows and ROWS of I columns."""
    wait_for_previous(PDL)
    COLUMNS: tl.constexpr = (WIDTH + ROWS - 1) // ROWS
    work = tl.load(tiles) * COLUMNS
    for item in tl.range(tl.program_id(0), work, tl.num_programs(0), flatten=FLAT):
        tile = item // COLUMNS
        column = item % COLUMNS * ROWS
        expert = tl.load(owners + tile)
        first = expert * (2 * WIDTH) + column
        start = tile * TOKENS
        if GATHER:
            token = tl.load(sources + start + tl.arange(0, TOKENS)).to(tl.int64)
            source = x + token[:, None] * D + tl.arange(0, DEPTH)[None, :]
        gate = tl.zeros((TOKENS, ROWS), tl.float32)
        up = tl.zeros((TOKENS, ROWS), tl.float32)
        for k in tl.range(0, D, DEPTH, num_stages=STAGES):
            if GATHER:  # noqa: SIM108 - a constant
                a = tl.load(source + k)
            else:
                a = rows.load([start, k])
            gate = tl.dot(a, weight.load([first, k]).T, gate, input_precision="ieee")
            up = tl.dot(a, weight.load([first + WIDTH, k]).T, up, input_precision="ieee")
        if BIAS:
            output = column + tl.arange(0, ROWS)
            at = bias + expert * (2 * WIDTH) + output
            gate += tl.load(at, mask=output < WIDTH, other=0.0).to(tl.float32)[None, :]
            up += tl.load(at + WIDTH, mask=output < WIDTH, other=0.0).to(tl.float32)[None, :]
        y = gated(gate, up, ACTIVATION)
        hidden.store([start, column], y.to(hidden.dtype))  # what is beyond I stays unwritten


@triton.jit
def _down(
    hidden, weight, bias, results, owners, tiles,
    D: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr, ROWS: tl.constexpr,
    DEPTH: tl.constexpr, STAGES: tl.constexpr, FLAT: tl.constexpr, BIAS: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """results[row] = hidden[row] down^T of every tile of rows and ROWS of D columns."""
    wait_for_previous(PDL)
    COLUMNS: tl.constexpr = (D + ROWS - 1) // ROWS
    work = tl.load(tiles) * COLUMNS
    for item in tl.range(tl.program_id(0), work, tl.num_programs(0), flatten=FLAT):
        tile = item // COLUMNS
        column = item % COLUMNS * ROWS
        expert = tl.load(owners + tile)
        start = tile * TOKENS
        total = tl.zeros((TOKENS, ROWS), tl.float32)
        for k in tl.range(0, WIDTH, DEPTH, num_stages=STAGES):
            a = hidden.load([start, k])  # zeros beyond I, in both
            b = weight.load([expert * D + column, k])
            total = tl.dot(a, b.T, total, input_precision="ieee")
        if BIAS:
            output = column + tl.arange(0, ROWS)
            at = bias + expert * D + output
            total += tl.load(at, mask=output < D, other=0.0).to(tl.float32)[None, :]
        results.store([start, column], total.to(results.dtype))


def group_pairs(
    x: Tensor, routing: Routing, groups: Groups, *, copy: bool = True, pdl: bool = False
) -> None:
    """Put the pairs of x [T, D] in the order of experts; with `copy` their inputs too."""
    tokens, width = x.shape
    experts, top_k = routing.logits.shape[1], routing.ids.shape[1]
    _group[tokens,](
        x, routing.ids, routing.slots, routing.counts, groups.places, groups.sources,
        groups.owners, groups.tiles, groups.rows, D=width, E=experts, TOP_K=top_k,
        TOKENS=groups.tokens, BLOCK_D=block_of(width), BLOCK_E=block_of(experts),
        BLOCK_K=block_of(top_k), COPY=copy, **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip


def _rows_of(tensor: Tensor, rows: int, depth: int) -> TensorDescriptor:
    """A tensor [.., rows, depth] in tiles."""
    return TensorDescriptor.from_tensor(tensor.flatten(0, -2), [rows, depth])


def grouped_gate_up(
    weight: Tensor,
    hidden: Tensor,
    groups: Groups,
    tile: GroupTile,
    *,
    x: Tensor | None = None,
    bias: Tensor | None = None,
    activation: str = "silu",
    pdl: bool = False,
) -> None:
    """Multiply groups.rows [R, D] by their experts' weight [E, 2 I, D] (gates first): [R, I].

    With `x` [T, D] each block gathers its tokens out of it, and the rows need not be there.
    """
    d, width = weight.shape[2], hidden.shape[1]
    assert tile.tokens == groups.tokens, (tile.tokens, groups.tokens)
    assert d % tile.depth == 0, (d, tile.depth)
    work = groups.owners.numel() * triton.cdiv(width, tile.rows)
    _gate_up[min(tile.blocks, work),](
        groups.rows if x is None else x, _rows_of(groups.rows, tile.tokens, tile.depth),
        _rows_of(weight, tile.rows, tile.depth), weight if bias is None else bias,
        _rows_of(hidden, tile.tokens, tile.rows), groups.sources, groups.owners, groups.tiles,
        D=d, WIDTH=width, TOKENS=tile.tokens, ROWS=tile.rows, DEPTH=tile.depth,
        STAGES=tile.stages, FLAT=tile.flat, GATHER=x is not None, ACTIVATION=activation,
        BIAS=bias is not None, **launch_options(pdl=pdl, warps=tile.warps, stages=tile.stages),
    )  # fmt: skip


def grouped_down(
    weight: Tensor,
    hidden: Tensor,
    groups: Groups,
    tile: GroupTile,
    *,
    bias: Tensor | None = None,
    pdl: bool = False,
) -> None:
    """Multiply hidden [R, I] by the rows' experts' weight [E, D, I], into groups.rows [R, D]."""
    d, width = weight.shape[1:]
    assert tile.tokens == groups.tokens, (tile.tokens, groups.tokens)
    work = groups.owners.numel() * triton.cdiv(d, tile.rows)
    _down[min(tile.blocks, work),](
        _rows_of(hidden, tile.tokens, tile.depth), _rows_of(weight, tile.rows, tile.depth),
        weight if bias is None else bias, _rows_of(groups.rows, tile.tokens, tile.rows),
        groups.owners, groups.tiles, D=d, WIDTH=width, TOKENS=tile.tokens, ROWS=tile.rows,
        DEPTH=tile.depth, STAGES=tile.stages, FLAT=tile.flat, BIAS=bias is not None,
        **launch_options(pdl=pdl, warps=tile.warps, stages=tile.stages),
    )  # fmt: skip
