"""Attention of one new token a sequence over a cache of latents: multi-query, keys are values too.

A cached token is one row of c + r: its latent, which is key and value at once, and its rotary key.
So a tile of the cache streams once, by tensor descriptors, and serves the scores of all query heads
of the block (two products: latent and rotary part) and their weighted sum.

A slice of the context leaves its own result, divided by its own sum of weights, and the logarithm
of that sum; who reads the results joins them (`latent_values`). Letting the slice that arrives last
join them, as in `attention_slices`, would be slow here: a slice's result has c elements for each of
16 or more heads, so that at one sequence a single block would read more than a megabyte.

As in `attention`, whole tiles stream, slices take them in turn, and what is left is loaded by
masked pointers, since a weight of zero does not silence NaN beyond the sequence's end.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.attention_slices import LOG2E
from reference_model.kernels.latent_split import LatentSplit
from reference_model.kernels.launch import launch_options, wait_for_previous

TAIL = 32  # keys beyond whole tiles that are loaded at once


@triton.jit
def _tile(x, y, latent, key, seen, scale, high, total, acc):
    """One tile of latents and rotary keys into the running maximum, sum and weighted latents."""
    score = tl.dot(x, latent.T, input_precision="ieee")
    score = tl.dot(y, key.T, score, input_precision="ieee") * scale
    score = tl.where(seen[None, :], score, float("-inf"))
    higher = tl.maximum(high, tl.max(score, 1))
    weight = tl.exp2(score - higher[:, None])
    shrink = tl.exp2(high - higher)
    total = total * shrink + tl.sum(weight, 1)
    acc = tl.dot(weight.to(latent.dtype), latent, acc * shrink[:, None], input_precision="ieee")
    return higher, total, acc


@triton.jit
def _attend_latents(
    q, cache, latent_tiles, key_tiles, mixed, shares, lengths, scale, C,
    H: tl.constexpr, c: tl.constexpr, r: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK: tl.constexpr,
    TAIL: tl.constexpr, SLICES: tl.constexpr, STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    piece = tl.program_id(0)
    member = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    sequence = tl.program_id(2).to(tl.int64)
    inside = member < H
    head = sequence * H + member
    length = tl.minimum(tl.load(lengths + sequence), C)
    tiles = length // BLOCK
    place = tl.arange(0, BLOCK)
    first, turned = tl.arange(0, c), tl.arange(0, r)
    row = (sequence * C).to(tl.int32)
    wait_for_previous(PDL)
    x = tl.load(q + head[:, None] * (c + r) + first[None, :], mask=inside[:, None], other=0.0)
    y = tl.load(q + head[:, None] * (c + r) + c + turned[None, :], mask=inside[:, None], other=0.0)
    high = tl.full((BLOCK_H,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_H,), tl.float32)
    acc = tl.zeros((BLOCK_H, c), tl.float32)
    for at in tl.range(piece * BLOCK, tiles * BLOCK, SLICES * BLOCK, num_stages=STAGES):
        latent = latent_tiles.load([row + at, 0])
        key = key_tiles.load([row + at, c])
        high, total, acc = _tile(x, y, latent, key, place < BLOCK, scale, high, total, acc)
    if piece == tiles % SLICES:  # whose turn the rest is
        few = tl.arange(0, TAIL)
        for at in tl.range(tiles * BLOCK, length, TAIL, num_stages=1):
            seen = at + few < length
            entry = cache + (sequence * C + at + few)[:, None] * (c + r)
            latent = tl.load(entry + first[None, :], mask=seen[:, None], other=0.0)
            key = tl.load(entry + c + turned[None, :], mask=seen[:, None], other=0.0)
            high, total, acc = _tile(x, y, latent, key, seen, scale, high, total, acc)
    spot = head * SLICES + piece
    own = acc / tl.where(total == 0, 1.0, total)[:, None]  # a slice without keys: zero
    to = mixed + spot[:, None] * c + first[None, :]
    tl.store(to, own.to(mixed.dtype.element_ty), mask=inside[:, None])
    tl.store(shares + spot, high + tl.log2(total), mask=inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentResults:
    """What the slices of one launch leave; layers share it."""

    mixed: Tensor  # [T, H, slices, c]: weighted latents, in the model's format
    shares: Tensor  # [T, H, slices] float32: log2 of the sum of weights; -inf without keys

    @classmethod
    def make(
        cls, split: LatentSplit, *, tokens: int, heads: int, c: int, like: Tensor
    ) -> "LatentResults":
        """Room for one launch, NaN until it is written, in the format of `like`."""
        shape = tokens, heads, split.slices
        return cls(
            mixed=like.new_full((*shape, c), torch.nan),
            shares=like.new_full(shape, torch.nan, dtype=torch.float32),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentTiles:
    """A cache [T, 1, C, c + r] as the kernel reads it: tiles of latents, and of rotary keys."""

    latents: TensorDescriptor
    keys: TensorDescriptor

    @classmethod
    def of(cls, cache: Tensor, c: int, split: LatentSplit) -> "LatentTiles":
        """Tiles of `split.block` tokens; latents are the first c elements of an entry."""
        rows = cache.view(-1, cache.shape[-1])
        return cls(
            latents=TensorDescriptor.from_tensor(rows, [split.block, c]),
            keys=TensorDescriptor.from_tensor(rows, [split.block, rows.shape[1] - c]),
        )


def attend_latents(
    q: Tensor,
    cache: Tensor,
    tiles: LatentTiles,
    results: LatentResults,
    lengths: Tensor,
    split: LatentSplit,
    *,
    scale: float,
    pdl: bool = False,
) -> None:
    """Attend with q [T, H, c + r] over a cache [T, 1, C, c + r], a slice at a time.

    `scale` multiplies the scores. Each of `lengths` [T] int32 says how many slots of its sequence
    are filled.
    """
    tokens, heads, width = q.shape
    c = results.mixed.shape[-1]
    _attend_latents[split.slices, triton.cdiv(heads, split.heads), tokens](
        q, cache, tiles.latents, tiles.keys, results.mixed, results.shares, lengths,
        scale * LOG2E.value, cache.shape[2], H=heads, c=c, r=width - c, BLOCK_H=split.heads,
        BLOCK=split.block, TAIL=min(TAIL, split.block), SLICES=split.slices, STAGES=split.stages,
        **launch_options(pdl=pdl, warps=split.warps, stages=split.stages),
    )  # fmt: skip
