"""How latent attention is cut among blocks: query heads, slices of the context, tiles of keys.

All query heads share one latent a token, so a block takes 16 or 64 heads of one sequence over a
slice of its context. Its tile of keys fills most of a multiprocessor's memory: one block runs on
each, and a grid takes as long as its waves of one block a multiprocessor. So the context is cut
until the last wave is nearly full. Where 64 heads share the keys, eight warps are needed for the
matrix unit; with 16 heads they pay where a slice is one tile or has several. Many heads leave many
results a slice to be joined: then there are few slices. The numbers are those that were best on an
H200, with 16 and 128 heads, 1 to 96 sequences and 3,072 cached tokens.
"""

from dataclasses import dataclass

from reference_model.kernels.launch import block_of

MULTIPROCESSORS = 132
WAVES = 4
FULL = 0.9  # of the multiprocessors, in the last wave too
KEYS = 64  # a tile
SEVERAL = 4  # tiles a slice, from which larger tiles than 32 keys do not leave slices uneven
LEAST_HEADS, MOST_HEADS = 16, 64  # a block
MOST_SLICES = 64
MANY_HEADS_SLICES = 5  # of several sequences


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentSplit:
    """Slices of whole tiles of `block` keys, query heads a block, stages in flight."""

    slices: int
    block: int
    heads: int
    stages: int = 2
    warps: int = 4


def latent_split(tokens: int, heads: int, seen: int) -> LatentSplit:
    """The split for T sequences, H query heads and a context of at most `seen` tokens."""
    together = min(MOST_HEADS, max(LEAST_HEADS, block_of(heads)))
    groups = tokens * -(-heads // together)
    tiles = max(1, seen // KEYS)
    slices = min(_slices(groups), tiles, MOST_SLICES)
    if together > LEAST_HEADS:
        slices = slices if tokens == 1 else min(slices, MANY_HEADS_SLICES)
        return LatentSplit(slices=slices, block=KEYS, heads=together, warps=8)
    if slices == tiles:
        return LatentSplit(slices=slices, block=KEYS, heads=together, warps=8)
    if tiles < SEVERAL * slices:
        return LatentSplit(slices=slices, block=KEYS // 2, heads=together, stages=3)
    return LatentSplit(slices=slices, block=KEYS, heads=together, stages=3, warps=8)


def _slices(groups: int) -> int:
    """Blocks for each of so many groups that fill whole waves: the fewest waves nearly full."""
    slices = 1
    for waves in range(1, WAVES + 1):
        room = MULTIPROCESSORS * waves
        slices = max(1, room // groups)
        if FULL * room <= slices * groups <= room:
            break
    return slices
