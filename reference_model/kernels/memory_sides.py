"""The best lines and columns of a memory layer's grid: a block for each token, side and head.

A key has r scores; their sum by `merge` (the singular vectors of the Tucker cores) decides; a
product key has one. The
query's norm is applied to the scores of the chosen alone: one factor a side, from the half of the
query as it was projected, which is known before the previous kernel has finished. Where each rank
has a query of its own, the factors of a side differ, and are part of the sum.

The weighted sum is made of fused multiply-adds by name: a compiler may compute it anew where it is
needed again, and left to itself round it otherwise there, so that a score could pass a threshold
once and miss it the next time.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import block_of, launch_options, wait_for_previous
from reference_model.kernels.memory import MemoryBuffers, MemorySizes, MemoryWeights
from reference_model.kernels.top import key_of, top, top_constants

FEW_KEPT = 32  # lines or columns that fewer warps choose
MANY = 512  # tokens whose blocks keep the GPU busy


@triton.jit
def _norm_factor(query, eps, DK: tl.constexpr, BLOCK_K: tl.constexpr):
    """What RMSNorm multiplies half of a query by."""
    element = tl.arange(0, BLOCK_K)
    x = tl.load(query + element, mask=element < DK, other=0.0).to(tl.float32)
    return tl.rsqrt(tl.sum(x * x, 0) / DK + eps)


@triton.jit
def _choose_sides(
    projected, merge, scores, places, sides, room, eps,
    WIDTH: tl.constexpr, SIDE: tl.constexpr, HEAD: tl.constexpr, EACH: tl.constexpr,
    NORMED: tl.constexpr, MERGED: tl.constexpr, HEADS: tl.constexpr, RANKS: tl.constexpr,
    KEYS: tl.constexpr, DK: tl.constexpr, BLOCK_K: tl.constexpr,
    M: tl.constexpr, MOST: tl.constexpr, GROUPS: tl.constexpr, CHUNK: tl.constexpr,
    UNROLL: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """The M best of one side's KEYS for one token and head."""
    token = tl.program_id(0).to(tl.int64)
    side = tl.program_id(1) // HEADS
    block = token * (2 * HEADS) + tl.program_id(1)  # of [T, 2, H]
    half = projected + token * WIDTH + side * SIDE + tl.program_id(1) % HEADS * HEAD
    factor = 1.0
    if NORMED:  # the projection is two kernels old: read before the wait
        factor = _norm_factor(half, eps, DK, BLOCK_K)
    index = tl.arange(0, BLOCK)
    inside = index < KEYS
    first = scores + block * (RANKS * KEYS)
    wait_for_previous(PDL)
    merged = tl.zeros((BLOCK,), tl.float32)
    for rank in tl.static_range(RANKS):
        share = 1.0
        if MERGED:
            share = tl.load(merge + tl.program_id(1) * RANKS + rank)
        if EACH:
            share *= _norm_factor(half + rank * DK, eps, DK, BLOCK_K)
        score = tl.load(first + rank * KEYS + index, mask=inside, other=0.0)
        merged = tl.fma(score, tl.zeros_like(score) + share, merged)
    key = key_of(merged, inside)
    chosen, place = top(key, room + block * MOST, M, MOST, GROUPS, CHUNK, UNROLL, BLOCK, LANES)
    best = place < M
    tl.store(places + block * M + place, chosen, mask=best)
    for rank in tl.static_range(RANKS):
        if EACH:
            factor = _norm_factor(half + rank * DK, eps, DK, BLOCK_K)
        score = tl.load(first + rank * KEYS + chosen, mask=best, other=0.0)
        tl.store(sides + (block * RANKS + rank) * M + place, score * factor, mask=best)


def _usual_warps(kept: int, tokens: int) -> int:
    """What was fastest on an H200: fewer warps where blocks are many, or few keys are chosen."""
    many = tokens >= (MANY if kept > FEW_KEPT else MANY // 2)
    return (8 if kept > FEW_KEPT else 4) // (2 if many else 1)


def choose_sides(
    projected: Tensor,
    sizes: MemorySizes,
    weights: MemoryWeights,
    buffers: MemoryBuffers,
    *,
    eps: float,
    warps: int | None = None,
    pdl: bool = False,
) -> None:
    """Choose the f best lines and columns by buffers.scores, into `places` and `sides`.

    projected [T, 2 q Dk + ..] is what `score_keys` had.
    """
    tokens, width = projected.shape
    warps = warps or _usual_warps(sizes.kept, tokens)
    merge, dk = weights.merge, sizes.key_dim
    side, head = (dk, 2 * dk) if sizes.product_keys else (sizes.queries * dk, 0)
    _choose_sides[tokens, 2 * sizes.heads](
        projected, buffers.scores if merge is None else merge, buffers.scores, buffers.places,
        buffers.sides, buffers.side_room, eps, WIDTH=width, SIDE=side, HEAD=head,
        EACH=sizes.query_each_rank, NORMED=sizes.normed, MERGED=merge is not None,
        HEADS=sizes.heads, RANKS=sizes.ranks, KEYS=sizes.keys, DK=dk, BLOCK_K=block_of(dk),
        **top_constants(sizes.kept, block_of(sizes.keys), warps),
        **launch_options(pdl=pdl, warps=warps),
    )  # fmt: skip
