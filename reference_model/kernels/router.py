"""The router: its product, then scores, top-k and the experts' lists, in one launch or two.

"token": a group of blocks works for one token; each multiplies a few experts' rows by it, without
the matrix unit. A counter tells which block of a token arrives last; it sees the others' logits
(acquire and release order) and decides (`choose`). It sets the counter back to zero.

"two": a block takes a tile of 16 tokens, 16 experts and a slice of D on the matrix unit, so that
tokens share the router's weights; in a second launch each token adds its slices and decides by
itself. From 64 tokens on this is faster than any one launch that was tried.
"""

from typing import Literal

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.choose import choose
from reference_model.kernels.launch import block_of, launch_options, wait_for_previous
from reference_model.kernels.norm import normalised
from reference_model.kernels.routing import TILE, RouterRule, Routing

Way = Literal["token", "two"]

FEW = 32  # experts up to which a token of its own blocks pays for longer
WIDE = 4096  # pairs of experts that one chunk of comparisons may hold, for one token


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
            token, T, logits, correction, declared, scratch, ids, weights, slots, counts, lists, items,
            E, TOP_K, GROUPS, KEPT, GROUP_EXPERTS, SCORING, NORMALISED, CORRECTED, DECLARED,
            LISTED, ITEM_TOKENS,
            1, BLOCK_E, CHUNK,
        )  # fmt: skip


@triton.jit
def _logits_of(
    partial, bias, logits, first, T,
    E: tl.constexpr, SPLITS: tl.constexpr, BIAS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """The slices' sum, with the bias, in memory for this block."""
    token = first + tl.arange(0, BLOCK_T)
    expert = tl.arange(0, BLOCK_E)
    there = (token < T)[:, None] & (expert < E)[None, :]
    logit = tl.zeros((BLOCK_T, BLOCK_E), tl.float32)
    for split in tl.static_range(SPLITS):
        at = (split * T + token[:, None]) * E + expert[None, :]
        logit += tl.load(partial + at, mask=there, other=0.0, cache_modifier=".cg")
    if BIAS:
        logit += tl.load(bias + expert, mask=expert < E, other=0.0).to(tl.float32)[None, :]
    tl.store(logits + token[:, None] * E + expert[None, :], logit, mask=there)
    tl.debug_barrier()


@triton.jit
def _product(
    x, weight, partial, T,
    D: tl.constexpr, E: tl.constexpr, SPLITS: tl.constexpr, BLOCK_T: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_D: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Logits of a tile of tokens, ROWS experts, one slice of D."""
    tile = tl.program_id(0)
    split = tl.program_id(2)
    token = tile * BLOCK_T + tl.arange(0, BLOCK_T)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    real = token < T
    SLICE: tl.constexpr = D // SPLITS
    total = tl.zeros((BLOCK_T, ROWS), tl.float32)
    wait_for_previous(PDL)
    for start in range(0, SLICE, BLOCK_D):
        at = split * SLICE + start + tl.arange(0, BLOCK_D)
        a = tl.load(x + token[:, None] * D + at[None, :], mask=real[:, None], other=0.0)
        w = tl.load(weight + rows[:, None] * D + at[None, :])
        total = tl.dot(a, w.T, total, input_precision="ieee")
    to = (split * T + token[:, None]) * E + rows[None, :]
    tl.store(partial + to, total, mask=real[:, None])


@triton.jit
def _choose_token(
    bias, partial, T,
    logits, correction, declared, scratch, ids, weights, slots, counts, lists, items,
    SPLITS: tl.constexpr, BIAS: tl.constexpr,
    E: tl.constexpr, TOP_K: tl.constexpr, GROUPS: tl.constexpr, KEPT: tl.constexpr,
    GROUP_EXPERTS: tl.constexpr, SCORING: tl.constexpr, NORMALISED: tl.constexpr,
    CORRECTED: tl.constexpr, DECLARED: tl.constexpr, LISTED: tl.constexpr,
    ITEM_TOKENS: tl.constexpr,
    BLOCK_E: tl.constexpr, CHUNK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One token of a product whose slices are done."""
    token = tl.program_id(0)
    wait_for_previous(PDL)
    _logits_of(partial, bias, logits, token, T, E, SPLITS, BIAS, 1, BLOCK_E)
    choose(
        token, T, logits, correction, declared, scratch, ids, weights, slots, counts, lists, items,
        E, TOP_K, GROUPS, KEPT, GROUP_EXPERTS, SCORING, NORMALISED, CORRECTED, DECLARED,
            LISTED, ITEM_TOKENS,
        1, BLOCK_E, CHUNK,
    )  # fmt: skip


def splits_of(width: int) -> int:
    """Slices of D that a tiled router's blocks share: each a multiple of 64 elements."""
    return next(splits for splits in range(9, 0, -1) if width % (64 * splits) == 0 or splits == 1)


def usual_way(tokens: int, experts: int) -> Way:
    """The fastest way on an H200, as measured for 32, 64 and 128 experts."""
    return "token" if tokens <= (16 if experts > FEW else 64) else "two"


def route(
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
    way: Way | None = None,
    rows: int = 8,
    listed: bool = True,
    pdl: bool = False,
) -> None:
    """x [T, D] and the router's weight [E, D] to the choices in `routing`, whose counts are zero.

    `bias` [E] is added to the logits, `correction` [E] to the scores that rank but not to the
    weights. `declared` [T, E] ranks in place of the scores: a routing that is given. With `gamma`
    the RMSNorm of x is taken first, by the way "token" only. `normed` [T, D] then keeps it for the
    experts. `rows` are experts a block there. Without `listed` no lists are made: `experts_one`
    needs none.
    """
    tokens, width = x.shape
    experts = weight.shape[0]
    choice = (
        routing.logits,
        x if correction is None else correction,
        x if declared is None else declared,
        routing.scratch,
        routing.ids,
        routing.weights,
        routing.slots,
        routing.counts,
        routing.lists,
        routing.items,
    )
    shared = {
        "BIAS": bias is not None,
        "E": experts,
        "TOP_K": rule.top_k,
        "GROUPS": rule.groups,
        "KEPT": rule.kept_groups,
        "GROUP_EXPERTS": rule.group_score_experts,
        "SCORING": rule.scoring,
        "NORMALISED": rule.normalised,
        "CORRECTED": correction is not None,
        "DECLARED": declared is not None,
        "LISTED": listed,
        "ITEM_TOKENS": routing.item_tokens,
        "BLOCK_E": block_of(experts),
    }
    bias = x if bias is None else bias
    if way is None:
        way = "token" if gamma is not None else usual_way(tokens, experts)
    wide = max(1, min(block_of(experts), WIDE // block_of(experts)))
    if way == "token":
        _route_token[experts // rows, tokens](
            x, weight, bias, x if gamma is None else gamma, eps, tokens, routing.arrived,
            x if normed is None else normed, *choice, **shared, D=width, ROWS=rows,
            BLOCK_D=block_of(width), NORM=gamma is not None, KEEP=normed is not None, CHUNK=wide,
            **launch_options(pdl=pdl, warps=4),
        )  # fmt: skip
        return
    assert gamma is None
    splits = routing.partial.shape[0]
    step = next(step for step in (128, 64, 32, 16) if width // splits % step == 0)
    _product[triton.cdiv(tokens, TILE), experts // TILE, splits](
        x, weight, routing.partial, tokens, D=width, E=experts, SPLITS=splits, BLOCK_T=TILE,
        ROWS=TILE, BLOCK_D=step, **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip
    _choose_token[tokens,](
        bias, routing.partial, tokens, *choice, **shared, SPLITS=splits, CHUNK=wide,
        **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip
