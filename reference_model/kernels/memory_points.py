"""The m best points of a large grid, without holding the grid: bounded by a corner, then collected.

Lines and columns come best first, so that most of the best points lie near the first of both. The
m-th best score of a corner is one that m points reach; of the whole grid few more reach it (for
128 of 128 x 128 points and a corner of 32 x 32: 176 on average of normal scores). One pass over the
grid, some lines at a time, collects them, and those are ranked. So a block holds few scores, and a
multiprocessor many blocks, which hide one another's latency.

Where more points reach the bound than there is room for, it is raised by halving, with a pass over
the grid for each step; of equal scores those with the lowest index survive. Scores are computed
anew in each pass, by fused multiply-adds by name, so that they are the same each time.
"""

import triton
import triton.language as tl

from reference_model.kernels.top import key_of, narrowed, packed, ranked, slots

LINES = 16  # of the grid that a block looks at together
SLACK = 8  # times fewer points are chosen than a corner has


@triton.jit
def scores_at(
    sides, cores, line, column, head, i, j,
    HEADS: tl.constexpr, RANKS: tl.constexpr, CORES: tl.constexpr, KEPT: tl.constexpr,
):  # fmt: skip
    """Scores [lines, columns] of the points of lines i and columns j of a token's grid.

    Without cores they are sums.
    """
    grid = tl.zeros((i.shape[0], j.shape[0]), tl.float32)
    if CORES == 0:
        one = tl.load(sides + line * KEPT + i, mask=i < KEPT, other=0.0)
        other = tl.load(sides + column * KEPT + j, mask=j < KEPT, other=0.0)
        grid += one[:, None] + other[None, :]
    for b in tl.static_range(RANKS if CORES > 0 else 0):
        left = tl.zeros((i.shape[0],), tl.float32)
        for a in tl.static_range(RANKS):
            element = 0.0
            for core in tl.static_range(CORES):
                at = ((core * HEADS + head) * RANKS + a) * RANKS + b
                element += tl.load(cores + at).to(tl.float32)
            score = tl.load(sides + (line * RANKS + a) * KEPT + i, mask=i < KEPT, other=0.0)
            left = tl.fma(score, element, left)
        score = tl.load(sides + (column * RANKS + b) * KEPT + j, mask=j < KEPT, other=0.0)
        grid = tl.fma(left[:, None], score[None, :], grid)
    return grid


@triton.jit
def _keys(
    sides, cores, line, column, head, first,
    HEADS: tl.constexpr, RANKS: tl.constexpr, CORES: tl.constexpr, KEPT: tl.constexpr,
    SIDE: tl.constexpr, LINES: tl.constexpr,
):  # fmt: skip
    """Keys of LINES lines from `first` on, and their points' indices, both [LINES SIDE]."""
    i = first + tl.arange(0, LINES)
    j = tl.arange(0, SIDE)
    grid = scores_at(sides, cores, line, column, head, i, j, HEADS, RANKS, CORES, KEPT)
    inside = (i < KEPT)[:, None] & (j < KEPT)[None, :]
    index = i[:, None] * SIDE + j[None, :]
    key = key_of(grid, inside)
    return tl.reshape(key, (LINES * SIDE,)), tl.reshape(index, (LINES * SIDE,))


@triton.jit
def _collected(
    sides, cores, line, column, head, room, low, end,
    HEADS: tl.constexpr, RANKS: tl.constexpr, CORES: tl.constexpr, KEPT: tl.constexpr,
    SIDE: tl.constexpr, LINES: tl.constexpr, MOST: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Put the points above `low`, or equal and with an index before `end`, into the room.

    Returns how many they are, MOST of which have room, and the largest key.
    """
    count = tl.full((), 0, tl.int32)
    largest = low
    for first in range(0, KEPT, LINES):
        key, index = _keys(
            sides, cores, line, column, head, first, HEADS, RANKS, CORES, KEPT, SIDE, LINES
        )  # fmt: skip
        keep = (key > low) | ((key == low) & (index < end))
        slot = count + slots(keep, LINES * SIDE, LANES)
        tl.store(room + slot, packed(key, index), mask=keep & (slot < MOST))
        count += tl.sum(keep.to(tl.int32), 0)
        largest = tl.maximum(largest, tl.max(key, 0))
    return count, largest


@triton.jit
def _counted(
    sides, cores, line, column, head, low, end,
    HEADS: tl.constexpr, RANKS: tl.constexpr, CORES: tl.constexpr, KEPT: tl.constexpr,
    SIDE: tl.constexpr, LINES: tl.constexpr,
):  # fmt: skip
    """How many points lie above `low`, or are equal and have an index before `end`."""
    count = tl.full((), 0, tl.int32)
    for first in range(0, KEPT, LINES):
        key, index = _keys(
            sides, cores, line, column, head, first, HEADS, RANKS, CORES, KEPT, SIDE, LINES
        )  # fmt: skip
        keep = (key > low) | ((key == low) & (index < end))
        count += tl.sum(keep.to(tl.int32), 0)
    return count


@triton.jit
def _raised(
    sides, cores, line, column, head, low, largest,
    HEADS: tl.constexpr, RANKS: tl.constexpr, CORES: tl.constexpr, KEPT: tl.constexpr,
    SIDE: tl.constexpr, LINES: tl.constexpr, M: tl.constexpr, MOST: tl.constexpr,
):  # fmt: skip
    """A bound and an end that M points reach, and MOST at most."""
    END: tl.constexpr = SIDE * SIDE
    count = tl.full((), MOST + 1, tl.int32)
    bound = low.to(tl.int64)
    high = largest.to(tl.int64) + 1  # no key reaches it
    while (count > MOST) & (high - bound > 1):
        middle = bound + (high - bound) // 2
        reached = _counted(
            sides, cores, line, column, head, middle.to(tl.int32), END,
            HEADS, RANKS, CORES, KEPT, SIDE, LINES,
        )  # fmt: skip
        enough = reached >= M
        bound = tl.where(enough, middle, bound)
        high = tl.where(enough, high, middle)
        count = tl.where(enough, reached, count)
    end = tl.full((), END, tl.int32)
    if count > MOST:  # all but fewer than M are equal
        few = tl.full((), 0, tl.int32)
        while end - few > 1:
            middle_end = (few + end) // 2
            reached = _counted(
                sides, cores, line, column, head, bound.to(tl.int32), middle_end,
                HEADS, RANKS, CORES, KEPT, SIDE, LINES,
            )  # fmt: skip
            few = tl.where(reached >= M, few, middle_end)
            end = tl.where(reached >= M, middle_end, end)
    return bound.to(tl.int32), end


@triton.jit
def best_points(
    sides, cores, line, column, head, room,
    HEADS: tl.constexpr, RANKS: tl.constexpr, CORES: tl.constexpr, KEPT: tl.constexpr,
    SIDE: tl.constexpr, CORNER: tl.constexpr, LINES: tl.constexpr, M: tl.constexpr,
    MOST: tl.constexpr, GROUPS: tl.constexpr, CHUNK: tl.constexpr, UNROLL: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """Indices i SIDE + j [MOST] of points, and ranks [MOST]: the M best have those below M.

    `room` is this block's own: MOST numbers of 64 bits. A corner must have at least M points.
    """
    near = tl.arange(0, CORNER)
    corner = scores_at(
        sides, cores, line, column, head, near, near, HEADS, RANKS, CORES, KEPT
    )  # fmt: skip
    inside = (near < KEPT)[:, None] & (near < KEPT)[None, :]
    key = tl.reshape(key_of(corner, inside), (CORNER * CORNER,))
    low, _ = narrowed(key, M, M + M // 8, GROUPS, CORNER * CORNER)
    count, largest = _collected(
        sides, cores, line, column, head, room, low, SIDE * SIDE,
        HEADS, RANKS, CORES, KEPT, SIDE, LINES, MOST, LANES,
    )  # fmt: skip
    if count > MOST:
        low, end = _raised(
            sides, cores, line, column, head, low, largest,
            HEADS, RANKS, CORES, KEPT, SIDE, LINES, M, MOST,
        )  # fmt: skip
        tl.debug_barrier()
        count, _ = _collected(
            sides, cores, line, column, head, room, low, end,
            HEADS, RANKS, CORES, KEPT, SIDE, LINES, MOST, LANES,
        )  # fmt: skip
    return ranked(room, count, MOST, CHUNK, UNROLL)


def corner_of(reads: int, kept: int) -> int:
    """Lines, and columns, of the corner that bounds a grid; 0: the grid is too small for one."""
    corner = 1
    while corner**2 < SLACK * reads:
        corner *= 2
    return corner if 2 * corner <= kept else 0


def point_constants(reads: int, kept: int, side: int) -> dict[str, int]:
    """The constants of `best_points` that `top_constants` does not have."""
    return {"CORNER": corner_of(reads, kept), "LINES": min(side, LINES)}
