"""Plain PyTorch: the passes of the parts that sweep over their operands more than once.

Read from the code of the reference models and of PyTorch 2.11. A part that does not stand here is
one pass: it reads what the part reads, and writes what the part writes.
"""

import math
from dataclasses import dataclass
from typing import Any

from costmodel.layers.attention import Attention
from costmodel.layers.kernel_shape import Attend, TopK
from costmodel.layers.mla import LatentAttention
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

    def times(self, factor: float) -> "Share":
        """The pass over so large a part of the operands."""
        return Share(*(factor * share for share in (self.read, self.written, self.kept)))


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

MULTI_BLOCK = (
    (1, 20, 20_000),
    (21, 40, 10_000),
    (41, 80, 8_000),
    (81, 199, 5_000),
    (200, 799, 3_000),
    (800, 4_000, 800),
    (4_001, math.inf, 400),
)
"""Rows at the least and at the most, and the width from which on topk takes several blocks."""
OF_EACH = ("rotary", "qk_norm")  # queries first, then keys
MAX_CUDNN_HEAD = 256  # elements: reference_model/sdpa.py
KEYS_OF_A_BLOCK = 128
FLOAT32_BYTES, BF16_BYTES = 4, 2
NOTHING = 0
RADIX_PASSES = 4  # over 16 bits in two digits: counts of each, and what they choose


def shares_of(operator: Operator, part: Part) -> tuple[Share, ...]:
    """The passes of a part."""
    layer = operator.layer_kind
    if part.name == "activation" and part.operations == 2:  # noqa: PLR2004 - gated
        return GATED
    if isinstance(part.shape, TopK) and multi_block(part.shape.rows, part.shape.width):
        return (Share(read=1),) * (RADIX_PASSES - 1) + ONE
    if part.name == "scores" and isinstance(layer, LatentAttention):
        return _latent_core(layer, absorbed=part.kv_read_bytes is not NOTHING)
    shares = PASSES.get(part.name, ONE)
    if part.operations == 2 and isinstance(layer, Attention) and part.name in OF_EACH:  # noqa: PLR2004
        heads = (layer.num_attention_heads, layer.num_key_value_heads)
        return tuple(each.times(count / sum(heads)) for count in heads for each in shares)
    return shares


def _latent_core(layer: LatentAttention, *, absorbed: bool) -> tuple[Share, ...]:
    """Queries (and keys, if they are expanded) are put together of two pieces; then attention."""
    if absorbed:
        return (Share(read=1, kept=1), Share(read=1, written=1))
    key = layer.qk_nope_head_dim + layer.qk_rope_head_dim
    whole = 2 * key + layer.v_head_dim
    piece = Share(read=key / whole, kept=key / whole)
    return (piece, piece, Share(read=1, written=1), Share(written=1))


def wide_attention(part: Part) -> tuple[Number, Number]:
    """What PyTorch's memory-efficient kernel reads again, and what it spills, in bytes.

    It does heads that are too wide for cuDNN. It reads values apart from keys, though with latent
    attention both are the same bytes; and after each block of keys it adds to results in float32.
    """
    if not isinstance(part.shape, Attend) or part.shape.head_dim <= MAX_CUDNN_HEAD:
        return 0, 0
    blocks = part.shape.keys / KEYS_OF_A_BLOCK
    return part.kv_read_bytes, part.output_bytes * FLOAT32_BYTES / BF16_BYTES * blocks


def multi_block(rows: Number, width: Number) -> Any:  # noqa: ANN401 - a bool, or an array of them
    """Whether torch.topk reads each of `rows` rows of `width` values with several blocks.

    Source: PyTorch 2.11, aten/src/ATen/native/cuda/TensorTopK.cu, should_use_multiblock.
    """
    several: Any = False
    for least, most, least_width in MULTI_BLOCK:
        several = several | ((rows >= least) & (rows <= most) & (width >= least_width))
    return several
