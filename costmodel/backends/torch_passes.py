"""Plain PyTorch: the passes of the parts that sweep over their operands more than once.

Read from the code of the reference models and of PyTorch 2.11. A part that does not stand here is
one pass: it reads what the part reads, and writes what the part writes.
"""

from dataclasses import dataclass

from costmodel.layers.kernel_shape import TopK
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part


@dataclass(frozen=True, slots=True)
class Share:
    """One pass of a part: what it reads and writes, as shares.

    Attributes:
        read: of what the part reads.
        written: of what the part writes.
        kept: of what the part reads, as bytes that it writes for the part's next passes.
        cached: of the cache's new bytes, as bytes that it reads.
    """

    read: float = 0
    written: float = 0
    kept: float = 0
    cached: float = 0


ONE = (Share(read=1, written=1),)
TURN = (  # a cos, b sin, their difference; b cos, a sin, their sum; both halves side by side
    *(Share(read=0.5, kept=0.5), Share(read=0.5, kept=0.5), Share(read=1, kept=0.5)),
    *(Share(read=0.5, kept=0.5), Share(read=0.5, kept=0.5), Share(read=1, kept=0.5)),
    Share(read=1, written=1),
)
GATED = (Share(read=0.5, written=1), Share(read=1, written=1))  # one half's activation; the product
SIDE = (Share(read=0.5, kept=0.5), Share(read=0.5, written=0.5))  # scores times a vector; the sum

PASSES: dict[str, tuple[Share, ...]] = {
    "rotary": TURN,
    "qk_norm": (Share(read=1, kept=1), Share(read=1, written=1)),  # a copy, the norm
    "cache_write": (Share(cached=1),),  # queries stay where they are
    "combine": (  # results in the order of tokens; times their weights; the sum
        Share(read=1, kept=1),
        Share(read=1, kept=1),
        Share(read=1, written=1),
    ),
    "merge": SIDE * 2,
    "dots": (Share(kept=1), Share(read=1)),  # rows are copied, and then multiplied
}
"""By the name of a part, which is the same in all layers that have it."""

MULTI_BLOCK = ((20, 20_000), (40, 10_000), (80, 8_000), (199, 5_000), (799, 3_000), (4_000, 800))
MULTI_BLOCK_MANY = 400
RADIX_PASSES = 4  # over 16 bits in two digits: counts of each, and what they choose


def shares_of(operator: Operator, part: Part) -> tuple[Share, ...]:
    """The passes of a part."""
    if part.name == "activation" and part.operations == 2:  # noqa: PLR2004 - gated
        return GATED
    if isinstance(part.shape, TopK) and multi_block(part.shape.rows, part.shape.width):
        return (Share(read=1),) * (RADIX_PASSES - 1) + ONE
    del operator
    return PASSES.get(part.name, ONE)


def multi_block(rows: Number, width: int) -> bool:
    """Whether torch.topk reads each of `rows` rows of `width` values with several blocks.

    Source: PyTorch 2.11, aten/src/ATen/native/cuda/TensorTopK.cu, should_use_multiblock.
    """
    for most_rows, least_width in MULTI_BLOCK:
        if rows <= most_rows:
            return width >= least_width
    return width >= MULTI_BLOCK_MANY
