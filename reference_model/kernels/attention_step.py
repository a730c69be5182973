"""A step's whole attention between the qkv projection and the output projection, in one launch.

QK-norm, rotary embedding, cache write and attention over the cache and the new token. Every block
norms and turns the query heads that it needs, and the new key, by itself: a few KB out of the L2.
The new token is never read from the cache: the first slice starts from its score, and writes its
key and value for the steps to come. So no block reads what this launch or the one before it writes,
and where a slice is a single tile, all of the cache is asked for before the previous kernel (the
projection) has finished.

Norms, rotation and slots are those of `rope`, slices and tiles those of `attention`. In a ring the
slot that the new token takes is left out of what is seen, since it holds the token that goes.
"""

import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.attention_slices import LOG2E, AttentionBuffers, finish, tile
from reference_model.kernels.attention_split import Split
from reference_model.kernels.launch import block_of, launch_options, wait_for_previous


@triton.jit
def _turned(
    row, head, inside, gamma, cos, sin, eps,
    HEADS: tl.constexpr, d: tl.constexpr, HALF: tl.constexpr, BLOCK_ROW: tl.constexpr,
    NORM: tl.constexpr,
):  # fmt: skip
    """Heads [heads of `head`, d] of a token's row of HEADS heads, normed and turned, in float32."""
    i = tl.arange(0, d)
    turns = i < 2 * HALF
    other = tl.where(i < HALF, i + HALF, tl.where(turns, i - HALF, i))
    at = head[:, None] * d + i[None, :]
    partner = head[:, None] * d + other[None, :]
    x = tl.load(row + at, mask=inside[:, None], other=0.0).to(tl.float32)
    y = tl.load(row + partner, mask=inside[:, None], other=0.0).to(tl.float32)
    if NORM == "head":
        scale = tl.rsqrt(tl.sum(x * x, 1) / d + eps)[:, None]
        x *= scale * tl.load(gamma + i).to(tl.float32)[None, :]
        y *= scale * tl.load(gamma + other).to(tl.float32)[None, :]
    if NORM == "full":
        j = tl.arange(0, BLOCK_ROW)
        whole = tl.load(row + j, mask=j < HEADS * d, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(whole * whole, 0) / (HEADS * d) + eps)
        x *= scale * tl.load(gamma + at, mask=inside[:, None], other=0.0).to(tl.float32)
        y *= scale * tl.load(gamma + partner, mask=inside[:, None], other=0.0).to(tl.float32)
    angle = tl.where(i < HALF, i, i - HALF)
    c = tl.load(cos + angle, mask=turns, other=1.0)
    s = tl.load(sin + angle, mask=turns, other=0.0)
    s = tl.where(i < HALF, -s, s)
    return x * c[None, :] + y * s[None, :]


@triton.jit
def _attend_new(
    qkv, keys, values, key_tiles, value_tiles, q_gamma, k_gamma, cos, sin, positions, slots, sinks,
    partial, stats, arrived, out, lengths, eps, scale, C, PER, WINDOW,
    H: tl.constexpr, K: tl.constexpr, G: tl.constexpr, d: tl.constexpr, HALF: tl.constexpr,
    BLOCK_G: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK: tl.constexpr, SLICES: tl.constexpr, BLOCK_Z: tl.constexpr, STAGES: tl.constexpr,
    NORM: tl.constexpr, SINKS: tl.constexpr, WINDOWED: tl.constexpr, SINGLE: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    piece = tl.program_id(0)
    kv_head = tl.program_id(1)
    token = tl.program_id(2).to(tl.int64)
    group = token * K + kv_head
    turn = tl.load(positions + token) * HALF
    slot = tl.load(slots + token)
    length = tl.minimum(tl.load(lengths + token), C)
    first = 0
    if WINDOWED:
        first = tl.maximum(length + 1 - WINDOW, 0)
    begin = tl.minimum(first + piece * PER, length)
    end = tl.minimum(begin + PER, length)
    place = tl.arange(0, BLOCK)
    element = tl.arange(0, d)
    if SINGLE:
        seen = (begin + place < end) & (begin + place != slot)
        to = (group * C + begin + place)[:, None] * d + element[None, :]
        k = tl.load(keys + to, mask=seen[:, None], other=0.0)
        v = tl.load(values + to, mask=seen[:, None], other=0.0)
    wait_for_previous(PDL)
    row = qkv + token * (H + 2 * K) * d
    member = tl.arange(0, BLOCK_G)
    inside = member < G
    x = _turned(
        row, kv_head * G + member, inside, q_gamma, cos + turn, sin + turn, eps,
        H, d, HALF, BLOCK_Q, NORM,
    ).to(keys.dtype.element_ty)  # fmt: skip
    one = tl.arange(0, 1)
    new_key = _turned(
        row + H * d, kv_head + one, one == 0, k_gamma, cos + turn, sin + turn, eps,
        K, d, HALF, BLOCK_K, NORM,
    ).to(keys.dtype.element_ty)  # fmt: skip
    new_value = tl.load(row + (H + K + kv_head) * d + element)
    mine = piece == 0
    write = mine & (slot >= 0) & (slot < C)
    goes = group * C * d + slot * d + element
    tl.store(keys + goes[None, :], new_key, mask=write & (element >= 0)[None, :])
    tl.store(values + goes, new_value, mask=write & (element >= 0))
    score = tl.sum(x.to(tl.float32) * new_key.to(tl.float32), 1) * scale
    high = tl.where(mine, score, float("-inf"))
    total = tl.where(mine, 1.0, 0.0) + tl.zeros((BLOCK_G,), tl.float32)
    acc = tl.where(mine, new_value.to(tl.float32), 0.0)[None, :]
    acc = acc + tl.zeros((BLOCK_G, d), tl.float32)
    if SINGLE:
        if begin < end:
            high, total, acc = tile(x, k, v, seen, scale, high, total, acc)
    else:
        tile_row = (group * C).to(tl.int32)
        for at in tl.range(begin, end, BLOCK, num_stages=STAGES):
            seen = (at + place < end) & (at + place != slot)
            k = key_tiles.load([tile_row + at, 0])
            v = tl.where(seen[:, None], value_tiles.load([tile_row + at, 0]), 0.0)
            high, total, acc = tile(x, k, v, seen, scale, high, total, acc)
    finish(
        high, total, acc, partial, stats, arrived, sinks, out, group, piece,
        K, G, d, BLOCK_G, BLOCK_J, SLICES, BLOCK_Z, SINKS,
    )  # fmt: skip


def attend_new(
    qkv: Tensor,
    keys: Tensor,
    values: Tensor,
    out: Tensor,
    split: Split,
    buffers: AttentionBuffers,
    *,
    key_tiles: TensorDescriptor,
    value_tiles: TensorDescriptor,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    lengths: Tensor,
    longest: int,
    q_gamma: Tensor | None = None,
    k_gamma: Tensor | None = None,
    eps: float = 1e-6,
    window: int | None = None,
    sinks: Tensor | None = None,
    pdl: bool = False,
) -> None:
    """qkv [T, (H + 2 K) d] and caches [T, K, C, d] to out [T, H, d]; keys and values are stored.

    `lengths` [T] int32 are the filled slots before this step, at most `longest`; `slots` [T] are
    where the new token goes, `positions` [T] its position in the tables cos and sin
    [positions, rotary_dim / 2]. Norms as in `rope.rope_and_store`; a `window` counts the new token.
    """
    tokens, heads, d = out.shape
    kv_heads, capacity = keys.shape[1:3]
    norm = "none"
    if q_gamma is not None:
        norm = "head" if q_gamma.numel() == d else "full"
    seen = longest if window is None else min(window - 1, longest)
    per = triton.cdiv(triton.cdiv(seen, split.slices), split.block) * split.block
    _attend_new[split.slices, kv_heads, tokens](
        qkv, keys, values, key_tiles, value_tiles, qkv if q_gamma is None else q_gamma,
        qkv if k_gamma is None else k_gamma, cos, sin, positions, slots,
        qkv if sinks is None else sinks, buffers.partial, buffers.stats, buffers.arrived, out,
        lengths, eps, d**-0.5 * LOG2E.value, capacity, per, window or 0,
        H=heads, K=kv_heads, G=heads // kv_heads, d=d, HALF=cos.shape[1],
        BLOCK_G=max(16, block_of(heads // kv_heads)), BLOCK_J=block_of(heads // kv_heads),
        BLOCK_Q=block_of(heads * d), BLOCK_K=block_of(kv_heads * d), BLOCK=split.block,
        SLICES=split.slices, BLOCK_Z=block_of(split.slices), STAGES=split.stages, NORM=norm,
        SINKS=sinks is not None, WINDOWED=window is not None, SINGLE=per <= split.block,
        **launch_options(pdl=pdl, warps=split.warps, stages=split.stages),
    )  # fmt: skip
