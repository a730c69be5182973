"""Top-k of a router's scores: an expert's rank is the number of experts that beat it.

`choose` is the tail of the router kernels, for BLOCK_T tokens with their logits in memory. Expert e
beats f if its score is higher, or equal and e < f; a NaN counts as plus infinity. This is a total
order, so ranks are a permutation of 0 .. E - 1: whatever the logits hold, every one of the k places
is written once, with an index inside the table. (An argmax repeated k times over floats gives
numbers outside of it once NaN comes, and reads wild addresses.)

All pairs of experts are compared, CHUNK experts at a time with all, and counted: one reduction a
chunk. This is for one token a block; for a tile of 16 tokens it is too many pairs (36 us were
measured where 8 are needed), and repeating the maximum k times in one block took longer than a
launch of its own with a block a token.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import block_of
from reference_model.kernels.routing import RouterRule, Routing

WIDE = 4096  # pairs of experts that one chunk of comparisons may hold


@triton.jit
def _key(score):
    return tl.where(score != score, float("inf"), score)  # noqa: PLR0124 - true of NaN alone


@triton.jit
def _count(
    scores,
    mine,
    rows,
    real,
    E: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
    CHUNK: tl.constexpr,
    SIZE: tl.constexpr,
    STEP: tl.constexpr,
):
    """How many of the scores [T, E] in memory beat each of `mine` [BLOCK_T, BLOCK_E].

    Only experts of the same group of SIZE count; with a STEP above one, only every STEP-th expert,
    one for each group then, since all experts of a group hold the group's score.
    """
    expert = tl.arange(0, BLOCK_E)[None, :, None]
    rank = tl.zeros((BLOCK_T, BLOCK_E), tl.int32)
    for start in tl.static_range(0, E, CHUNK):
        other = start + tl.arange(0, CHUNK)
        inside = other < E
        theirs = tl.load(
            scores + rows[:, None] * E + other[None, :],
            mask=real[:, None] & inside[None, :],
            other=0.0,
            cache_modifier=".cg",
        )
        theirs = _key(theirs)[:, None, :]
        other = other[None, None, :]
        beats = (theirs > mine[:, :, None]) | ((theirs == mine[:, :, None]) & (other < expert))
        if SIZE < E:
            beats = beats & (other // SIZE == expert // SIZE)
        if STEP > 1:
            beats = beats & (other % STEP == 0) & (other // STEP != expert // STEP)
        beats = beats & inside[None, None, :]
        rank += tl.sum(beats.to(tl.int32), 2)
    return rank


@triton.jit
def _group_scores(
    contribution,
    rows,
    real,
    E: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
    CHUNK: tl.constexpr,
    SIZE: tl.constexpr,
):
    """The sum over each expert's group of SIZE of the contributions [T, E] in memory."""
    expert = tl.arange(0, BLOCK_E)[None, :, None]
    total = tl.zeros((BLOCK_T, BLOCK_E), tl.float32)
    for start in tl.static_range(0, E, CHUNK):
        other = start + tl.arange(0, CHUNK)
        theirs = tl.load(
            contribution + rows[:, None] * E + other[None, :],
            mask=real[:, None] & (other < E)[None, :],
            other=0.0,
            cache_modifier=".cg",
        )
        alike = other[None, None, :] // SIZE == expert // SIZE
        total += tl.sum(tl.where(alike, theirs[:, None, :], 0.0), 2)
    return total


@triton.jit
def choose(  # noqa: C901, PLR0912, PLR0915 - branches on constants, which do not exist at run time
    first,
    T,
    logits,
    correction,
    declared,
    scratch,
    ids,
    weights,
    slots,
    counts,
    lists,
    items,
    E: tl.constexpr,
    TOP_K: tl.constexpr,
    GROUPS: tl.constexpr,
    KEPT: tl.constexpr,
    GROUP_EXPERTS: tl.constexpr,
    SCORING: tl.constexpr,
    NORMALISED: tl.constexpr,
    CORRECTED: tl.constexpr,
    DECLARED: tl.constexpr,
    LISTED: tl.constexpr,
    ITEM_TOKENS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_E: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Scores, ranks, weights and lists of tokens first .. first + BLOCK_T - 1, of logits [T, E]."""
    rows = first + tl.arange(0, BLOCK_T)
    expert = tl.arange(0, BLOCK_E)
    real = rows < T
    there = real[:, None] & (expert < E)[None, :]
    at = rows[:, None] * E + expert[None, :]
    x = tl.load(logits + at, mask=there, other=float("-inf"), cache_modifier=".cg")
    if SCORING == "sigmoid":  # noqa: SIM108 - a constant
        score = tl.sigmoid(x)
    else:
        score = tl.exp(x - tl.max(x, 1)[:, None])
    source = logits  # softmax keeps the order of the logits: rank those
    key = x
    if SCORING == "sigmoid" or CORRECTED or GROUPS > 1:
        source = scratch
        if SCORING == "sigmoid":
            key = score
        if SCORING == "softmax":  # a correction is added to probabilities, not to logits
            key = score / tl.sum(tl.where(there, score, 0.0), 1)[:, None]
        if CORRECTED:
            fix = tl.load(correction + expert, mask=expert < E, other=0.0)
            key += fix.to(tl.float32)[None, :]
        tl.store(scratch + at, key, mask=there)
        tl.debug_barrier()
    if GROUPS > 1:
        SIZE: tl.constexpr = E // GROUPS
        groups = scratch + T * E
        inner = _count(scratch, _key(key), rows, real, E, BLOCK_T, BLOCK_E, CHUNK, SIZE, 1)
        tl.store(groups + at, tl.where(inner < GROUP_EXPERTS, _key(key), 0.0), mask=there)
        tl.debug_barrier()
        total = _group_scores(groups, rows, real, E, BLOCK_T, BLOCK_E, CHUNK, SIZE)
        tl.debug_barrier()
        tl.store(groups + at, total, mask=there)
        tl.debug_barrier()
        better = _count(groups, _key(total), rows, real, E, BLOCK_T, BLOCK_E, CHUNK, E, SIZE)
        key = tl.where(better < KEPT, key, float("-inf"))
        tl.debug_barrier()
        tl.store(scratch + at, key, mask=there)
        tl.debug_barrier()
    if DECLARED:
        source = declared
        key = tl.load(declared + at, mask=there, other=float("-inf"))
    rank = _count(source, _key(key), rows, real, E, BLOCK_T, BLOCK_E, CHUNK, E, 1)
    chosen = there & (rank < TOP_K)
    if NORMALISED or SCORING == "softmax_of_chosen":
        weight = score / tl.sum(tl.where(chosen, score, 0.0), 1)[:, None]
    elif SCORING == "softmax":
        weight = score / tl.sum(tl.where(there, score, 0.0), 1)[:, None]
    else:
        weight = score
    pair = rows[:, None] * TOP_K + rank
    number = tl.broadcast_to(expert[None, :], (BLOCK_T, BLOCK_E))
    tl.store(ids + pair, number, mask=chosen)
    tl.store(weights + pair, weight, mask=chosen)
    if LISTED:
        slot = tl.atomic_add(counts + number, 1, mask=chosen, sem="relaxed")
        tl.store(slots + pair, slot, mask=chosen)
        tl.store(lists + number * T + slot, pair, mask=chosen)
        if ITEM_TOKENS > 0:  # the pair that begins a tile of its expert's list notes the tile
            begins = chosen & (slot % ITEM_TOKENS == 0)
            item = tl.atomic_add(counts + E + number * 0, 1, mask=begins, sem="relaxed")
            tl.store(items + item, number * 65536 + slot // ITEM_TOKENS, mask=begins)


def choice_of(
    routing: Routing,
    rule: RouterRule,
    correction: Tensor | None,
    declared: Tensor | None,
    *,
    listed: bool,
) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """What a router kernel passes on to `choose`: tensors in its order, and constants by name."""
    spare = routing.logits
    tensors = (
        routing.logits,
        spare if correction is None else correction,
        spare if declared is None else declared,
        routing.scratch,
        routing.ids,
        routing.weights,
        routing.slots,
        routing.counts,
        routing.lists,
        routing.items,
    )
    experts = routing.logits.shape[1]
    block = block_of(experts)
    constants = {
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
        "BLOCK_E": block,
        "CHUNK": max(1, min(block, WIDE // block)),
    }
    return tensors, constants
