"""What a memory layer chooses and where its kernels leave it: sizes, weights and buffers.

A layer is a chain of launches: one product of all that its token is multiplied by (`linear`,
`linear_split`, `experts.down`), `score_keys`, `choose_sides`, `choose_rows`, `sum_rows`, and the
output product. `choose_rows` does the work of `sum_rows` too where that is faster.

Two families share it. Tucker keys (UltraMem): a query for all heads, r scores a key, small cores
that make a point's score, a permutation from points to rows. Product keys (PKM, Memory+, PEER): a
query for each head, one score a key, a point's score is the sum of two, the row of point (i, j) is
i n + j, and the weights of a head's rows are the softmax of their scores.

Letters beside the package's: n keys a side, Dk key width, r ranks, c cores, f lines and columns
kept for the grid, m rows read (all by head), Dp and Dv widths of pre-values and values, q queries
of a token, g sums of a token's rows. A window is the part of the table that a layer reads; its rows
form a ring.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from reference_model.kernels.top import most_of

PART = 2048  # tokens of a part, at least
TOGETHER = 4  # rows of a table that a block of `sum_rows` asks for at once
BLOCKS = 1024  # of `sum_rows` that one launch needs to keep the memory busy
LEAST_SLICES = 8  # of a token, as long as that is at most twice as many blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySizes:
    """Sizes of one memory layer."""

    key_dim: int  # Dk
    keys: int  # n
    kept: int  # f
    reads: int  # m
    value_dim: int  # Dv
    pre_value_dim: int | None = None  # Dp; None: there are no pre-values
    heads: int = 1
    ranks: int = 2  # r
    cores: int = 2  # c
    queries: int = 1  # q: one for all ranks, or one for each; of product keys one for each head
    expansion: int = 1  # virtual rows that stand for one row of the table
    sums: int = 1  # g: one for all rows, or one for each group of virtual rows: `expansion`
    product_keys: bool = False  # of that family; r and c are 1
    normed: bool = True  # halves of queries are normed; of Tucker keys they always are
    shared_keys: bool = False  # product keys: all heads choose with the same
    own_rows: bool = False  # product keys: the table holds n^2 rows of each head, head by head
    neurons: bool = False  # PEER: a row's weight is GELU of its dot product with the token, [Dp]
    gated: bool = False  # Memory+: SiLU of the projection's last Dv outputs multiplies the sum

    @property
    def projected(self) -> int:
        """Outputs of the first product: queries, then the token for pre-values, or the gate.

        Tucker queries are [2, q, Dk], those of product keys [H, 2, Dk].
        """
        last = 0 if self.neurons else self.pre_value_dim or 0
        return 2 * self.queries * self.key_dim + last + (self.value_dim if self.gated else 0)

    @property
    def query_each_rank(self) -> bool:
        """Whether a key's scores come from several queries."""
        return self.queries > 1 and not self.product_keys


def usual_slices(sizes: MemorySizes, tokens: int) -> int:
    """Blocks that share the rows of a token in `sum_rows`."""
    reads = sizes.heads * sizes.reads
    blocks = max(BLOCKS // tokens, min(LEAST_SLICES, 2 * BLOCKS // tokens))
    return max(1, min(-(-reads // TOGETHER), blocks))


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWeights:
    """What the kernels read of one layer, beside its dense products' weights."""

    keys: Tensor  # [2, H or 1, r, n, Dk], normed, and multiplied by the query norm's weight
    merge: Tensor | None  # [2, H, r] float32: this weighted sum of scores chooses lines, columns
    cores: Tensor | None  # [c, H, r, r]; None, as merge and permutation, of product keys
    permutation: Tensor | None  # [n^2] int32 or int64: the virtual row of each point of the grid
    values: Tensor  # [rows of the table, Dv]
    pre_values: Tensor | None  # [rows of the table, Dp]
    offset: int = 0  # the window's first row


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBuffers:
    """What one kernel leaves for the next; layers of the same sizes share it, one after another."""

    scores: Tensor  # [T, 2, H, r, n] float32, of queries that are not normed
    places: Tensor  # [T, 2, H, f] int32: lines and columns, best first
    sides: Tensor  # [T, 2, H, r, f] float32: their scores, of the normed query
    rows: Tensor  # [T, H m] int32: virtual rows of the window, each head's best first
    weights: Tensor  # [T, H m, c] float32: their scores by core, or the softmax of their scores
    selected: Tensor  # [T, H m] int32: rows of the window, `rows` itself without expansion
    side_room: Tensor  # [T, 2, H, most] int64, for `top`
    grid_room: Tensor  # [T, H, most] int64, for `top`
    partial: Tensor  # [T, slices, g Dv] float32: sums of slices of the rows
    arrived: Tensor  # [T] int32, zero between launches

    @classmethod
    def make(cls, sizes: MemorySizes, *, tokens: int, device: str) -> "MemoryBuffers":
        """Room for T tokens; nothing is kept between launches but zero counters."""
        h, t = sizes.heads, tokens

        def floats(*shape: int) -> Tensor:
            return torch.zeros(shape, device=device)

        def ints(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
            return torch.zeros(shape, device=device, dtype=dtype)

        slices = usual_slices(sizes, tokens)
        rows = ints(t, h * sizes.reads)
        return cls(
            scores=floats(t, 2, h, sizes.ranks, sizes.keys),
            places=ints(t, 2, h, sizes.kept),
            sides=floats(t, 2, h, sizes.ranks, sizes.kept),
            rows=rows,
            selected=rows if sizes.expansion == 1 else ints(t, h * sizes.reads),
            weights=floats(t, h * sizes.reads, sizes.cores),
            side_room=ints(t, 2, h, most_of(sizes.kept), dtype=torch.int64),
            grid_room=ints(t, h, most_of(sizes.reads), dtype=torch.int64),
            partial=floats(t, slices, sizes.sums * sizes.value_dim),
            arrived=ints(t),
        )

    def part(self, begin: int, end: int) -> "MemoryBuffers":
        """Those of some tokens."""
        return MemoryBuffers(**{f.name: getattr(self, f.name)[begin:end] for f in fields(self)})


def parts_of_tokens(tokens: int) -> list[tuple[int, int]]:
    """Where many tokens are searched for in parts: choosing rows hides behind reading rows.

    On an H200 8,192 tokens in four parts on two streams take 3.5 % less time than in one (1B/7B)
    and 8 % less (227M/1.2B); parts of fewer tokens gain nothing.
    """
    count = max(1, tokens // PART)
    return [(i * tokens // count, (i + 1) * tokens // count) for i in range(count)]
