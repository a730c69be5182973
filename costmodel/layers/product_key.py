"""Product-key memory and Memory+: sums of two half-scores over a table of values.

Letters: N tokens, D hidden, H heads, n keys per side, n^2 rows, m rows read per token and head,
Dk key width per side, Dv value width. Source: PKM, arXiv 1907.05242, section 3; Memory+,
Memory Layers at Scale, arXiv 2412.09764, section 3.
"""

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import Count, MemoryKind, Size, Width
from costmodel.layers.kernel_shape import Rows
from costmodel.layers.letters import Letter, sum_of
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.primitives import activation_flops, linear
from costmodel.layers.product_key_retrieve import (
    SOURCE,
    product_key_letters,
    product_key_query,
    product_key_retrieve,
)
from costmodel.layers.site import Site
from costmodel.layers.touched import Touched
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProductKey(MemoryKind):
    """PKM (neither gate nor output projection) and Memory+ (both), one table for all its layers.

    `key_dim` is the width of one side. The public run files of PKM (`mem_k_dim`, 256 by default)
    and of Memory+ state both halves of a key together: twice the `key_dim` of this layer.
    """

    kind: Literal["product_key"] = "product_key"
    layers: str
    num_keys: Annotated[  # n
        int, Field(ge=2, le=2**15), Size(sets="parameters", label="Keys per side")
    ]
    num_heads: Count  # H
    knn: Annotated[Count, Size(chosen=True, label="Rows read a token and head (knn)")]  # m
    key_dim: Annotated[  # Dk: half of the width that run files of PKM and Memory+ state
        Width, Size(step=32, label="Key width per side")
    ]
    value_dim: Annotated[Width, Size(step=32, label="Value width")]  # Dv
    gate: bool = False  # out * silu(W x), D to Dv
    output_projection: bool = False  # Dv to D
    projection_bias: bool = False  # of query, gate and output projection
    qk_norm: bool = True
    shared_table: bool = True  # one table for all layers; else one each
    replaces_ffn: bool = True

    @property
    def in_place_of_ffn(self) -> bool:
        """Whether its blocks have no FFN: `replaces_ffn`."""
        return self.replaces_ffn

    def __post_init__(self) -> None:
        """The rows read must exist."""
        if self.knn > self.num_keys**2:
            raise InputError(
                f"knn={self.knn}: exceeds the {self.num_keys**2} rows of num_keys={self.num_keys}"
            )

    def check(self, num_layers: int, hidden_size: int) -> None:
        """Without an output projection the rows are as wide as the model."""
        del num_layers
        if not self.output_projection and self.value_dim != hidden_size:
            raise InputError(
                f"memory.value_dim={self.value_dim}: differs from hidden_size={hidden_size}, and"
                " output_projection is false"
            )

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """H, n, m, f, Dk, Dv."""
        del operator, step
        return (
            *product_key_letters(self.num_heads, self.num_keys, self.knn, self.key_dim),
            Letter("Dv", self.value_dim, "value width"),
        )

    def for_hidden_size(self, hidden_size: int) -> Self:
        """Without an output projection, rows as wide as the model."""
        return self if self.output_projection else replace(self, value_dim=hidden_size)

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """query, retrieve, values, (gate,) (output)."""
        d = site.hidden_size
        operators = [
            product_key_query(
                site,
                step,
                num_heads=self.num_heads,
                key_dim=self.key_dim,
                query_norm=self.qk_norm,
                bias=self.projection_bias,
            ),
            product_key_retrieve(
                site,
                step,
                num_keys=self.num_keys,
                num_heads=self.num_heads,
                knn=self.knn,
                key_dim=self.key_dim,
                key_norm=self.qk_norm,
            ),
            self._values(site, step),
        ]
        if self.gate:
            gated = step.tokens * self.value_dim * step.activation_bytes
            operators.append(
                linear(
                    "memory.gate",
                    site,
                    step,
                    inputs=d,
                    outputs=self.value_dim,
                    group="memory_projections",
                    bias=self.projection_bias,
                    activation="silu",
                    extra=(
                        Part(
                            name="product",
                            kind="elementwise",
                            flops=step.tokens * self.value_dim,
                            input_bytes=gated,
                            inner_input_bytes=gated,
                            inner_output_bytes=gated,
                        ),
                    ),
                    summary="SiLU of a projection of the token, times the memory's values",
                    formula=sum_of(
                        "2 N D Dv",
                        self.projection_bias and "N Dv",
                        f"{activation_flops('silu', gated=True)} N Dv",
                    ),
                    source="arXiv 2412.09764, section 3",
                )
            )
        if self.output_projection:
            operators.append(
                linear(
                    "memory.output",
                    site,
                    step,
                    inputs=self.value_dim,
                    outputs=d,
                    group="memory_projections",
                    bias=self.projection_bias,
                    summary="Projection from the value width back to the hidden size",
                    formula=sum_of("2 N Dv D", self.projection_bias and "N D"),
                    source="arXiv 2412.09764, section 3",
                )
            )
        return operators

    def _values(self, site: Site, step: Step) -> Operator:
        """Weighted sum of m rows of Dv a head, over all heads."""
        n, a, reads, rows = (
            step.tokens,
            step.activation_bytes,
            self.num_heads * self.knn,
            self.num_keys**2,
        )
        distinct = step.routing.expected_distinct(rows, self.knn, n * self.num_heads, kind="rows")
        table = Weight(
            name="weight",
            group="memory_values",
            rows=rows,
            cols=self.value_dim,
            active_rows=reads,
            shared=f"memory.{self.layers}.values" if self.shared_table else "",
        )
        return site.operator(
            "memory.values",
            kind="gather",
            parts=(
                Part(
                    name="weighted_sum",
                    kind="gather",
                    flops=2 * n * reads * self.value_dim,
                    row_bytes=distinct * table.row_bytes(step),
                    input_bytes=n * reads * (INDEX_BYTES + a),
                    output_bytes=n * self.value_dim * a,
                    shape=Rows(reads=n * reads, row_bytes=table.row_bytes(step)),
                ),
            ),
            weights=(table,),
            touched=Touched(
                kind="rows",
                distinct=distinct,
                population=rows,
                chosen_by="memory.retrieve",
                windows=((0, rows),) * site.count if self.shared_table else (),
                table_rows=rows if self.shared_table else 0,
            ),
            summary="Weighted sum of the m rows that each head chose",
            formula="2 N H m Dv; bytes: each distinct row of Dv once",
            source=SOURCE,
        )
