"""What attention kernels do a tile at a time, and how slices of one context become one result.

A slice keeps a running maximum, the sum of weights below it and the weighted values, in float32.
Each leaves them in memory; a counter a key-value head tells which slice arrives last, and that one
joins all. So there is no second launch. With one slice nothing is left: it writes the result.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.attention_split import Split

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)  # the hardware has exp2: scores in its units


@triton.jit
def tile(x, k, v, seen, scale, high, total, acc):
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
def _over_sum(high, total, acc, sinks, head, inside, SINKS: tl.constexpr):
    """Weighted values over the sum of weights, a sink's included."""
    if SINKS:
        sink = tl.load(sinks + head, mask=inside, other=0.0).to(tl.float32) * LOG2E
        total += tl.exp2(sink - high)
    return acc / total[:, None]


@triton.jit
def finish(
    high, total, acc, partial, stats, arrived, sinks, out, group, piece,
    K: tl.constexpr, G: tl.constexpr, d: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_J: tl.constexpr,
    SLICES: tl.constexpr, BLOCK_Z: tl.constexpr, SINKS: tl.constexpr,
):  # fmt: skip
    """Write the G query heads of key-value head `group`, or leave this slice and perhaps join."""
    member = tl.arange(0, BLOCK_G)
    element = tl.arange(0, d)
    inside = member < G
    head = group * G + member
    to = head[:, None] * d + element[None, :]
    if SLICES == 1:
        y = _over_sum(high, total, acc, sinks, group % K * G + member, inside, SINKS)
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
