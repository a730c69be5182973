"""The m best points of a memory layer's grid of f lines and f columns, and the rows they stand for.

A point's score is the line's r scores times a core times the column's r scores, summed over the
cores: the grid needs the summed core alone, r multiply-adds a point, and the scores by core are
computed for the m chosen. All f^2 points are compared: Tucker scores do not fall along lines and
columns, so that none can be left out by its place. With product keys a point's score is the sum of
its line's and its column's, and the softmax over the m chosen makes weights of them. The grid is as
wide as its padding to a power of two; padding is no score. Of many tokens a large grid is not held
at once (`memory_points`).

One block has one token and head. Where one head reads few rows, it goes on to read and sum them
(`memory_rows`), which saves a launch.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import block_of, launch_options, wait_for_previous
from reference_model.kernels.memory import MemoryBuffers, MemorySizes, MemoryWeights
from reference_model.kernels.memory_points import best_points, point_constants, scores_at
from reference_model.kernels.memory_rows import row_arguments, store_sum, weighted_rows
from reference_model.kernels.top import key_of, top, top_constants

FEW = 32  # rows of one head that its block reads by itself
WIDE = 4096  # points of a grid from which more warps share it
MANY = 128  # tokens from which fewer warps share a small one


@triton.jit
def _store_weights(
    to, sides, cores, line, column, head, i, j, best,
    HEADS: tl.constexpr, RANKS: tl.constexpr, CORES: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """The weights of the points (i, j) that are best: scores by core, or the softmax, to `to`."""
    if CORES == 0:
        left = tl.load(sides + line * KEPT + i, mask=best, other=0.0)
        score = left + tl.load(sides + column * KEPT + j, mask=best, other=0.0)
        power = tl.exp(score - tl.max(tl.where(best, score, -float("inf")), 0))
        power = tl.where(best, power, 0.0)
        tl.store(to, power / tl.sum(power, 0), mask=best)
    for core in tl.static_range(CORES):
        weight = tl.zeros_like(i).to(tl.float32)
        for a in tl.static_range(RANKS):
            left = tl.load(sides + (line * RANKS + a) * KEPT + i, mask=best, other=0.0)
            for b in tl.static_range(RANKS):
                right = tl.load(sides + (column * RANKS + b) * KEPT + j, mask=best, other=0.0)
                at = ((core * HEADS + head) * RANKS + a) * RANKS + b
                weight += left * tl.load(cores + at).to(tl.float32) * right
        tl.store(to + core, weight, mask=best)


@triton.jit
def _choose_rows(
    places, sides, cores, permutation, declared, selected, room, out,
    projected, x, rows, weights, pre_values, values, offset, table,
    HEADS: tl.constexpr, RANKS: tl.constexpr, GRID_CORES: tl.constexpr, KEYS: tl.constexpr,
    KEPT: tl.constexpr, SIDE: tl.constexpr, OWN_ROWS: tl.constexpr, DECLARED: tl.constexpr,
    SUMMED: tl.constexpr,
    M: tl.constexpr, MOST: tl.constexpr, GROUPS: tl.constexpr, CHUNK: tl.constexpr,
    UNROLL: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr, CORNER: tl.constexpr,
    LINES: tl.constexpr,
    WIDTH: tl.constexpr, X_WIDTH: tl.constexpr, DP: tl.constexpr, DV: tl.constexpr,
    READS: tl.constexpr, CORES: tl.constexpr, EXPANSION: tl.constexpr, SUMS: tl.constexpr,
    NEURONS: tl.constexpr, GATED: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_V: tl.constexpr,
    BLOCK_G: tl.constexpr, TOGETHER: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One token and head: its M rows and their scores by core, and with SUMMED their sum."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    line = token * (2 * HEADS) + head
    column = line + HEADS
    wait_for_previous(PDL)
    block = token * HEADS + head
    own = room + block * MOST
    if CORNER > 0:
        chosen, place = best_points(
            sides, cores, line, column, head, own, HEADS, RANKS, GRID_CORES, KEPT, SIDE, CORNER,
            LINES, M, MOST, GROUPS, CHUNK, UNROLL, LANES,
        )  # fmt: skip
    else:
        index = tl.arange(0, SIDE)
        grid = scores_at(
            sides, cores, line, column, head, index, index, HEADS, RANKS, GRID_CORES, KEPT
        )  # fmt: skip
        inside = (index < KEPT)[:, None] & (index < KEPT)[None, :]
        key = tl.reshape(key_of(grid, inside), (BLOCK,))
        chosen, place = top(key, own, M, MOST, GROUPS, CHUNK, UNROLL, BLOCK, LANES)
    best = place < M
    i = chosen // SIDE
    j = chosen % SIDE
    first = tl.load(places + line * KEPT + i, mask=best, other=0).to(tl.int64)
    second = tl.load(places + column * KEPT + j, mask=best, other=0)
    row = first * KEYS + second
    if GRID_CORES > 0:
        row = tl.load(permutation + row, mask=best, other=0)
    if OWN_ROWS:
        row += head * (KEYS * KEYS)
    row = row.to(tl.int32)
    at = block * M + place
    if DECLARED:
        given = tl.load(declared + at, mask=best, other=0).to(tl.int32)
        row = given * EXPANSION + row % EXPANSION
    tl.store(rows + at, row, mask=best)
    if EXPANSION > 1:
        tl.store(selected + at, row // EXPANSION, mask=best)
    _store_weights(
        weights + at * CORES, sides, cores, line, column, head, i, j, best,
        HEADS, RANKS, GRID_CORES, KEPT,
    )  # fmt: skip
    if SUMMED:
        tl.debug_barrier()
        total = weighted_rows(
            token, 0, READS, x, rows, weights, pre_values, values, offset, table,
            X_WIDTH, DP, DV, READS, CORES, EXPANSION, SUMS, NEURONS, BLOCK_P, BLOCK_V, BLOCK_G,
            TOGETHER,
        )  # fmt: skip
        store_sum(
            total, out + token * (SUMS * DV), projected + token * WIDTH + (WIDTH - DV),
            DV, SUMS, BLOCK_V, BLOCK_G, GATED, ADDED=False,
        )  # fmt: skip


def sums_too(sizes: MemorySizes) -> bool:
    """Whether `choose_rows` should read and sum the rows by itself."""
    return sizes.heads == 1 and sizes.reads <= FEW and not sizes.neurons


def choose_rows(
    projected: Tensor,
    sizes: MemorySizes,
    weights: MemoryWeights,
    buffers: MemoryBuffers,
    out: Tensor | None = None,
    *,
    declared: Tensor | None = None,
    warps: int | None = None,
    bounded: bool | None = None,
    pdl: bool = False,
) -> None:
    """Choose the m rows of each token and head by buffers.sides: `rows`, `selected`, `weights`.

    `declared` [T, H m] are rows of the window that are read instead, with the weights of the
    chosen. With `out` [T, g Dv] and one head the rows are summed too, as by `sum_rows`.
    `bounded` says whether a corner bounds the grid: unless told otherwise a large one, from 128
    tokens on (a small one is 5 to 26 % faster without, on an H200).
    """
    assert out is None or sizes.heads == 1, sizes.heads
    side = block_of(sizes.kept)
    tokens = buffers.rows.shape[0]
    points = point_constants(sizes.reads, sizes.kept, side)
    wide = side * side > WIDE
    if not (wide and tokens >= MANY if bounded is None else bounded):
        points["CORNER"] = 0
    held = wide and not points["CORNER"]
    warps = warps or (16 if held else 4 if points["CORNER"] or tokens < MANY else 2)
    arguments, constants = row_arguments(projected, None, sizes, weights, buffers)
    spare = projected  # stands for what a family does not have
    rows = constants | {"TOGETHER": min(FEW, block_of(sizes.reads))}
    _choose_rows[tokens, sizes.heads](
        buffers.places, buffers.sides, spare if weights.cores is None else weights.cores,
        spare if weights.permutation is None else weights.permutation,
        spare if declared is None else declared, buffers.selected, buffers.grid_room,
        spare if out is None else out, *arguments, **rows, HEADS=sizes.heads, RANKS=sizes.ranks,
        GRID_CORES=0 if sizes.product_keys else sizes.cores, KEYS=sizes.keys, KEPT=sizes.kept,
        SIDE=side, OWN_ROWS=sizes.own_rows, DECLARED=declared is not None, SUMMED=out is not None,
        **top_constants(sizes.reads, side * side, warps), **points,
        **launch_options(pdl=pdl, warps=warps),
    )  # fmt: skip
