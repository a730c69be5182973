"""Shapes of parts, such as a product of m x n x k; a calibration has a curve for each kind.

A part without a shape is elementwise: its time is that of moving its bytes. So are products of
matrices that are tiny and many (the Tucker grid of each token: ranks of two against lists of a few
dozen), which no tile of a matrix kernel fits, and the copy of whole rows (the embedding), which has
no bags.
"""

from dataclasses import dataclass
from typing import TypeAlias

from costmodel.layers.numbers import Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """x [m, k] times a weight [n, k], `calls` times.

    A stack of products in one launch, of heads or of two sides, counts its weights as one.
    """

    m: Number
    n: int
    k: int
    calls: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped:
    """`rows` rows (tokens times experts of each) spread over `groups` weights [n, k]."""

    groups: Number  # expected distinct experts
    rows: Number
    n: int
    k: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """`reads` random rows of a table, each summed or multiplied as it comes; repeats count."""

    reads: Number
    row_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attend:
    """`queries` new tokens of a sequence over `keys` tokens, themselves among them, causal.

    `head_dim` is the mean of the key's and the value's. Keys are those in reach of a window.
    """

    batch: Number
    heads: int
    kv_heads: int
    head_dim: float
    queries: Number
    keys: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """The `chosen` largest of `width` values in each of `rows` rows, `calls` times."""

    rows: Number
    width: int
    chosen: int
    calls: int = 1


Shape: TypeAlias = Gemm | Grouped | Rows | Attend | TopK
