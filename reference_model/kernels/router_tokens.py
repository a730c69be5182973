"""The router of few tokens: product, scores, top-k and lists in one launch, blocks for each token.

Each block multiplies a few experts' rows by its token, without the matrix unit. A counter tells
which block of a token arrives last; it sees the others' logits (acquire and release order) and
decides (`choose`). It sets the counter back to zero.
"""

from math import gcd

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.choose import choice_of, choose
from reference_model.kernels.launch import block_of, launch_options, wait_for_previous
from reference_model.kernels.norm import normalised
from reference_model.kernels.routing import RouterRule, Routing

EXPERTS = 8  # that a block multiplies, where their number allows


@triton.jit
def _route_token(
    x, weight, bias, gamma, eps, T, arrived,
    normed,
    logits, correction, declared, scratch, ids, weights, slots, counts, lists, items,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
    NORM: tl.constexpr, BIAS: tl.constexpr, KEEP: tl.constexpr,
    E: tl.constexpr, TOP_K: tl.constexpr, GROUPS: tl.constexpr, KEPT: tl.constexpr,
    GROUP_EXPERTS: tl.constexpr, SCORING: tl.constexpr, NORMALISED: tl.constexpr,
    CORRECTED: tl.constexpr, DECLARED: tl.constexpr, LISTED: tl.constexpr,
    ITEM_TOKENS: tl.constexpr,
    BLOCK_E: tl.constexpr, CHUNK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """ROWS experts of one token; the last block of the token chooses."""
    token = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    offsets = tl.arange(0, BLOCK_D)
    inside = offsets < D
    w = tl.load(weight + rows[:, None] * D + offsets[None, :], mask=inside[None, :], other=0.0)
    wait_for_previous(PDL)
    a = tl.load(x + token * D + offsets, mask=inside, other=0.0).to(tl.float32)
    if NORM:
        a = normalised(a, gamma, offsets, inside, eps, D)
        if KEEP and tl.program_id(0) == 0:
            tl.store(normed + token * D + offsets, a.to(normed.dtype.element_ty), mask=inside)
    logit = tl.sum(w.to(tl.float32) * a[None, :], 1)
    if BIAS:
        logit += tl.load(bias + rows).to(tl.float32)
    tl.store(logits + token * E + rows, logit)
    tl.debug_barrier()
    last = tl.num_programs(0) - 1
    if tl.atomic_add(arrived + token, 1, sem="acq_rel") == last:
        tl.store(arrived + token, 0)
        choose(
            token, T, logits, correction, declared, scratch, ids, weights, slots, counts, lists,
            items,
            E, TOP_K, GROUPS, KEPT, GROUP_EXPERTS, SCORING, NORMALISED, CORRECTED, DECLARED,
            LISTED, ITEM_TOKENS,
            1, BLOCK_E, CHUNK,
        )  # fmt: skip


def route_tokens(
    x: Tensor,
    weight: Tensor,
    routing: Routing,
    rule: RouterRule,
    *,
    bias: Tensor | None = None,
    correction: Tensor | None = None,
    declared: Tensor | None = None,
    gamma: Tensor | None = None,
    normed: Tensor | None = None,
    eps: float = 1e-6,
    rows: int | None = None,
    listed: bool = True,
    pdl: bool = False,
) -> None:
    """Choose experts for x [T, D] by the router's weight [E, D], into a routing of zero counts.

    Arguments as in `router.route`. With `gamma` the RMSNorm of x is taken first; `normed` [T, D]
    then keeps it for the experts. `rows` are experts a block. Without `listed` no lists are made:
    `experts_one` needs none.
    """
    tokens, width = x.shape
    experts = weight.shape[0]
    rows = rows or gcd(experts, EXPERTS)
    tensors, constants = choice_of(routing, rule, correction, declared, listed=listed)
    _route_token[experts // rows, tokens](
        x, weight, x if bias is None else bias, x if gamma is None else gamma, eps, tokens,
        routing.arrived, x if normed is None else normed, *tensors, **constants, D=width,
        ROWS=rows, BLOCK_D=block_of(width), BIAS=bias is not None, NORM=gamma is not None,
        KEEP=normed is not None, **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip
