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
from costmodel.layers.kernel_shape import Gemm, Rows, TopK
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Touched, Weight
from costmodel.layers.primitives import RMS_NORM, SOFTMAX, linear, vector
from costmodel.layers.site import Site
from costmodel.strict import STRICT

SOURCE = "arXiv 1907.05242, section 3.1"


def product_key_query(
    site: Site, step: Step, *, num_heads: int, key_dim: int, query_norm: bool
) -> Operator:
    """D to H queries of 2 Dk, normalised per half: 2 N D H 2 Dk and 4 N H 2 Dk FLOPs."""
    outputs = num_heads * 2 * key_dim
    weights: tuple[Weight, ...] = ()
    parts: tuple[Part, ...] = ()
    if query_norm:
        weights = (vector("norm", "norm", key_dim),)
        parts = (
            Part(
                name="query_norm",
                kind="norm",
                flops=RMS_NORM * step.tokens * outputs,
                weight_bytes=weights[0].stored_bytes(step),
                output_bytes=step.tokens * outputs * step.activation_bytes,
                inner_input_bytes=step.tokens * outputs * step.activation_bytes,
                routing=True,
            ),
        )
    return linear(
        "memory.query",
        site,
        step,
        inputs=site.hidden_size,
        outputs=outputs,
        group="memory_projections",
        name="query",
        extra=parts,
        extra_weights=weights,
        routing=True,
        formula="2 N D H 2 Dk; norm 4 N H 2 Dk",
        source=SOURCE,
    )


def product_key_retrieve(
    site: Site,
    step: Step,
    *,
    num_keys: int,
    num_heads: int,
    knn: int,
    key_dim: int,
    shared_keys: bool = False,
    key_norm: bool = False,
) -> Operator:
    """From H queries to m rows each: two half-scores, top-m, the sums of pairs, top-m, softmax.

    Counts per token and head: scores 2 * 2 n Dk, sums f^2, softmax 4 m; compares 2 n + f^2, with
    f = min(m, n). Leaves out: a norm of the keys, which is static and folded into them.
    """
    n, a, h, m = step.tokens, step.activation_bytes, num_heads, knn
    first = min(m, num_keys)
    grid = first**2
    keys = Weight(
        name="keys",
        group="memory_keys",
        rows=2 * num_keys * (1 if shared_keys else h),
        cols=key_dim,
    )
    side_scores = 2 * h * num_keys
    chosen = n * h * m * (INDEX_BYTES + a)
    return site.operator(
        "memory.retrieve",
        kind="selection",
        parts=(
            Part(
                name="scores",
                kind="matmul",
                flops=2 * n * side_scores * key_dim,
                weight_bytes=keys.stored_bytes(step),
                input_bytes=n * h * 2 * key_dim * a,
                inner_output_bytes=n * side_scores * a,
                operations=2,  # of each side
                routing=True,
                shape=(  # of each side; heads with keys of their own are a stack of products
                    Gemm(m=n * h, n=num_keys, k=key_dim, calls=2)
                    if shared_keys
                    else Gemm(m=n, n=h * num_keys, k=key_dim, calls=2)
                ),
            ),
            Part(
                name="first_top_m",
                kind="selection",
                compares=n * side_scores,
                inner_input_bytes=n * side_scores * a,
                inner_output_bytes=n * 2 * h * first * (a + INDEX_BYTES),
                routing=True,
                shape=TopK(rows=n * h, width=num_keys, chosen=first, calls=2),
            ),
            Part(
                name="grid",
                kind="selection",
                flops=n * h * grid,
                inner_input_bytes=n * h * 2 * first * a,
                inner_output_bytes=n * h * grid * a,
                routing=True,
            ),
            Part(
                name="second_top_m",
                kind="selection",
                compares=n * h * grid,
                inner_input_bytes=n * h * grid * a,
                inner_output_bytes=chosen,
                routing=True,
                shape=TopK(rows=n * h, width=grid, chosen=m),
            ),
            Part(
                name="softmax",
                kind="selection",
                flops=SOFTMAX * n * h * m,
                output_bytes=chosen,
                inner_input_bytes=chosen,
                routing=True,
            ),
        ),
        weights=(keys, vector("key_norm", "norm", key_dim)) if key_norm else (keys,),
        formula="N H (4 n Dk + f^2 + 4 m); compares N H (2 n + f^2); f = min(m, n)",
        source=SOURCE,
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProductKey(MemoryKind):
    """PKM (neither gate nor output projection) and Memory+ (both), one table for all its layers."""

    kind: Literal["product_key"] = "product_key"
    layers: str
    num_keys: Annotated[  # n
        int, Field(ge=2, le=2**15), Size(sets="parameters", label="Keys per side")
    ]
    num_heads: Count  # H
    knn: Annotated[Count, Size(chosen=True, label="Rows read a token and head (knn)")]  # m
    key_dim: Annotated[Width, Size(step=32, label="Key width per side")]  # Dk
    value_dim: Annotated[Width, Size(step=32, label="Value width")]  # Dv
    gate: bool = False  # out * silu(W x), D to Dv
    output_projection: bool = False  # Dv to D
    qk_norm: bool = True
    shared_table: bool = True  # one table for all layers; else one each
    replaces_ffn: bool = True

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

    def for_hidden_size(self, hidden_size: int) -> Self:
        """Without an output projection, rows as wide as the model."""
        return self if self.output_projection else replace(self, value_dim=hidden_size)

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """query, retrieve, values, (gate,) (output)."""
        d = site.hidden_size
        found = [
            product_key_query(
                site,
                step,
                num_heads=self.num_heads,
                key_dim=self.key_dim,
                query_norm=self.qk_norm,
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
            found.append(
                linear(
                    "memory.gate",
                    site,
                    step,
                    inputs=d,
                    outputs=self.value_dim,
                    group="memory_projections",
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
                    formula="2 N D Dv; silu 4 and the product 1 per element",
                    source="arXiv 2412.09764, section 3",
                )
            )
        if self.output_projection:
            found.append(
                linear(
                    "memory.output",
                    site,
                    step,
                    inputs=self.value_dim,
                    outputs=d,
                    group="memory_projections",
                    formula="2 N Dv D",
                    source="arXiv 2412.09764, section 3",
                )
            )
        return found

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
            formula="2 N H m Dv; bytes: distinct rows of Dv",
            source=SOURCE,
        )
