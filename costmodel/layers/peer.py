"""PEER: product keys over a million experts of one neuron each.

Letters: N tokens, D hidden, H heads, n keys per side, n^2 experts (of all heads or of each), m of
them per token and head.
A choice reads one row of D from a *down* table (a dot), GELU, and one row of D from an *up* table
(a weighted sum). Source: Mixture of a Million Experts, arXiv 2407.04153, section 2.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import Count, MemoryKind, Size, Width
from costmodel.layers.kernel_shape import Rows
from costmodel.layers.letters import Letter
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.primitives import activation_flops
from costmodel.layers.product_key_retrieve import (
    product_key_letters,
    product_key_query,
    product_key_retrieve,
)
from costmodel.layers.site import Site
from costmodel.layers.touched import Touched
from costmodel.strict import STRICT

SOURCE = "arXiv 2407.04153, section 2"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Peer(MemoryKind):
    """One-neuron experts found by product keys, in place of the FFN.

    The paper gives each layer tables of its own, from which all its heads choose. `shared_table`
    makes all layers read one pair of tables; `table_per_head` gives each head n^2 experts of its
    own. `key_dim` is the width of one side: half of what code states that names both halves.
    """

    kind: Literal["peer"] = "peer"
    layers: str
    num_keys: Annotated[  # n
        int, Field(ge=2, le=2**15), Size(sets="parameters", label="Keys per side")
    ]
    num_heads: Count  # H
    knn: Annotated[Count, Size(chosen=True, label="Rows read a token and head (knn)")]  # m
    key_dim: Annotated[Width, Size(step=32, label="Key width per side")]  # Dk
    shared_keys: bool = True  # all heads choose with the same product keys
    shared_table: bool = False  # one pair of tables for all layers; else one each
    table_per_head: bool = False  # H n^2 experts in a pair of tables: n^2 for each head
    query_norm: bool = True
    replaces_ffn: bool = True

    @property
    def in_place_of_ffn(self) -> bool:
        """Whether its blocks have no FFN: `replaces_ffn`."""
        return self.replaces_ffn

    def __post_init__(self) -> None:
        """The experts read must exist."""
        if self.knn > self.num_keys**2:
            raise InputError(
                f"knn={self.knn}: exceeds the {self.num_keys**2} rows of num_keys={self.num_keys}"
            )

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """H, n, m, f, Dk."""
        del operator, step
        return product_key_letters(self.num_heads, self.num_keys, self.knn, self.key_dim)

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """query, retrieve, down, up."""
        n, a, d = step.tokens, step.activation_bytes, site.hidden_size
        reads = self.num_heads * self.knn
        touched = self._touched(site, step)
        distinct = touched.distinct
        down, up = (self._table(name, touched.population, d) for name in ("down", "up"))
        indices = n * reads * INDEX_BYTES
        shape = Rows(reads=n * reads, row_bytes=down.row_bytes(step))
        return [
            product_key_query(
                site,
                step,
                num_heads=self.num_heads,
                key_dim=self.key_dim,
                query_norm=self.query_norm,
            ),
            product_key_retrieve(
                site,
                step,
                num_keys=self.num_keys,
                num_heads=self.num_heads,
                knn=self.knn,
                key_dim=self.key_dim,
                shared_keys=self.shared_keys,
            ),
            site.operator(
                "memory.down",
                kind="gather",
                parts=(
                    Part(
                        name="dots",
                        kind="gather",
                        flops=2 * n * reads * d,
                        row_bytes=distinct * down.row_bytes(step),
                        input_bytes=n * d * a + indices,
                        inner_input_bytes=n * reads * d * a,
                        inner_output_bytes=n * reads * (d + 1) * a,
                        shape=shape,
                    ),
                    Part(
                        name="activation",
                        kind="elementwise",
                        flops=activation_flops("gelu", gated=True) * n * reads,
                        input_bytes=n * reads * a,
                        output_bytes=n * reads * a,
                        inner_input_bytes=n * reads * a,
                        operations=2,  # GELU, and the product with the router's weight
                    ),
                ),
                weights=(down,),
                summary="Dot product of the token with one row of each chosen expert, GELU, and the"
                " router's weight",
                formula=f"2 N H m D + {activation_flops('gelu', gated=True)} N H m;"
                " bytes: each distinct row of D once",
                source=SOURCE,
            ),
            site.operator(
                "memory.up",
                kind="gather",
                parts=(
                    Part(
                        name="weighted_sum",
                        kind="gather",
                        flops=2 * n * reads * d,
                        row_bytes=distinct * up.row_bytes(step),
                        input_bytes=n * reads * a + indices,
                        output_bytes=n * d * a,
                        shape=shape,
                    ),
                ),
                weights=(up,),
                touched=touched,
                summary="Weighted sum of one row of each chosen expert",
                formula="2 N H m D; bytes: each distinct row of D once",
                source=SOURCE,
            ),
        ]

    def _touched(self, site: Site, step: Step) -> Touched:
        """Distinct experts that a layer touches: heads with tables of their own share none."""
        experts, tokens, h = self.num_keys**2, step.tokens, self.num_heads
        if self.table_per_head:
            of_a_head = step.routing.expected_distinct(experts, self.knn, tokens, kind="rows")
            distinct, rows = h * of_a_head, h * experts
        else:
            distinct = step.routing.expected_distinct(experts, self.knn, tokens * h, kind="rows")
            rows = experts
        return Touched(
            kind="rows",
            distinct=distinct,
            population=rows,
            chosen_by="memory.retrieve",
            windows=((0, rows),) * site.count if self.shared_table else (),
            table_rows=rows if self.shared_table else 0,
        )

    def _table(self, name: str, rows: int, width: int) -> Weight:
        return Weight(
            name="weight",
            group="memory_values",
            rows=rows,
            cols=width,
            active_rows=self.num_heads * self.knn,
            shared=f"memory.{self.layers}.{name}" if self.shared_table else "",
        )
