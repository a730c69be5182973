"""QK-norm, rotary embedding and the cache write of a step's new tokens, in one launch.

The qkv projection leaves a row [(H + 2 K) d] a token. Three programs take it: one the queries, one
the keys, one the values. QK-norm is per head (one weight [d] for all heads) or full (the mean over
all heads of a token, weight [H d] or [K d]). Rotation pairs element i of a head's first
`rotary_dim` with element i + rotary_dim / 2; elements beyond keep their normed value.

The cache of one layer is [B, K, C, d]; the new tokens of a sequence follow one another. The slot is
the caller's to say: the position itself, or its remainder in a ring of a window's length. A slot
outside of the cache writes nothing.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import block_of, launch_options, wait_for_previous


@triton.jit
def _heads(
    source,
    target,
    stride,
    write,
    gamma,
    cos,
    sin,
    eps,
    HEADS: tl.constexpr,
    d: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_REST: tl.constexpr,
    NORM: tl.constexpr,
):
    """Norm and turn HEADS heads of d elements at `source`; head h goes to target + h stride."""
    head = tl.arange(0, BLOCK_H)[:, None]
    i = tl.arange(0, BLOCK_HALF)[None, :]
    pair = (head < HEADS) & (i < HALF)
    first = tl.load(source + head * d + i, mask=pair, other=0.0).to(tl.float32)
    second = tl.load(source + head * d + HALF + i, mask=pair, other=0.0).to(tl.float32)
    j = 2 * HALF + tl.arange(0, BLOCK_REST)[None, :]
    beyond = (head < HEADS) & (j < d)
    if d > 2 * HALF:
        rest = tl.load(source + head * d + j, mask=beyond, other=0.0).to(tl.float32)
    if NORM != "none":
        squares = tl.sum(first * first + second * second, 1)
        if d > 2 * HALF:
            squares += tl.sum(rest * rest, 1)
        if NORM == "full":
            scale = tl.rsqrt(tl.sum(squares, 0) / (HEADS * d) + eps)
            at = head * d
        else:
            scale = tl.rsqrt(squares / d + eps)[:, None]
            at = head * 0
        first *= scale * tl.load(gamma + at + i, mask=pair, other=0.0).to(tl.float32)
        second *= scale * tl.load(gamma + at + HALF + i, mask=pair, other=0.0).to(tl.float32)
        if d > 2 * HALF:
            rest *= scale * tl.load(gamma + at + j, mask=beyond, other=0.0).to(tl.float32)
    c = tl.load(cos + i, mask=i < HALF, other=0.0)
    s = tl.load(sin + i, mask=i < HALF, other=0.0)
    to = target + head * stride
    kind = target.dtype.element_ty
    tl.store(to + i, (first * c - second * s).to(kind), mask=pair & write)
    tl.store(to + HALF + i, (second * c + first * s).to(kind), mask=pair & write)
    if d > 2 * HALF:
        tl.store(to + j, rest.to(kind), mask=beyond & write)


@triton.jit
def _rope(
    qkv,
    queries,
    keys,
    values,
    q_gamma,
    k_gamma,
    cos,
    sin,
    positions,
    slots,
    eps,
    C,
    NEW: tl.constexpr,
    H: tl.constexpr,
    K: tl.constexpr,
    d: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_REST: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NORM: tl.constexpr,
    PDL: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    turn = tl.load(positions + token) * HALF  # static for the step: read before the wait
    slot = tl.load(slots + token)
    write = (slot >= 0) & (slot < C)
    wait_for_previous(PDL)
    row = qkv + token * (H + 2 * K) * d
    cached = token // NEW * K * C * d + slot * d
    if part == 0:
        to = queries + token * H * d
        _heads(
            row, to, d, True, q_gamma, cos + turn, sin + turn, eps,  # noqa: FBT003
            H, d, HALF, BLOCK_H, BLOCK_HALF, BLOCK_REST, NORM,
        )  # fmt: skip
    elif part == 1:
        _heads(
            row + H * d, keys + cached, C * d, write, k_gamma, cos + turn, sin + turn, eps,
            K, d, HALF, BLOCK_K, BLOCK_HALF, BLOCK_REST, NORM,
        )  # fmt: skip
    else:
        head = tl.arange(0, BLOCK_K)[:, None]
        i = tl.arange(0, BLOCK_D)[None, :]
        inside = (head < K) & (i < d)
        value = tl.load(row + (H + K) * d + head * d + i, mask=inside)
        tl.store(values + cached + head * C * d + i, value, mask=inside & write)


def rope_and_store(
    qkv: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    cos: Tensor,
    sin: Tensor,
    positions: Tensor,
    slots: Tensor,
    q_gamma: Tensor | None = None,
    k_gamma: Tensor | None = None,
    eps: float = 1e-6,
    pdl: bool = False,
) -> None:
    """Turn qkv [T, (H + 2 K) d] into queries [T, H, d] and entries of the caches [B, K, C, d].

    A sequence has T / B new tokens, one after another: one in a decode step.
    cos and sin are tables [positions, rotary_dim / 2] in float32; positions and slots are [T] of
    int32. The norm is full where `q_gamma` has H d elements and more than one head, per head where
    it has d, none where there is none.
    """
    tokens, heads, d = queries.shape
    kv_heads, capacity = keys.shape[1:3]
    assert keys.is_contiguous()
    assert values.is_contiguous()
    half = cos.shape[1]
    norm = "none"
    if q_gamma is not None:
        norm = "head" if q_gamma.numel() == d else "full"
    _rope[tokens, 3](
        qkv,
        queries,
        keys,
        values,
        qkv if q_gamma is None else q_gamma,
        qkv if k_gamma is None else k_gamma,
        cos,
        sin,
        positions,
        slots,
        eps,
        capacity,
        NEW=tokens // keys.shape[0],
        H=heads,
        K=kv_heads,
        d=d,
        HALF=half,
        BLOCK_HALF=block_of(half),
        BLOCK_REST=block_of(max(1, d - 2 * half)),
        BLOCK_H=block_of(heads),
        BLOCK_K=block_of(kv_heads),
        BLOCK_D=block_of(d),
        NORM=norm,
        **launch_options(pdl=pdl, warps=4),
    )
