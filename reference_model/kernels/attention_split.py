"""How a context is cut into slices, by token count, as it was measured on an H200.

A card of 132 multiprocessors wants about 256 blocks of 128 keys; more slices than that cost more in
joining than they bring, and fewer leave multiprocessors idle. One block joins the slices of all
query heads that share a key-value head, so where many share, fewer slices are better. Two stages in
flight were as good as three or better, and 128 keys a tile as good as 64 or better.
"""

from dataclasses import dataclass

BLOCKS = 256
KEYS = 128  # a tile
EARLY = True  # whether slices read their first keys before the wait
JOINED = 64  # slices times query heads that one block joins


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Slices of whole tiles of `block` keys, stages in flight; `early`: one before the wait."""

    slices: int
    block: int
    stages: int = 2
    warps: int = 4
    early: bool = False


def usual_split(tokens: int, heads: int, kv_heads: int, seen: int) -> Split:
    """The split for T tokens that see so many keys each: the context, or a window."""
    shared = heads // kv_heads
    most = min(BLOCKS // (tokens * kv_heads), seen // KEYS, JOINED // shared)
    slices = 1
    while 2 * slices <= most:
        slices *= 2
    return Split(slices=slices, block=KEYS, early=EARLY and slices > 1)
