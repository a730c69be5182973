"""Queries and the cache entry of latent attention: norm, rotation and absorption in one launch.

A head's query has p elements without position and r rotary ones; the cache holds c of a latent and
r of a rotary key, which all heads share. The absorbed form needs of each head a query of c + r: its
p elements times the head's `k_up` [p, c], and its rotary ones turned. Two kinds of programs do
that, and do not wait for each other:

- One a token turns the rotary parts of all heads and of the key, norms the latent, and writes both
  to the cache, unless the slot is outside of it.
- One a head, a tile of the c columns and a tile of tokens multiplies. Its weights are asked for
  before the previous kernel has finished.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import block_of, launch_options, wait_for_previous
from reference_model.kernels.norm import normalised

COLUMNS = 64  # of the latent space that a program multiplies
LEAST_TOKENS, MOST_TOKENS = 16, 64  # of a program that multiplies


@triton.jit
def _turn(first_at, to, half: tl.constexpr, cos, sin, mask):
    """Turn the pairs (i, i + half) at `first_at` by the angle of one position, to `to`."""
    first = tl.load(first_at, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(first_at + half, mask=mask, other=0.0).to(tl.float32)
    kind = to.dtype.element_ty
    tl.store(to, (first * cos - second * sin).to(kind), mask=mask)
    tl.store(to + half, (second * cos + first * sin).to(kind), mask=mask)


@triton.jit
def _entry(
    token, query, latent, key, gamma, cos, sin, positions, slots, out, cache, eps, C,
    query_stride, latent_stride, key_stride,
    H: tl.constexpr, p: tl.constexpr, c: tl.constexpr, r: tl.constexpr, BLOCK_H: tl.constexpr,
    NORM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One token's rotary parts, and its latent and key into the cache."""
    half: tl.constexpr = r // 2
    i = tl.arange(0, half)
    angle = tl.load(positions + token) * half + i  # static for the step, as the slot is
    slot = tl.load(slots + token)
    cosine, sine = tl.load(cos + angle), tl.load(sin + angle)
    wait_for_previous(PDL)
    head = tl.arange(0, BLOCK_H)[:, None]
    _turn(
        query + token * query_stride + head * (p + r) + p + i[None, :],
        out + (token * H + head) * (c + r) + c + i[None, :],
        half, cosine[None, :], sine[None, :], head < H,
    )  # fmt: skip
    element = tl.arange(0, c)
    row = tl.load(latent + token * latent_stride + element).to(tl.float32)
    if NORM:
        row = normalised(row, gamma, element, element < c, eps, c)
    entry = cache + (token * C + slot) * (c + r)
    inside = (slot >= 0) & (slot < C)
    tl.store(entry + element, row.to(cache.dtype.element_ty), mask=inside)
    _turn(key + token * key_stride + i, entry + c + i, half, cosine, sine, inside)


@triton.jit
def _absorb(
    item, query, weight, out, T, query_stride,
    H: tl.constexpr, p: tl.constexpr, c: tl.constexpr, r: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_T: tl.constexpr, COLUMNS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """A tile of tokens' queries times a tile of one head's columns."""
    spans = tl.cdiv(T, BLOCK_T)  # of tokens: neighbours share the weights in the L2
    column = item // spans % (c // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    head = item // spans // (c // COLUMNS)
    element = tl.arange(0, BLOCK_P)
    inside = element < p
    at = (head * p + element)[:, None] * c + column[None, :]
    w = tl.load(weight + at, mask=inside[:, None], other=0.0)
    wait_for_previous(PDL)
    token = (item % spans * BLOCK_T + tl.arange(0, BLOCK_T)).to(tl.int64)
    real = token < T
    source = query + token[:, None] * query_stride + head * (p + r) + element[None, :]
    x = tl.load(source, mask=real[:, None] & inside[None, :], other=0.0)
    y = tl.dot(x, w, input_precision="ieee")
    to = out + (token * H + head)[:, None] * (c + r) + column[None, :]
    tl.store(to, y.to(out.dtype.element_ty), mask=real[:, None])


@triton.jit
def _latent_query(
    query, latent, key, weight, gamma, cos, sin, positions, slots, out, cache, eps, T, C,
    query_stride, latent_stride, key_stride,
    H: tl.constexpr, p: tl.constexpr, c: tl.constexpr, r: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_T: tl.constexpr, COLUMNS: tl.constexpr,
    NORM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    item = tl.program_id(0)
    if item < T:
        _entry(
            item.to(tl.int64), query, latent, key, gamma, cos, sin, positions, slots, out, cache,
            eps, C, query_stride, latent_stride, key_stride, H, p, c, r, BLOCK_H, NORM, PDL,
        )  # fmt: skip
    else:
        _absorb(
            item - T, query, weight, out, T, query_stride, H, p, c, r, BLOCK_P, BLOCK_T, COLUMNS,
            PDL,
        )  # fmt: skip


def latent_query(
    query: Tensor,
    latent: Tensor,
    key: Tensor,
    weight: Tensor,
    out: Tensor,
    cache: Tensor,
    *,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    gamma: Tensor | None = None,
    eps: float = 1e-6,
    pdl: bool = False,
) -> None:
    """Turn query [T, H (p + r)], latent [T, c] and key [T, r] into queries and cache entries.

    Args:
        query: Rows may be parts of wider ones, as those of latent and key.
        latent: Normed here where `gamma` [c] is given.
        key: The rotary key before its rotation.
        weight: `k_up` [H, p, c].
        out: Queries in the latent space and their rotary parts, [T, H, c + r].
        cache: [T, 1, C, c + r], a sequence a token.
        cos: [positions, r / 2] in float32, as `sin`.
        sin: See `cos`.
        positions: [T] of int32.
        slots: [T] of int32; one outside of the cache writes nothing there.
        gamma: The latent norm's weight.
        eps: Of that norm.
        pdl: Whether the launch depends on the kernel before it alone.
    """
    tokens, (heads, p, c) = query.shape[0], weight.shape
    r = key.shape[1]
    assert cache.is_contiguous()
    columns = min(COLUMNS, c)
    together = min(MOST_TOKENS, max(LEAST_TOKENS, block_of(tokens)))
    products = heads * (c // columns) * triton.cdiv(tokens, together)
    _latent_query[tokens + products,](
        query, latent, key, weight, latent if gamma is None else gamma, cos, sin, positions, slots,
        out, cache, eps, tokens, cache.shape[2], query.stride(0), latent.stride(0), key.stride(0),
        H=heads, p=p, c=c, r=r, BLOCK_H=block_of(heads), BLOCK_P=max(16, block_of(p)),
        BLOCK_T=together, COLUMNS=columns, NORM=gamma is not None,
        **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip
