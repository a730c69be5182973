"""Attention of one new token a sequence over its cache: grouped queries on the matrix unit.

A block takes one sequence, one key-value head with the H / K query heads that share it, and a slice
of the context; with few sequences many slices are needed to fill the GPU (`attention_split`). The
query heads are rows of the matrix unit, padded to 16: that wastes arithmetic, of which decode has
plenty, and beats multiplying on the ordinary units by 20 to 25 % even with one row of 16 in use.
Keys and values stream by tensor descriptors.

A descriptor knows no mask, and a weight of zero times what lies beyond the sequence's end is NaN if
that is NaN. So whole tiles stream, and what is left is loaded by masked pointers, a few keys at a
time. (Masking the values of every tile after they came was measured to cost 3 % where memory is the
limit.) Slices take tiles in turn, so that they differ by one tile at most, whatever the length.
Asking for a slice's first tile before the previous kernel has finished made the kernel 5 to 13 %
faster in a chain of its own, and whole steps up to 3 % slower.

A window sees the last `window` positions; where the cache is a ring of that length instead, the
caller gives the filled slots as the length and no window: softmax does not mind the order. A sink
is one score a head that takes weight and has no value (gpt-oss).
"""

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.attention_slices import LOG2E, AttentionBuffers, finish, tile
from reference_model.kernels.attention_split import Split
from reference_model.kernels.launch import block_of, launch_options, wait_for_previous

TAIL = 64  # keys beyond whole tiles that are loaded at once


@triton.jit
def _attend(
    q, keys, values, key_tiles, value_tiles, sinks, partial, stats, arrived, out, lengths, scale,
    C, WINDOW,
    K: tl.constexpr, G: tl.constexpr, d: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_J: tl.constexpr,
    BLOCK: tl.constexpr, TAIL: tl.constexpr, SLICES: tl.constexpr, BLOCK_Z: tl.constexpr,
    STAGES: tl.constexpr, SINKS: tl.constexpr, WINDOWED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    piece = tl.program_id(0)
    group = tl.program_id(2).to(tl.int64) * K + tl.program_id(1)  # one sequence's key-value head
    length = tl.minimum(tl.load(lengths + tl.program_id(2)), C)
    first = 0
    if WINDOWED:
        first = tl.maximum(length - WINDOW, 0)
    member = tl.arange(0, BLOCK_G)
    element = tl.arange(0, d)
    inside = member < G
    head = group * G + member
    tiles = (length - first) // BLOCK
    last = first + tiles * BLOCK
    mine = piece == tiles % SLICES  # whose turn the rest is
    place = tl.arange(0, BLOCK)
    few = tl.arange(0, TAIL)
    row = (group * C).to(tl.int32) + first
    wait_for_previous(PDL)
    x = tl.load(q + head[:, None] * d + element[None, :], mask=inside[:, None], other=0.0)
    seen = mine & (last + few < length)
    rest = (group * C + last + few)[:, None] * d + element[None, :]
    k_rest = tl.load(keys + rest, mask=seen[:, None], other=0.0)
    v_rest = tl.load(values + rest, mask=seen[:, None], other=0.0)
    high = tl.full((BLOCK_G,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_G,), tl.float32)
    acc = tl.zeros((BLOCK_G, d), tl.float32)
    for at in tl.range(piece * BLOCK, tiles * BLOCK, SLICES * BLOCK, num_stages=STAGES):
        k = key_tiles.load([row + at, 0])
        v = value_tiles.load([row + at, 0])
        high, total, acc = tile(x, k, v, place < BLOCK, scale, high, total, acc)
    if mine & (last < length):
        high, total, acc = tile(x, k_rest, v_rest, seen, scale, high, total, acc)
        for at in range(last + TAIL, length, TAIL):
            seen = at + few < length
            to = (group * C + at + few)[:, None] * d + element[None, :]
            k = tl.load(keys + to, mask=seen[:, None], other=0.0)
            v = tl.load(values + to, mask=seen[:, None], other=0.0)
            high, total, acc = tile(x, k, v, seen, scale, high, total, acc)
    finish(
        high, total, acc, partial, stats, arrived, sinks, out, group, piece,
        K, G, d, BLOCK_G, BLOCK_J, SLICES, BLOCK_Z, SINKS,
    )  # fmt: skip


def attend(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    out: Tensor,
    lengths: Tensor,
    split: Split,
    buffers: AttentionBuffers,
    *,
    key_tiles: TensorDescriptor,
    value_tiles: TensorDescriptor,
    window: int | None = None,
    sinks: Tensor | None = None,
    pdl: bool = False,
) -> None:
    """Attend with q [T, H, d] over caches [T, K, C, d]: softmax(q keys / sqrt(d)) values, to out.

    Each of `lengths` [T] int32 says how many slots of its sequence are filled.
    """
    tokens, heads, d = q.shape
    kv_heads, capacity = keys.shape[1:3]
    _attend[split.slices, kv_heads, tokens](
        q, keys, values, key_tiles, value_tiles, q if sinks is None else sinks, buffers.partial,
        buffers.stats, buffers.arrived, out, lengths, d**-0.5 * LOG2E.value, capacity,
        window or 0,
        K=kv_heads, G=heads // kv_heads, d=d, BLOCK_G=max(16, block_of(heads // kv_heads)),
        BLOCK_J=block_of(heads // kv_heads),
        BLOCK=split.block, TAIL=min(TAIL, split.block), SLICES=split.slices,
        BLOCK_Z=block_of(split.slices), STAGES=split.stages, SINKS=sinks is not None,
        WINDOWED=window is not None,
        **launch_options(pdl=pdl, warps=split.warps, stages=split.stages),
    )  # fmt: skip
