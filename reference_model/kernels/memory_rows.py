"""The rows that a memory layer reads: each value weighed by its score and its pre-value's dot.

Pre-value and value of a row stand at the same place of two tables, and both are asked for before
the first of them is used. A block takes all columns of a few rows: with the columns among blocks,
each would need the dot products for itself. The rows of a token are dealt out to several blocks
where there are few tokens; each leaves its float32 sum, and the last to arrive adds the sums in
their order, so that the result has the same bits every time.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.activation import gelu
from reference_model.kernels.launch import block_of, launch_options, wait_for_previous
from reference_model.kernels.memory import TOGETHER, MemoryBuffers, MemorySizes, MemoryWeights

WIDE = 1536  # elements of a row, in all tables, from which several warps hold a few rows
BROAD = 1024  # from which two hold them while tokens are few
FEW_TOKENS = 16


@triton.jit
def weighted_rows(
    token, begin, end, x, rows, weights, pre_values, values, offset, table,
    X_WIDTH: tl.constexpr, DP: tl.constexpr, DV: tl.constexpr, READS: tl.constexpr,
    CORES: tl.constexpr, EXPANSION: tl.constexpr, SUMS: tl.constexpr, NEURONS: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_G: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """The sum [BLOCK_G, BLOCK_V] of a token's rows from place `begin` to before `end`.

    A virtual row v lies at row v // EXPANSION of the window. With as many SUMS it is added to sum
    v % EXPANSION, else to the only one. NEURONS have an activation behind the dot product.
    """
    member = tl.arange(0, TOGETHER)
    pre = tl.arange(0, BLOCK_P)
    column = tl.arange(0, BLOCK_V)
    number = tl.arange(0, BLOCK_G)
    core_of = column // (DV // CORES)
    total = tl.zeros((BLOCK_G, BLOCK_V), tl.float32)
    own = tl.zeros((BLOCK_P,), tl.float32)
    if DP > 0:
        own += tl.load(x + token * X_WIDTH + (X_WIDTH - DP) + pre, mask=pre < DP, other=0.0)
    for start in range(begin, end, TOGETHER):
        place = start + member
        real = place < end
        at = token * READS + place
        virtual = tl.load(rows + at, mask=real, other=0, cache_modifier=".cg")
        row = virtual // EXPANSION + offset
        row = tl.where(row >= table, row - table, row).to(tl.int64)[:, None]
        read = real[:, None] & (column < DV)[None, :]
        value = tl.load(values + row * DV + column[None, :], mask=read, other=0.0)
        dot = tl.full((TOGETHER,), 1.0, tl.float32)
        if DP > 0:
            read = real[:, None] & (pre < DP)[None, :]
            key = tl.load(pre_values + row * DP + pre[None, :], mask=read, other=0.0)
            dot = tl.sum(key.to(tl.float32) * own[None, :], 1)
        if NEURONS:
            dot = gelu(dot)
        share = tl.zeros((TOGETHER, BLOCK_V), tl.float32)
        for core in tl.static_range(CORES):
            spot = weights + at * CORES + core
            weight = dot * tl.load(spot, mask=real, other=0.0, cache_modifier=".cg")
            share = tl.where((core_of == core)[None, :], weight[:, None], share)
        weighed = value.to(tl.float32) * share
        if SUMS == 1:
            total += tl.sum(weighed, 0)[None, :]
        else:
            alike = (virtual % EXPANSION)[:, None] == number[None, :]
            total += tl.sum(tl.where(alike[:, :, None], weighed[:, None, :], 0.0), 0)
    return total


@triton.jit
def store_sum(
    total, to, gate, DV: tl.constexpr, SUMS: tl.constexpr, BLOCK_V: tl.constexpr,
    BLOCK_G: tl.constexpr, GATED: tl.constexpr, ADDED: tl.constexpr,
):  # fmt: skip
    """Write a sum [BLOCK_G, BLOCK_V] to the g Dv elements from `to` on, or add it to them.

    SiLU of the Dv elements from `gate` on multiplies it where it is GATED.
    """
    column = tl.arange(0, BLOCK_V)[None, :]
    number = tl.arange(0, BLOCK_G)[:, None]
    inside = (number < SUMS) & (column < DV)
    if GATED:
        opened = tl.load(gate + column, mask=column < DV, other=0.0).to(tl.float32)
        total *= opened * tl.sigmoid(opened)
    if ADDED:
        total += tl.load(to + number * DV + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(to + number * DV + column, total.to(to.dtype.element_ty), mask=inside)


@triton.jit
def _sum_rows(
    out, partial, arrived,
    projected, x, rows, weights, pre_values, values, offset, table,
    WIDTH: tl.constexpr, X_WIDTH: tl.constexpr, DP: tl.constexpr, DV: tl.constexpr,
    READS: tl.constexpr, CORES: tl.constexpr, EXPANSION: tl.constexpr, SUMS: tl.constexpr,
    NEURONS: tl.constexpr, GATED: tl.constexpr, ADDED: tl.constexpr, BLOCK_P: tl.constexpr,
    BLOCK_V: tl.constexpr, BLOCK_G: tl.constexpr, TOGETHER: tl.constexpr, SLICES: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """One slice of a token's rows; the last of the token's slices to arrive adds all."""
    token = tl.program_id(0).to(tl.int64)
    piece = tl.program_id(1)
    SLICE: tl.constexpr = (READS + SLICES - 1) // SLICES
    wait_for_previous(PDL)
    total = weighted_rows(
        token, piece * SLICE, tl.minimum((piece + 1) * SLICE, READS), x, rows, weights,
        pre_values, values, offset, table,
        X_WIDTH, DP, DV, READS, CORES, EXPANSION, SUMS, NEURONS, BLOCK_P, BLOCK_V, BLOCK_G,
        TOGETHER,
    )  # fmt: skip
    gate = projected + token * WIDTH + (WIDTH - DV)
    SUM: tl.constexpr = SUMS * DV
    if SLICES == 1:
        store_sum(total, out + token * SUM, gate, DV, SUMS, BLOCK_V, BLOCK_G, GATED, ADDED)
    else:
        first = partial + token * (SLICES * SUM)
        store_sum(
            total, first + piece * SUM, gate, DV, SUMS, BLOCK_V, BLOCK_G, GATED=False, ADDED=False
        )
        tl.debug_barrier()
        if tl.atomic_add(arrived + token, 1, sem="acq_rel") == SLICES - 1:
            tl.store(arrived + token, 0)
            column = tl.arange(0, BLOCK_V)[None, :]
            number = tl.arange(0, BLOCK_G)[:, None]
            spot = number * DV + column
            inside = (number < SUMS) & (column < DV)
            total = tl.zeros((BLOCK_G, BLOCK_V), tl.float32)
            for other in tl.static_range(SLICES):
                total += tl.load(
                    first + other * SUM + spot, mask=inside, other=0.0, cache_modifier=".cg"
                )
            store_sum(total, out + token * SUM, gate, DV, SUMS, BLOCK_V, BLOCK_G, GATED, ADDED)


def row_arguments(
    projected: Tensor,
    x: Tensor | None,
    sizes: MemorySizes,
    weights: MemoryWeights,
    buffers: MemoryBuffers,
) -> tuple[tuple[Any, ...], dict[str, int]]:
    """The projection and what `weighted_rows` takes behind a token's places; constants by name."""
    pre = sizes.pre_value_dim or 0
    spare = weights.values
    x = projected if x is None else x
    tensors = (
        projected,
        x,
        buffers.rows,
        buffers.weights,
        spare if weights.pre_values is None else weights.pre_values,
        weights.values,
        weights.offset,
        weights.values.shape[0],
    )
    constants = {
        "WIDTH": projected.shape[1],
        "X_WIDTH": x.shape[1],
        "DP": pre,
        "DV": sizes.value_dim,
        "READS": sizes.heads * sizes.reads,
        "CORES": sizes.cores,
        "EXPANSION": sizes.expansion,
        "SUMS": sizes.sums,
        "NEURONS": sizes.neurons,
        "GATED": sizes.gated,
        "BLOCK_P": block_of(pre) if pre else 1,
        "BLOCK_V": block_of(sizes.value_dim),
        "BLOCK_G": block_of(sizes.sums),
        "TOGETHER": TOGETHER,
    }
    return tensors, constants


def _usual_warps(width: int, sums: int, tokens: int) -> int:
    """What was fastest on an H200; one warp cannot hold wide rows, nor several sums."""
    if sums > 1 or width > WIDE:
        return 4
    return 2 if width > BROAD and tokens <= FEW_TOKENS else 1


def sum_rows(
    projected: Tensor,
    sizes: MemorySizes,
    weights: MemoryWeights,
    buffers: MemoryBuffers,
    out: Tensor,
    *,
    x: Tensor | None = None,
    added: bool = False,
    warps: int | None = None,
    pdl: bool = False,
) -> None:
    """Sum the chosen rows by their weights, into out [T, g Dv]; or add the sum to it.

    `x` [T, .. + Dp], or without it projected, ends with what pre-values are multiplied by.
    """
    tokens, slices = buffers.partial.shape[:2]
    arguments, constants = row_arguments(projected, x, sizes, weights, buffers)
    width = constants["BLOCK_P"] + constants["BLOCK_V"]
    warps = warps or _usual_warps(width, sizes.sums, tokens)
    _sum_rows[tokens, slices](
        out, buffers.partial, buffers.arrived, *arguments, **constants, ADDED=added, SLICES=slices,
        **launch_options(pdl=pdl, warps=warps),
    )  # fmt: skip
