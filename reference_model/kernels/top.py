"""The m best of n scores, exactly, in one block: thresholds leave few, and those are ranked.

Scores become integers of the same order, so that thresholds need no arithmetic on floats: NaN
counts as plus infinity, both zeros are equal. A lower bound comes first: the scores are dealt out
to at least m groups, and the least of the groups' maxima is one that m scores reach. Each pass then
counts the keys above two thresholds at once, with one reduction, and keeps a third of the interval;
it ends as soon as the survivors fit into a small block. Of normal scores that takes about two
passes, of any scores 21 at most. The survivors go through memory into the small block,
each packed with its index in one 64-bit number, so that no two are equal: the rank of each is the
number of those above it. Equal scores thus go to the lower index, and the order in which survivors
are stored changes nothing.

Where so many scores are equal that they do not fit, the first of them in index order survive.
"""

import triton
import triton.language as tl

from reference_model.kernels.launch import block_of

LEAST: tl.constexpr = tl.constexpr(-(2**31))  # the key of what is no score
LARGEST: tl.constexpr = tl.constexpr(2**31 - 1)
WIDEST = 2**15  # keys that a block can hold: two counts of them fit into 32 bits
CHUNK = 32  # survivors that all are compared with at a time: one for each lane of a warp
PAIRS = 2**14  # pairs of survivors at a time, at most: more do not fit into registers
UNROLLED = 8  # times of that without a loop, so that all survivors are asked for at once


@triton.jit
def key_of(score, inside):
    """Float32 scores as int32 keys of the same order; `LEAST` where there is no score."""
    score = tl.where(score != score, float("inf"), score)  # noqa: PLR0124 - true of NaN alone
    bits = tl.where(score == 0.0, 0.0, score).to(tl.int32, bitcast=True)
    return tl.where(inside, tl.where(bits < 0, bits ^ LARGEST, bits), LEAST)


@triton.jit
def _above(key, threshold):
    """How many keys reach a threshold."""
    return tl.sum((key >= threshold).to(tl.int32), 0)


@triton.jit
def narrowed(
    key, M: tl.constexpr, MOST: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """A threshold that at least M keys reach, and how many: MOST at most, unless keys are equal."""
    best = tl.max(tl.reshape(key, (BLOCK // GROUPS, GROUPS)), 0)
    low = tl.min(tl.where(best == LEAST, LARGEST, best), 0).to(tl.int64)
    high = tl.max(best, 0).to(tl.int64) + 1  # no key reaches it
    count = _above(key, low.to(tl.int32))
    if count < M:  # too few groups had a score
        low = low * 0 + (LEAST + 1)
        count = _above(key, LEAST + 1)
    while (count > MOST) & (high - low > 1):
        step = tl.maximum((high - low) // 3, 1)
        one = low + step
        two = tl.minimum(one + step, high)
        above = (key >= one.to(tl.int32)).to(tl.int32)
        above += (key >= two.to(tl.int32)).to(tl.int32) << 16
        counts = tl.sum(above, 0)  # two counts in one number
        first = counts & 0xFFFF
        second = (counts >> 16) & 0xFFFF
        high = tl.where(first < M, one, tl.where(second < M, two, high))
        low = tl.where(second >= M, two, tl.where(first >= M, one, low))
        count = tl.where(second >= M, second, tl.where(first >= M, first, count))
    return low.to(tl.int32), count


@triton.jit
def _survivors(key, low, count, M: tl.constexpr, MOST: tl.constexpr, BLOCK: tl.constexpr):
    """Which keys survive, and how many: those that reach the threshold, or M of them.

    Too many reach it only if the interval has shrunk to one key: all but fewer than M are equal.
    Then the first of the equal ones survive, up to an index that is found by halving.
    """
    index = tl.arange(0, BLOCK)
    keep = key >= low
    if count > MOST:
        equal = key == low
        missing = M - tl.sum((key > low).to(tl.int32), 0)
        few = 0
        enough = BLOCK
        while enough - few > 1:
            middle = (few + enough) // 2
            reached = tl.sum((equal & (index < middle)).to(tl.int32), 0) >= missing
            few = tl.where(reached, few, middle)
            enough = tl.where(reached, middle, enough)
        keep = (key > low) | (equal & (index < enough))
        count = count * 0 + M
    return keep, count


@triton.jit
def slots(keep, BLOCK: tl.constexpr, LANES: tl.constexpr):
    """A place for each key that survives, counted from 0: LANES columns, one after another.

    A thread holds a column, so that only the columns' totals cross threads.
    """
    table = tl.reshape(keep.to(tl.int32), (BLOCK // LANES, LANES))
    total = tl.sum(table, 0)
    before = tl.cumsum(total, 0) - total
    return tl.reshape(tl.cumsum(table, 0) - 1 + before[None, :], (BLOCK,))


@triton.jit
def packed(key, index):
    """A key and its index in one number of 64 bits: larger for larger keys, then lower indices."""
    return (key.to(tl.int64) << 32) | (index ^ LARGEST).to(tl.int64)


@triton.jit
def ranked(room, count, MOST: tl.constexpr, CHUNK: tl.constexpr, UNROLL: tl.constexpr):
    """Indices [MOST] of the `count` packed numbers that the block left in its room, and ranks."""
    tl.debug_barrier()
    none = -(2**63)
    place = tl.arange(0, MOST)
    mine = tl.load(room + place, mask=place < count, other=none, cache_modifier=".cg")
    better = tl.zeros((MOST, CHUNK), tl.int32)
    for start in tl.range(0, MOST, CHUNK, loop_unroll_factor=UNROLL):
        other = start + tl.arange(0, CHUNK)
        theirs = tl.load(room + other, mask=other < count, other=none, cache_modifier=".cg")
        better += (theirs[None, :] > mine[:, None]).to(tl.int32)
    rank = tl.where(place < count, tl.sum(better, 1), MOST)
    return (mine & LARGEST).to(tl.int32) ^ LARGEST, rank


@triton.jit
def top(
    key, room, M: tl.constexpr, MOST: tl.constexpr, GROUPS: tl.constexpr, CHUNK: tl.constexpr,
    UNROLL: tl.constexpr, BLOCK: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Indices [MOST] of the survivors among the keys [BLOCK], and ranks [MOST].

    At least M keys must be scores. The M best have the ranks below M, once each. `room` is this
    block's own: MOST numbers of 64 bits.
    """
    low, count = narrowed(key, M, MOST, GROUPS, BLOCK)
    keep, count = _survivors(key, low, count, M, MOST, BLOCK)
    tl.store(room + slots(keep, BLOCK, LANES), packed(key, tl.arange(0, BLOCK)), mask=keep)
    return ranked(room, count, MOST, CHUNK, UNROLL)


def most_of(chosen: int) -> int:
    """Survivors that are ranked: a power of two, at least a quarter above the number chosen."""
    return block_of(chosen + chosen // 4 + 1)


def top_constants(chosen: int, block: int, warps: int) -> dict[str, int]:
    """The constants of `top` by name: `chosen` is M, `block` a power of two."""
    assert block <= WIDEST, block
    most = most_of(chosen)
    chunk = min(most, CHUNK, PAIRS // most)
    return {
        "M": chosen,
        "MOST": most,
        "GROUPS": block_of(chosen),
        "CHUNK": chunk,
        "UNROLL": min(UNROLLED, most // chunk),
        "BLOCK": block,
        "LANES": min(block, 32 * warps),
    }
