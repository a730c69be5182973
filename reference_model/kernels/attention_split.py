"""How a context is cut into slices, by token count, as it was measured on an H200.

A card of 132 multiprocessors wants about 256 blocks of 128 keys a stage; more slices than that cost
more in joining than they bring. With 16 blocks or fewer before the cut, slices of a single tile of
64 keys are best, since then a block waits for memory once.
"""

from dataclasses import dataclass

BLOCKS = 256
FEW = 16  # pairs of sequence and key-value head
SHORT = 64
LONG = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Slices of whole tiles of `block` keys, stages in flight."""

    slices: int
    block: int
    stages: int = 2
    warps: int = 4


def usual_split(tokens: int, kv_heads: int, seen: int) -> Split:
    """The split for T tokens that see so many keys each: the context, or a window."""
    pairs = tokens * kv_heads
    if seen <= LONG:
        return Split(slices=1, block=LONG)
    if pairs <= FEW:
        return Split(slices=max(1, min(32, seen // SHORT)), block=SHORT)
    slices = 1
    while slices * 2 * pairs <= BLOCKS and slices * 2 * LONG <= seen:
        slices *= 2
    return Split(slices=slices, block=LONG)
