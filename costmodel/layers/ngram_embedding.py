"""N-gram embedding at the input: hashed tables of n-grams beside the word embedding.

Letters: N tokens, D hidden. With neighbours n, splits k and a vocabulary V there are k tables for
each order from 2 to n, k (n - 1) in all; table i has m V + 2 i + 1 rows of D / (k (n - 1)) values,
and a matrix that projects its rows to D. The last ids of a token are hashed once for each table.
Source: LongCat-Flash-Lite, arXiv 2601.21204; its config.json and code on Hugging Face.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import MemoryKind, Position, Size
from costmodel.layers.letters import Letter
from costmodel.layers.operator import INDEX_BYTES, Buffer, Operator, Part, Step, Weight
from costmodel.layers.primitives import linear
from costmodel.layers.site import Site
from costmodel.layers.touched import Touched
from costmodel.strict import STRICT

SOURCE = "arXiv 2601.21204"
HASH = "ngram_embedding.hash"
LEAST_WIDTH = 4  # of a row, as of any `Width`
COMBINED = 2  # the word's row is added to the projections, and the sum divided


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NgramEmbedding(MemoryKind):
    """(word row + sum over tables of W_i row_i) / (1 + tables), as in LongCat-Flash-Lite.

    Table i of order o takes row ((x_{o-1} V + x_{o-2}) V + ... + x_0) mod (m V + 2 i + 1), with x_0
    the token and x_j the id j tokens before it. The matrices of all tables stand side by side as
    one D x D matrix, since a sum of products is a product of what is put together.
    """

    kind: Literal["ngram_embedding"] = "ngram_embedding"
    layers: Literal["input"] = "input"
    vocab_size: Annotated[int, Field(ge=2, le=2**24)]  # V of the hash and of the tables' rows
    emb_neighbor_num: Annotated[int, Field(ge=2, le=8)]  # n, the highest order
    emb_split_num: Annotated[int, Field(ge=1, le=64)]  # k, tables of each order
    ngram_vocab_size_ratio: Annotated[  # m
        int,
        Field(ge=1, le=2**12),
        Size(sets="parameters", label="Rows of an n-gram table, in vocabularies"),
    ]
    position: ClassVar[Position] = "input"
    attribute: ClassVar[str] = "ngram_embedding"
    addressed_by: ClassVar[Literal["scores", "tokens"]] = "tokens"
    at_input: ClassVar[bool] = True

    @property
    def num_tables(self) -> int:
        """Tables of all orders, k (n - 1)."""
        return self.emb_split_num * (self.emb_neighbor_num - 1)

    @property
    def past_ids(self) -> int:
        """The n - 1 ids before a token."""
        return self.emb_neighbor_num - 1

    @property
    def orders(self) -> range:
        """The tokens of an n-gram: 2 to n."""
        return range(2, self.emb_neighbor_num + 1)

    def table_rows(self) -> tuple[int, ...]:
        """Rows of each table, those of order 2 first."""
        base = self.ngram_vocab_size_ratio * self.vocab_size
        return tuple(base + 2 * i + 1 for i in range(self.num_tables))

    def table_orders(self) -> tuple[int, ...]:
        """The order of each table's n-grams."""
        return tuple(order for order in self.orders for _ in range(self.emb_split_num))

    def check(self, num_layers: int, hidden_size: int) -> None:
        """The tables share the hidden size evenly, and no row is narrower than other widths."""
        del num_layers
        width, rest = divmod(hidden_size, self.num_tables)
        if rest or width < LEAST_WIDTH:
            raise InputError(
                f"memory.emb_split_num={self.emb_split_num}: gives {self.num_tables} tables with"
                f" emb_neighbor_num={self.emb_neighbor_num}; rows of hidden_size={hidden_size} over"
                f" that must be whole and at least {LEAST_WIDTH}"
            )

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """None of its own."""
        del operator, step
        return ()

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """hash, rows, project."""
        elements = step.tokens * site.hidden_size
        stream = elements * step.activation_bytes
        return [
            self._hash(site, step),
            self._rows(site, step),
            linear(
                "ngram_embedding.project",
                site,
                step,
                inputs=site.hidden_size,
                outputs=site.hidden_size,
                group="memory_projections",
                extra=(
                    Part(
                        name="mean",
                        kind="elementwise",
                        flops=COMBINED * elements,
                        input_bytes=stream,
                        output_bytes=stream,
                        inner_input_bytes=stream,
                        operations=COMBINED,
                    ),
                ),
                summary="Projections of all tables' rows, summed, and their mean with the word's"
                " row",
                formula=f"2 N D D + {COMBINED} N D",
                source=SOURCE,
            ),
        ]

    def _hash(self, site: Site, step: Step) -> Operator:
        """Polynomials of ids modulo each table's rows: integers, so no FLOPs and no compares.

        Of each table its number of rows and its first row among those of all tables are kept.
        """
        ids = step.tokens + step.batch * self.past_ids
        buffers = tuple(
            Buffer(name=name, elements=self.num_tables, element_bytes=INDEX_BYTES)
            for name in ("moduli", "starts")
        )
        return site.operator(
            HASH,
            kind="selection",
            parts=(
                Part(
                    name="hash",
                    kind="selection",
                    input_bytes=ids * INDEX_BYTES,
                    output_bytes=step.tokens * self.num_tables * INDEX_BYTES,
                    # a remainder of the oldest id; of each later one multiply, add, remainder;
                    # at the end the columns are joined, and the tables' first rows added
                    operations=sum(1 + 3 * (order - 1) for order in self.orders) + 2,
                    index_bytes=2 * self.num_tables * INDEX_BYTES,
                    routing=True,
                ),
            ),
            buffers=buffers,
            summary=f"A row of each table from the last {self.orders[0]} to {self.orders[-1]} ids",
            formula="0",
            source=SOURCE,
        )

    def _rows(self, site: Site, step: Step) -> Operator:
        """The rows of a token, one of each table, one behind the other: D values."""
        n, tables = step.tokens, self.num_tables
        rows = self.table_rows()
        weight = Weight(
            name="weight",
            group="memory_values",
            rows=sum(rows),
            cols=site.hidden_size // tables,
            active_rows=tables,
        )
        distinct = sum(
            (
                step.routing.expected_distinct_hashed(population, n, order=order)
                for population, order in zip(rows, self.table_orders(), strict=True)
            ),
            start=0,
        )
        return site.operator(
            "ngram_embedding.rows",
            kind="gather",
            parts=(
                Part(
                    name="rows",
                    kind="gather",
                    row_bytes=distinct * weight.row_bytes(step),
                    input_bytes=n * tables * INDEX_BYTES,
                    output_bytes=n * site.hidden_size * step.activation_bytes,
                ),
            ),
            weights=(weight,),
            touched=Touched(
                kind="rows",
                distinct=distinct,
                population=sum(rows),
                chosen_by=HASH,
                orders=tuple(self.orders),
            ),
            summary="One row of each n-gram table for each token",
            formula="0; bytes: each distinct row of D / (k (n - 1)) once",
            source=SOURCE,
        )
