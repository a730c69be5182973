"""The m best of n scores, exactly, in one block: thresholds leave few, and those are ranked.

Scores become integers of the same order, so that thresholds need no arithmetic on floats: NaN
counts as plus infinity, both zeros are equal. A lower bound comes first: of at least m groups of
scores, the least of the groups' maxima. Each pass then counts the keys above three thresholds at
once, with one reduction, and keeps a quarter of the interval; it ends as soon as the survivors fit
into a small block, mostly after one or two passes and after 16 at most. The survivors go through
memory into that block, each packed with its index into one 64-bit number, so that no two are equal:
the rank of each is the number of those above it. Equal scores thus go to the lower index, and the
order in which survivors are stored changes nothing.

Where more scores are equal than the small block holds, the first of them in the order of their
indices survive. An exact threshold, for which no survivor is ranked, needs several times the
passes, and leaves the m best in no order.
"""

import triton
import triton.language as tl

from reference_model.kernels.launch import block_of

LEAST: tl.constexpr = tl.constexpr(-(2**31))  # the key of what is no score
LARGEST: tl.constexpr = tl.constexpr(2**31 - 1)
LONG: tl.constexpr = tl.constexpr(4096)  # keys from which a counter deals out places, not a scan
PAIRS = 8192  # pairs of survivors that are compared at a time


@triton.jit
def key_of(score, inside):
    """Float32 scores as int32 keys of the same order; `LEAST` where there is no score."""
    score = tl.where(score != score, float("inf"), score)  # noqa: PLR0124 - true of NaN alone
    bits = tl.where(score == 0.0, 0.0, score).to(tl.int32, bitcast=True)
    return tl.where(inside, tl.where(bits < 0, bits ^ LARGEST, bits), LEAST)


@triton.jit
def _above(key, threshold):
    """How many keys reach a threshold."""
    return tl.sum((key >= threshold).to(tl.int32), 0).to(tl.int64)


@triton.jit
def _narrowed(
    key, M: tl.constexpr, MOST: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """A threshold that at least M keys reach, and how many: MOST at most, unless keys are equal."""
    best = tl.max(tl.reshape(key, (BLOCK // GROUPS, GROUPS)), 0)
    low = tl.min(tl.where(best == LEAST, LARGEST, best), 0)
    high = tl.max(best, 0).to(tl.int64) + 1  # no key reaches it
    count = _above(key, low)
    low = tl.where(count < M, LEAST + 1, low).to(tl.int64)  # too few groups had a score
    count = tl.where(count < M, _above(key, LEAST + 1), count)
    while (count > MOST) & (high - low > 1):
        step = tl.maximum((high - low) >> 2, 1)
        one = tl.minimum(low + step, high)
        two = tl.minimum(low + 2 * step, high)
        three = tl.minimum(low + 3 * step, high)
        above = (key >= one.to(tl.int32)).to(tl.int64)
        above += (key >= two.to(tl.int32)).to(tl.int64) << 21
        above += (key >= three.to(tl.int32)).to(tl.int64) << 42
        counts = tl.sum(above, 0)  # three counts in one number
        first = counts & 0x1FFFFF
        second = (counts >> 21) & 0x1FFFFF
        third = counts >> 42
        high = tl.where(third < M, three, high)
        high = tl.where(second < M, two, high)
        high = tl.where(first < M, one, high)
        low = tl.where(first >= M, one, low)
        low = tl.where(second >= M, two, low)
        low = tl.where(third >= M, three, low)
        count = tl.where(first >= M, first, count)
        count = tl.where(second >= M, second, count)
        count = tl.where(third >= M, third, count)
    return low.to(tl.int32), count


@triton.jit
def _survivors(key, low, count, M: tl.constexpr, MOST: tl.constexpr):
    """Which keys survive: those that reach the threshold, and M of them where too many are equal.

    Too many are left only if the interval has shrunk to one key: all but fewer than M are equal.
    """
    keep = key >= low
    if count > MOST:
        equal = key == low
        missing = M - tl.sum((key > low).to(tl.int32), 0)
        keep = (key > low) | (equal & (tl.cumsum(equal.to(tl.int32), 0) <= missing))
        count = count * 0 + M
    return keep, count


@triton.jit
def top(
    key, room, counter, M: tl.constexpr, MOST: tl.constexpr, GROUPS: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Indices [MOST] of the survivors among the keys [BLOCK], and ranks [MOST].

    At least M keys must be scores. The M best have the ranks below M, once each. `room` is this
    block's own: MOST numbers of 64 bits. `counter`: an int32 of its own, zero between launches.
    """
    low, count = _narrowed(key, M, MOST, GROUPS, BLOCK)
    keep, count = _survivors(key, low, count, M, MOST)
    index = tl.arange(0, BLOCK)
    packed = (key.to(tl.int64) << 32) | (index ^ LARGEST).to(tl.int64)
    if BLOCK > LONG:
        slot = tl.atomic_add(counter + index * 0, 1, mask=keep, sem="relaxed")
    else:
        slot = tl.cumsum(keep.to(tl.int32), 0) - 1
    tl.store(room + slot, packed, mask=keep)
    tl.debug_barrier()
    if BLOCK > LONG:
        tl.store(counter, 0)
    none = -(2**63)
    place = tl.arange(0, MOST)
    mine = tl.load(room + place, mask=place < count, other=none, cache_modifier=".cg")
    better = tl.zeros((MOST, CHUNK), tl.int32)
    for start in tl.static_range(0, MOST, CHUNK):
        other = start + tl.arange(0, CHUNK)
        theirs = tl.load(room + other, mask=other < count, other=none, cache_modifier=".cg")
        better += (theirs[None, :] > mine[:, None]).to(tl.int32)
    rank = tl.where(place < count, tl.sum(better, 1), MOST)
    return (mine & LARGEST).to(tl.int32) ^ LARGEST, rank


def most_of(chosen: int) -> int:
    """Survivors that are ranked: a power of two, at least a quarter above the number chosen."""
    return block_of(chosen + chosen // 4 + 1)


def top_constants(chosen: int) -> dict[str, int]:
    """The constants of `top` by name, without its block: `chosen` is M."""
    most = most_of(chosen)
    return {
        "M": chosen,
        "MOST": most,
        "GROUPS": block_of(chosen),
        "CHUNK": max(1, min(most, PAIRS // most)),
    }
