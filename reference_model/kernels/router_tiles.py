"""The router of many tokens: a product in tiles, then a choice by each token, in two launches.

In the first a block takes a tile of 16 tokens, 16 experts and a slice of D on the matrix unit, so
that tokens share the router's weights. In the second each token adds its slices and decides by
itself (`choose`). From 64 tokens on this is faster than any one launch that was tried.

The residual add and RMSNorm in front can be part of it. A norm is one factor a token, and products
are linear: so the first launch multiplies what is not yet normed, leaves x gamma for the experts,
and sums squares by the way; the second knows the factor, applies it to the logits and leaves it for
the experts to apply to their products.
"""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.choose import choice_of, choose
from reference_model.kernels.launch import launch_options, wait_for_previous
from reference_model.kernels.routing import TILE, RouterRule, Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class LateNorm:
    """A residual add and norm whose factor comes after the product; it stands in routing.scale."""

    add: Tensor  # [T, D], added to the stream
    gamma: Tensor  # [D]
    eps: float
    summed: Tensor  # [T, D], out: the stream with what is added; never the stream itself
    scaled: Tensor  # [T, D], out: that times gamma, without the factor


@triton.jit
def _product(
    x, add, gamma, weight, summed, scaled, squares, partial, T,
    D: tl.constexpr, E: tl.constexpr, SPLITS: tl.constexpr, BLOCK_T: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_D: tl.constexpr, NORM: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Logits of a tile of tokens, ROWS experts, one slice of D."""
    tile = tl.program_id(0)
    split = tl.program_id(2)
    token = tile * BLOCK_T + tl.arange(0, BLOCK_T)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    real = token < T
    SLICE: tl.constexpr = D // SPLITS
    total = tl.zeros((BLOCK_T, ROWS), tl.float32)
    square = tl.zeros((BLOCK_T,), tl.float32)
    wait_for_previous(PDL)
    for start in range(0, SLICE, BLOCK_D):
        at = split * SLICE + start + tl.arange(0, BLOCK_D)
        spot = token[:, None] * D + at[None, :]
        a = tl.load(x + spot, mask=real[:, None], other=0.0)
        w = tl.load(weight + rows[:, None] * D + at[None, :])
        if NORM:
            b = tl.load(add + spot, mask=real[:, None], other=0.0).to(tl.float32)
            rounded = (a.to(tl.float32) + b).to(x.dtype.element_ty)
            square += tl.sum(rounded.to(tl.float32) * rounded.to(tl.float32), 1)
            g = tl.load(gamma + at).to(tl.float32)
            a = (rounded.to(tl.float32) * g[None, :]).to(x.dtype.element_ty)
            if tl.program_id(1) == 0:
                tl.store(summed + spot, rounded, mask=real[:, None])
                tl.store(scaled + spot, a, mask=real[:, None])
        total = tl.dot(a, w.T, total, input_precision="ieee")
    to = (split * T + token[:, None]) * E + rows[None, :]
    tl.store(partial + to, total, mask=real[:, None])
    if NORM and tl.program_id(1) == 0:
        tl.store(squares + split * T + token, square, mask=real)


@triton.jit
def _choose_token(
    bias, partial, squares, scale, eps, T,
    logits, correction, declared, scratch, ids, weights, slots, counts, lists, items,
    D: tl.constexpr, SPLITS: tl.constexpr, BIAS: tl.constexpr, NORM: tl.constexpr,
    E: tl.constexpr, TOP_K: tl.constexpr, GROUPS: tl.constexpr, KEPT: tl.constexpr,
    GROUP_EXPERTS: tl.constexpr, SCORING: tl.constexpr, NORMALISED: tl.constexpr,
    CORRECTED: tl.constexpr, DECLARED: tl.constexpr, LISTED: tl.constexpr,
    ITEM_TOKENS: tl.constexpr,
    BLOCK_E: tl.constexpr, CHUNK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One token: its slices' sum, normed and with the bias, and its choice."""
    token = tl.program_id(0)
    expert = tl.arange(0, BLOCK_E)
    there = expert < E
    wait_for_previous(PDL)
    logit = tl.zeros((BLOCK_E,), tl.float32)
    square = 0.0
    for split in tl.static_range(SPLITS):
        at = split * T + token
        logit += tl.load(partial + at * E + expert, mask=there, other=0.0)
        if NORM:
            square += tl.load(squares + at)
    if NORM:
        factor = tl.rsqrt(square / D + eps)
        tl.store(scale + token, factor)
        logit *= factor
    if BIAS:
        logit += tl.load(bias + expert, mask=there, other=0.0).to(tl.float32)
    tl.store(logits + token * E + expert, logit, mask=there)
    tl.debug_barrier()
    choose(
        token, T, logits, correction, declared, scratch, ids, weights, slots, counts, lists, items,
        E, TOP_K, GROUPS, KEPT, GROUP_EXPERTS, SCORING, NORMALISED, CORRECTED, DECLARED,
        LISTED, ITEM_TOKENS, 1, BLOCK_E, CHUNK,
    )  # fmt: skip


def splits_of(width: int) -> int:
    """Slices of D that blocks share: each a multiple of 64 elements, nine at most."""
    return next(splits for splits in range(9, 0, -1) if width % (64 * splits) == 0 or splits == 1)


def route_tiles(
    x: Tensor,
    weight: Tensor,
    routing: Routing,
    rule: RouterRule,
    *,
    bias: Tensor | None = None,
    correction: Tensor | None = None,
    declared: Tensor | None = None,
    norm: LateNorm | None = None,
    pdl: bool = False,
) -> None:
    """Choose experts for x [T, D] by the router's weight [E, D], into a routing of zero counts.

    Arguments as in `router.route`. With a `norm`, x is the residual stream; blocks read it while
    others write, hence the sum goes to a place of its own.
    """
    tokens, width = x.shape
    experts = weight.shape[0]
    assert experts % TILE == 0, experts
    assert norm is None or norm.summed.data_ptr() != x.data_ptr()
    splits = routing.partial.shape[0]
    step = next(step for step in (128, 64, 32, 16, 8) if width // splits % step == 0)
    extra = (x,) * 4 if norm is None else (norm.add, norm.gamma, norm.summed, norm.scaled)
    _product[triton.cdiv(tokens, TILE), experts // TILE, splits](
        x, extra[0], extra[1], weight, extra[2], extra[3], routing.squares, routing.partial,
        tokens, D=width, E=experts, SPLITS=splits, BLOCK_T=TILE, ROWS=TILE, BLOCK_D=step,
        NORM=norm is not None, **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip
    tensors, constants = choice_of(routing, rule, correction, declared, listed=True)
    _choose_token[tokens,](
        x if bias is None else bias, routing.partial, routing.squares, routing.scale,
        0.0 if norm is None else norm.eps, tokens, *tensors, **constants, D=width, SPLITS=splits,
        BIAS=bias is not None, NORM=norm is not None, **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip
