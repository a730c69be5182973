"""Scores of queries' halves against the keys of their sides: several products in one launch.

A query comes as the projection left it. Its norm is one positive factor a side, which changes no
order, so that it can wait until few scores are left; the norm's weight is part of the keys. Norm
and merging of the ranks within this product's loop would cost more than the product itself.

A group is the keys that meet the same half of a query: all keys of a side, of every head and rank,
or those of one head and rank where each has a query of its own. A block takes a tile of a
group's keys and a tile of tokens; keys stream through shared memory by tensor descriptors (TMA), on
the wide side of the matrix unit. A tile that reaches beyond its group reads the next one's keys and
throws the products away. Scores are float32: a choice by rounded ones would not be the layer's.
"""

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.launch import launch_options, wait_for_previous
from reference_model.kernels.memory import MemorySizes
from reference_model.kernels.tiles import Tile, dense_tile, many

MANY_TILE = Tile(tokens=128, rows=128, depth=64, stages=3, warps=8)


@triton.jit
def _score_keys(
    projected, keys, scores, T,
    DK: tl.constexpr, WIDTH: tl.constexpr, SIDE: tl.constexpr, PERIOD: tl.constexpr,
    STRIDE: tl.constexpr, SHARED: tl.constexpr, GROUPS: tl.constexpr, KEYS: tl.constexpr,
    BLOCK_T: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr,
    STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """ROWS of the KEYS of one of the GROUPS, for BLOCK_T tokens."""
    tile = tl.program_id(0) * ROWS
    group = tl.program_id(1)
    side = group // (GROUPS // 2)
    half = side * SIDE + group % PERIOD * STRIDE  # ranks, or heads, are the groups' fast axis
    first = (side if SHARED else group) * KEYS + tile
    token = tl.program_id(2) * BLOCK_T + tl.arange(0, BLOCK_T)
    real = token < T
    row = tile + tl.arange(0, ROWS)
    column = tl.arange(0, DEPTH)[None, :]
    source = projected + token[:, None].to(tl.int64) * WIDTH + half * DK + column
    total = tl.zeros((ROWS, BLOCK_T), tl.float32)
    wait_for_previous(PDL)
    for k in tl.range(0, DK, DEPTH, num_stages=STAGES):
        seen = real[:, None]
        if DK % DEPTH != 0:  # beyond a key's end a descriptor gives zeros
            seen = seen & (k + column < DK)
        a = tl.load(source + k, mask=seen, other=0.0)
        total = tl.dot(keys.load([first, k]), a.T, total, input_precision="ieee")
    to = (token.to(tl.int64) * GROUPS + group)[None, :] * KEYS + row[:, None]
    tl.store(scores + to, total, mask=real[None, :] & (row < KEYS)[:, None])


def score_tile(tokens: int, key_dim: int) -> Tile:
    """The tile for T tokens: of many, what was fastest on an H200."""
    return MANY_TILE if many(tokens) else dense_tile(tokens, key_dim)


def score_keys(
    projected: Tensor,
    keys: TensorDescriptor,
    scores: Tensor,
    tile: Tile,
    sizes: MemorySizes,
    *,
    pdl: bool = False,
) -> None:
    """Multiply queries by the keys of either side, into scores [T, 2, H, r, n] of float32.

    projected [T, 2 q Dk + ..] begins with the halves of q queries (`MemorySizes.projected`). The
    keys [2, H or 1, r, n, Dk] are described in tiles of tile.rows x tile.depth.
    """
    tokens, width = projected.shape
    queries = sizes.queries
    each = queries > 1 or sizes.product_keys
    groups = 2 * sizes.heads * sizes.ranks if each else 2
    count = scores[0].numel() // groups
    side, stride = (1, 2) if sizes.product_keys else (queries, 1)
    _score_keys[triton.cdiv(count, tile.rows), groups, triton.cdiv(tokens, tile.tokens)](
        projected, keys, scores, tokens, DK=keys.shape[1], WIDTH=width, SIDE=side,
        PERIOD=queries, STRIDE=stride, SHARED=sizes.shared_keys, GROUPS=groups, KEYS=count,
        BLOCK_T=tile.tokens, ROWS=tile.rows, DEPTH=tile.depth, STAGES=tile.stages,
        **launch_options(pdl=pdl, warps=tile.warps, stages=tile.stages),
    )  # fmt: skip
