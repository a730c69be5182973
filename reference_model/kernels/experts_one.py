"""Expert products of one token: no matrix unit, no lists, all weights asked for at once.

With one token each expert's weights are used by one vector, so a block holds a few rows whole in
registers and nothing waits for anything but memory. `down` sums the token's k experts by itself,
and so also the weighted sum and the residual add are in it; since the chosen experts are known two
kernels earlier, its weights are asked for before the previous kernel has finished. Weights are used
once and leave the L2 first.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.activation import gated
from reference_model.kernels.launch import block_of, launch_options, wait_for_previous
from reference_model.kernels.norm import normalised
from reference_model.kernels.routing import Routing

WIDE = 2048  # elements of an expert's width from which four warps share a row of down


@triton.jit
def _gate_up_one(
    x, weight, bias, gamma, eps, hidden, ids,
    D: tl.constexpr, WIDTH: tl.constexpr, TOP_K: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, ACTIVATION: tl.constexpr, BIAS: tl.constexpr, NORM: tl.constexpr,
    CHOSEN: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """ROWS columns of one pair's hidden vector."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    pair = tl.program_id(1)
    offsets = tl.arange(0, BLOCK)
    inside = offsets < D
    wait_for_previous(PDL)
    expert = pair.to(tl.int64) * 0
    if CHOSEN:
        expert = tl.load(ids + pair).to(tl.int64)
    first = weight + expert * (2 * WIDTH * D)  # 64 bits once, 32 for what is added to it
    at = rows[:, None] * D + offsets[None, :]
    gates = tl.load(first + at, mask=inside[None, :], other=0.0, eviction_policy="evict_first").to(
        tl.float32
    )
    ups = tl.load(
        first + WIDTH * D + at, mask=inside[None, :], other=0.0, eviction_policy="evict_first"
    ).to(tl.float32)
    a = tl.load(x + pair // TOP_K * D + offsets, mask=inside, other=0.0).to(tl.float32)
    if NORM:
        a = normalised(a, gamma, offsets, inside, eps, D)
    gate = tl.sum(gates * a[None, :], 1)
    up = tl.sum(ups * a[None, :], 1)
    if BIAS:
        gate += tl.load(bias + expert * (2 * WIDTH) + rows).to(tl.float32)
        up += tl.load(bias + expert * (2 * WIDTH) + WIDTH + rows).to(tl.float32)
    tl.store(hidden + pair * WIDTH + rows, gated(gate, up, ACTIVATION).to(hidden.dtype.element_ty))


@triton.jit
def _down_one(
    hidden, weight, bias, weights, ids, residual, out,
    D: tl.constexpr, WIDTH: tl.constexpr, TOP_K: tl.constexpr, BLOCK_K: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """ROWS columns of one token's output, over all its experts."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = tl.program_id(1)
    offsets = tl.arange(0, BLOCK)
    inside = offsets < WIDTH
    choice = tl.arange(0, BLOCK_K)
    real = choice < TOP_K
    pair = token * TOP_K + choice
    expert = tl.load(ids + pair, mask=real, other=0).to(tl.int64)
    first = (weight + expert * (D * WIDTH))[:, None, None]
    at = rows[None, :, None] * WIDTH + offsets[None, None, :]
    loaded = real[:, None, None] & inside[None, None, :]
    w = tl.load(first + at, mask=loaded, other=0.0, eviction_policy="evict_first")
    share = tl.load(weights + pair, mask=real, other=0.0)
    wait_for_previous(PDL)
    a = tl.load(
        hidden + pair[:, None] * WIDTH + offsets[None, :],
        mask=real[:, None] & inside[None, :],
        other=0.0,
    )
    a = a.to(tl.float32) * share[:, None]
    y = tl.sum(tl.sum(w.to(tl.float32) * a[:, None, :], 2), 0)
    if BIAS:
        by_expert = tl.load(
            bias + expert[:, None] * D + rows[None, :], mask=real[:, None], other=0.0
        )
        y += tl.sum(by_expert.to(tl.float32) * share[:, None], 0)
    if RESIDUAL:
        y += tl.load(residual + token * D + rows).to(tl.float32)
    tl.store(out + token * D + rows, y.to(out.dtype.element_ty))


def gate_up_one(
    x: Tensor,
    weight: Tensor,
    hidden: Tensor,
    routing: Routing | None,
    *,
    bias: Tensor | None = None,
    activation: str = "silu",
    gamma: Tensor | None = None,
    eps: float = 1e-6,
    rows: int = 1,
    warps: int = 1,
    pdl: bool = False,
) -> None:
    """Multiply x [T, D], normed by `gamma` if given, by the experts' [E, 2 I, D]: hidden [T k, I].

    Correct for any T, fast for one token: no pair shares its weights with another. Without a
    routing the weight is one expert's [2 I, D] that all tokens use, and hidden is [T, I].
    """
    d, width = x.shape[1], hidden.shape[1]
    assert width % rows == 0, (width, rows)
    ids = None if routing is None else routing.ids
    _gate_up_one[width // rows, hidden.shape[0]](
        x, weight, x if bias is None else bias, x if gamma is None else gamma, eps, hidden,
        x if ids is None else ids, D=d, WIDTH=width,
        TOP_K=1 if ids is None else ids.shape[1], ROWS=rows, BLOCK=block_of(d),
        ACTIVATION=activation, BIAS=bias is not None, NORM=gamma is not None,
        CHOSEN=ids is not None,
        **launch_options(pdl=pdl, warps=warps),
    )  # fmt: skip


def down_one(
    hidden: Tensor,
    weight: Tensor,
    out: Tensor,
    routing: Routing,
    *,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    rows: int = 1,
    warps: int | None = None,
    pdl: bool = False,
) -> None:
    """Multiply hidden [T k, I] by the experts' [E, D, I] and sum by weight: out [T, D].

    `residual` [T, D] is added and may be `out` itself.
    """
    d, width = weight.shape[1:]
    warps = warps or (4 if width >= WIDE else 2)
    top_k = routing.ids.shape[1]
    assert d % rows == 0, (d, rows)
    _down_one[d // rows, out.shape[0]](
        hidden, weight, hidden if bias is None else bias, routing.weights, routing.ids,
        out if residual is None else residual, out, D=d, WIDTH=width, TOP_K=top_k,
        BLOCK_K=block_of(top_k), ROWS=rows, BLOCK=block_of(width), BIAS=bias is not None,
        RESIDUAL=residual is not None, **launch_options(pdl=pdl, warps=warps),
    )  # fmt: skip
