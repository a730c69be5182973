"""Attention of one new token a sequence over its cache: grouped queries on the matrix unit.

A block takes one sequence, one key-value head with the H / K query heads that share it, and a slice
of the context; with few sequences many slices are needed to fill the GPU. The query heads are rows
of the matrix unit, padded to 16: that wastes arithmetic, of which decode has plenty, and beats
multiplying on the ordinary units by 20 to 25 % even with one row of 16 in use. Keys and values
stream by tensor descriptors. The slice that arrives last joins all of them, so there is no second
launch: each slice leaves its maximum, its sum and its weighted values in float32.

A descriptor knows no mask, and a masked tile would still multiply what lies beyond the sequence's
end by zero, which is NaN if that is NaN. So whole tiles stream, and the last, partial one is loaded
by masked pointers.

A window sees the last `window` positions; where the cache is a ring of that length instead, the
caller gives the filled slots as the length and no window: softmax does not mind the order. A sink
is one score a head that takes weight and has no value (gpt-oss).
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.attention_split import Split
from reference_model.kernels.launch import block_of, launch_options, wait_for_previous

LOG2E: tl.constexpr = tl.constexpr(
    1.4426950408889634
)  # exp2 is the hardware's own: scores in its units


@triton.jit
def _tile(x, k, v, seen, scale, high, total, acc):
    """One tile of keys and values into the running maximum, sum and weighted values."""
    score = tl.dot(x, k.T, input_precision="ieee") * scale
    score = tl.where(seen[None, :], score, float("-inf"))
    higher = tl.maximum(high, tl.max(score, 1))
    weight = tl.exp2(score - higher[:, None])
    shrink = tl.exp2(high - higher)
    total = total * shrink + tl.sum(weight, 1)
    acc = tl.dot(weight.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
    return higher, total, acc


@triton.jit
def _finish(high, total, acc, sinks, head, inside, SINKS: tl.constexpr):
    """Weighted values over the sum of weights, a sink's included."""
    if SINKS:
        sink = tl.load(sinks + head, mask=inside, other=0.0).to(tl.float32) * LOG2E
        total += tl.exp2(sink - high)
    return acc / total[:, None]


@triton.jit
def _attend(
    q, keys, values, key_tiles, value_tiles, sinks, partial, stats, arrived, out, lengths, scale,
    C, PER, WINDOW,
    K: tl.constexpr, G: tl.constexpr, d: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_J: tl.constexpr,
    BLOCK: tl.constexpr, SLICES: tl.constexpr, BLOCK_Z: tl.constexpr, STAGES: tl.constexpr,
    SINKS: tl.constexpr, WINDOWED: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    piece = tl.program_id(0)
    group = tl.program_id(2).to(tl.int64) * K + tl.program_id(1)  # one sequence's key-value head
    length = tl.minimum(tl.load(lengths + tl.program_id(2)), C)
    first = 0
    if WINDOWED:
        first = tl.maximum(length - WINDOW, 0)
    begin = tl.minimum(first + piece * PER, length)
    end = tl.minimum(begin + PER, length)
    member = tl.arange(0, BLOCK_G)
    element = tl.arange(0, d)
    inside = member < G
    head = group * G + member
    wait_for_previous(PDL)
    x = tl.load(q + head[:, None] * d + element[None, :], mask=inside[:, None], other=0.0)
    high = tl.full((BLOCK_G,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_G,), tl.float32)
    acc = tl.zeros((BLOCK_G, d), tl.float32)
    whole = begin + (end - begin) // BLOCK * BLOCK
    place = tl.arange(0, BLOCK)
    row = (group * C).to(tl.int32)
    for at in tl.range(begin, whole, BLOCK, num_stages=STAGES):
        k = key_tiles.load([row + at, 0])
        v = value_tiles.load([row + at, 0])
        high, total, acc = _tile(x, k, v, place < BLOCK, scale, high, total, acc)
    if whole < end:
        seen = whole + place < end
        to = (group * C + whole + place)[:, None] * d + element[None, :]
        k = tl.load(keys + to, mask=seen[:, None], other=0.0)
        v = tl.load(values + to, mask=seen[:, None], other=0.0)
        high, total, acc = _tile(x, k, v, seen, scale, high, total, acc)
    to = head[:, None] * d + element[None, :]
    if SLICES == 1:
        y = _finish(high, total, acc, sinks, tl.program_id(1) * G + member, inside, SINKS)
        tl.store(out + to, y.to(out.dtype.element_ty), mask=inside[:, None])
    else:
        spot = head * SLICES + piece
        tl.store(partial + spot[:, None] * d + element[None, :], acc, mask=inside[:, None])
        tl.store(stats + 2 * spot, high, mask=inside)
        tl.store(stats + 2 * spot + 1, total, mask=inside)
        tl.debug_barrier()
        if tl.atomic_add(arrived + group, 1, sem="acq_rel") == SLICES - 1:
            tl.store(arrived + group, 0)
            _join(partial, stats, sinks, out, group, K, G, d, BLOCK_J, SLICES, BLOCK_Z, SINKS)


@triton.jit
def _join(
    partial, stats, sinks, out, group,
    K: tl.constexpr, G: tl.constexpr, d: tl.constexpr, BLOCK_J: tl.constexpr,
    SLICES: tl.constexpr, BLOCK_Z: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    """All slices' results of a key-value head's queries, one slice after another in flight."""
    element = tl.arange(0, d)
    member = tl.arange(0, BLOCK_J)
    inside = member < G
    head = group * G + member
    slice_ = tl.arange(0, BLOCK_Z)
    real = inside[:, None] & (slice_ < SLICES)[None, :]
    spot = head[:, None] * SLICES + slice_[None, :]
    high = tl.load(stats + 2 * spot, mask=real, other=float("-inf"), cache_modifier=".cg")
    total = tl.load(stats + 2 * spot + 1, mask=real, other=0.0, cache_modifier=".cg")
    top = tl.max(high, 1)
    below = tl.sum(tl.exp2(high - top[:, None]) * total, 1)
    acc = tl.zeros((BLOCK_J, d), tl.float32)
    for z in tl.static_range(SLICES):
        spot = head * SLICES + z
        high = tl.load(stats + 2 * spot, mask=inside, other=float("-inf"), cache_modifier=".cg")
        part = tl.load(
            partial + spot[:, None] * d + element[None, :],
            mask=inside[:, None],
            other=0.0,
            cache_modifier=".cg",
        )
        acc += part * tl.exp2(high - top)[:, None]  # a slice without keys: zero by exp2(-inf)
    if SINKS:
        sink = tl.load(sinks + group % K * G + member, mask=inside, other=0.0).to(tl.float32)
        below += tl.exp2(sink * LOG2E - top)
    y = (acc / below[:, None]).to(out.dtype.element_ty)
    tl.store(out + head[:, None] * d + element[None, :], y, mask=inside[:, None])


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionBuffers:
    """What slices leave for the one that joins them; layers share it."""

    partial: Tensor  # [T, H, slices, d] float32
    stats: Tensor  # [T, H, slices, 2] float32: maximum and sum
    arrived: Tensor  # [T, K] int32, zero between launches

    @classmethod
    def make(
        cls, split: Split, *, tokens: int, heads: int, kv_heads: int, d: int, device: str
    ) -> "AttentionBuffers":
        """Room for one launch; nothing is kept between launches but zero counters."""
        shape = tokens, heads, split.slices
        return cls(
            partial=torch.zeros(*shape, d, device=device),
            stats=torch.zeros(*shape, 2, device=device),
            arrived=torch.zeros(tokens, kv_heads, device=device, dtype=torch.int32),
        )


def described_cache(cache: Tensor, split: Split) -> TensorDescriptor:
    """Keys or values [T, K, C, d] as the kernel reads them: tiles of split.block keys."""
    return TensorDescriptor.from_tensor(
        cache.view(-1, cache.shape[-1]), [split.block, cache.shape[-1]]
    )


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
    longest: int,
    window: int | None = None,
    sinks: Tensor | None = None,
    pdl: bool = False,
) -> None:
    """softmax(q keys / sqrt(d)) values of q [T, H, d] over caches [T, K, C, d], to out [T, H, d].

    Each of `lengths` [T] int32 says how many slots of its sequence are filled, at most `longest`.
    """
    tokens, heads, d = q.shape
    kv_heads, capacity = keys.shape[1:3]
    seen = longest if window is None else min(window, longest)
    per = triton.cdiv(triton.cdiv(seen, split.slices), split.block) * split.block
    _attend[split.slices, kv_heads, tokens](
        q, keys, values, key_tiles, value_tiles, q if sinks is None else sinks, buffers.partial,
        buffers.stats, buffers.arrived, out, lengths, d**-0.5 * LOG2E.value, capacity, per, window or 0,
        K=kv_heads, G=heads // kv_heads, d=d, BLOCK_G=max(16, block_of(heads // kv_heads)),
        BLOCK_J=block_of(heads // kv_heads),
        BLOCK=split.block, SLICES=split.slices, BLOCK_Z=block_of(split.slices),
        STAGES=split.stages, SINKS=sinks is not None, WINDOWED=window is not None,
        **launch_options(pdl=pdl, warps=split.warps, stages=split.stages),
    )  # fmt: skip
