"""The shapes that a calibration measures: a generic grid without any layer of a model preset.

Sizes are powers of two, or three times a power of two. Shapes of a preset's layers are left out, so
that predictions are validated on shapes that were never measured; a test compares them. A point
whose operands exceed `MAX_OPERAND_BYTES` is left out too.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

from profiler.calibrate.operations import (
    BAG,
    AttentionOperation,
    GemmOperation,
    GroupedOperation,
    MoveOperation,
    Operation,
    RowsOperation,
    TopKOperation,
)

Curve: TypeAlias = Literal["move", "gemm", "grouped", "rows", "attention", "topk"]
MAX_OPERAND_BYTES = 24 * 2**30

MOVE_BYTES = tuple(2**power for power in range(12, 31))  # 4 KiB to 1 GiB

GEMM_M = (1, 4, 16, 64, 128, 256, 512, 1024, 4096, 8192)
GEMM_WEIGHTS = (  # n, k: from a router to an LM head
    (64, 4096),
    (256, 1024),
    (512, 2048),
    (2048, 1024),
    (1024, 8192),
    (8192, 2048),
    (8192, 4096),
    (4096, 16384),
    (16384, 4096),
    (65536, 2048),
)

GROUPS = (1, 4, 16, 64, 128)
ROWS_A_GROUP = (1, 4, 16, 64, 256)
GROUPED_WEIGHTS = ((512, 1024), (1024, 1024), (4096, 1024), (1024, 4096))  # n, k

READS = (BAG, *(2**power for power in range(7, 20, 2)), 2**20)
ROW_BYTES = (128, 256, 512, 1024, 3072, 6144)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The heads of an attention layer."""

    heads: int
    kv_heads: int
    head_dim: int


HEADS = (
    Heads(heads=32, kv_heads=32, head_dim=64),
    Heads(heads=32, kv_heads=8, head_dim=64),
    Heads(heads=32, kv_heads=32, head_dim=128),
    Heads(heads=16, kv_heads=4, head_dim=128),
    Heads(heads=16, kv_heads=2, head_dim=128),
)
DECODE = tuple(product((1, 4, 16, 64, 256), (512, 2048, 8192, 32768)))  # batch, keys
PREFILL = ((1, 256), (1, 1024), (1, 4096), (1, 8192), (4, 512), (4, 2048))  # batch, keys

TOPK_ROWS = (1, 16, 64, 256, 1024, 8192)
TOPK_WIDTHS = tuple(3 * 2**power for power in range(5, 14))  # 96 to 24,576
TOPK_CHOSEN = (8, 32, 128)


def grid() -> dict[Curve, tuple[Operation, ...]]:
    """The operations of each curve, in the order in which they are measured."""
    curves: dict[Curve, list[Operation]] = {
        "move": [MoveOperation(bytes=size) for size in MOVE_BYTES],
        "gemm": [GemmOperation(m=m, n=n, k=k) for (n, k), m in product(GEMM_WEIGHTS, GEMM_M)],
        "grouped": [
            GroupedOperation(groups=groups, rows=groups * group_rows, n=n, k=k)
            for (n, k), groups, group_rows in product(GROUPED_WEIGHTS, GROUPS, ROWS_A_GROUP)
        ],
        "rows": [
            RowsOperation(reads=reads, row_bytes=row_bytes)
            for row_bytes, reads in product(ROW_BYTES, READS)
        ],
        "attention": [
            _attention(heads, batch, queries, keys)
            for heads in HEADS
            for batch, queries, keys in (
                *((batch, 1, keys) for batch, keys in DECODE),
                *((batch, keys, keys) for batch, keys in PREFILL),
            )
        ],
        "topk": [
            TopKOperation(rows=rows, width=width, chosen=chosen)
            for width, rows, chosen in product(TOPK_WIDTHS, TOPK_ROWS, TOPK_CHOSEN)
            if chosen < width
        ],
    }
    return {
        name: tuple(o for o in operations if o.operand_bytes <= MAX_OPERAND_BYTES)
        for name, operations in curves.items()
    }


def _attention(heads: Heads, batch: int, queries: int, keys: int) -> AttentionOperation:
    return AttentionOperation(
        batch=batch,
        heads=heads.heads,
        kv_heads=heads.kv_heads,
        head_dim=heads.head_dim,
        queries=queries,
        keys=keys,
    )
