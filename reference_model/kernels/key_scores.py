"""Scores of a query's halves against the keys of their sides: two products in one launch.

The query comes as the projection left it. Its norm is one positive factor a side, which changes no
order, so that it can wait until few scores are left; the norm's weight is part of the keys. Norm
and merging of the ranks within this product's loop would cost more than the product itself.

A block takes a tile of one side's keys, of all its heads and ranks one after another, and a tile of
tokens; keys stream through shared memory by tensor descriptors (TMA), on the wide side of the
matrix unit. A tile that reaches beyond its side reads the other's keys and throws the products
away. Scores are float32: a choice by rounded ones would not be that of the layer.
"""

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.launch import launch_options, wait_for_previous
from reference_model.kernels.tiles import Tile


@triton.jit
def _score_keys(
    projected, keys, scores, T,
    DK: tl.constexpr, WIDTH: tl.constexpr, SIDE: tl.constexpr, BLOCK_T: tl.constexpr,
    ROWS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """ROWS of the SIDE = H r n keys of a side, for BLOCK_T tokens."""
    tile = tl.program_id(0) * ROWS
    side = tl.program_id(1)
    token = tl.program_id(2) * BLOCK_T + tl.arange(0, BLOCK_T)
    real = token < T
    row = tile + tl.arange(0, ROWS)
    column = tl.arange(0, DEPTH)[None, :]
    source = projected + token[:, None].to(tl.int64) * WIDTH + side * DK + column
    total = tl.zeros((ROWS, BLOCK_T), tl.float32)
    wait_for_previous(PDL)
    for k in tl.range(0, DK, DEPTH, num_stages=STAGES):
        seen = real[:, None]
        if DK % DEPTH != 0:  # beyond a key's end a descriptor gives zeros
            seen = seen & (k + column < DK)
        a = tl.load(source + k, mask=seen, other=0.0)
        total = tl.dot(keys.load([side * SIDE + tile, k]), a.T, total, input_precision="ieee")
    to = (token.to(tl.int64) * 2 + side)[None, :] * SIDE + row[:, None]
    tl.store(scores + to, total, mask=real[None, :] & (row < SIDE)[:, None])


def score_keys(
    projected: Tensor, keys: TensorDescriptor, scores: Tensor, tile: Tile, *, pdl: bool = False
) -> None:
    """Multiply queries by the keys of either side, into scores [T, 2, H, r, n] of float32.

    projected [T, 2 Dk + ..] begins with the two halves of each query. The keys [2, H, r, n, Dk] are
    described in tiles of tile.rows x tile.depth.
    """
    tokens, width = projected.shape
    side = scores[0, 0].numel()
    _score_keys[triton.cdiv(side, tile.rows), 2, triton.cdiv(tokens, tile.tokens)](
        projected, keys, scores, tokens, DK=keys.shape[1], WIDTH=width, SIDE=side,
        BLOCK_T=tile.tokens, ROWS=tile.rows, DEPTH=tile.depth, STAGES=tile.stages,
        **launch_options(pdl=pdl, warps=tile.warps, stages=tile.stages),
    )  # fmt: skip
