"""UltraMem and UltraMemV2: Tucker-decomposed product keys over a table of values.

Letters: N tokens, D hidden, H memory heads, n keys per side, R = (n / t)^2 table rows a layer
reaches, m rows read per token and head, Dk key width per side, Dv value and Dp pre-value width,
r Tucker rank, c Tucker cores, t^2 value expansion. From query to rows:
costmodel/layers/ultramem_retrieve.py. Source: UltraMem, arXiv 2411.12364, section 3; UltraMemV2,
arXiv 2508.18756, section 3 and appendix A.
"""

from fractions import Fraction
from functools import lru_cache
from math import isqrt
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import Count, MemoryKind, Size, Width
from costmodel.layers.kernel_shape import Rows
from costmodel.layers.letters import Letter
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Touched, Weight
from costmodel.layers.primitives import RMS_NORM, linear, vector
from costmodel.layers.site import Site
from costmodel.layers.ultramem_retrieve import SOURCE, first_kept, tucker_retrieve
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UltraMem(MemoryKind):
    """UltraMemV2 (pre-values, one table shared through ring windows) and UltraMem (own tables).

    `share_ratio` is the part of the shared table that each layer reaches; None gives every layer a
    table of its own of `knum`^2 rows.
    """

    kind: Literal["ultramem"] = "ultramem"
    layers: str = "all"
    knum: Annotated[  # sqrt(rows that a layer adds to the table)
        int,
        Field(ge=2, le=2**15),
        Size(sets="parameters", label="Keys per side, before sharing (knum)"),
    ]
    share_ratio: (
        Annotated[float, Field(gt=0, le=1), Size(label="Share of the table a layer reaches")] | None
    ) = None
    knn: Annotated[Count, Size(chosen=True, label="Rows read a token and head (knn)")]  # m
    key_dim: Annotated[Width, Size(step=32, label="Key width per side")]  # Dk
    value_dim: Annotated[  # Dv; 64 bytes in bf16 are two sectors of HBM
        Width, Size(step=32, multiple_of="tucker_cores", label="Value width")
    ]
    pre_value_dim: (  # Dp; None: no pre-values (UltraMem)
        Annotated[Width, Size(step=32, label="Pre-value width")] | None
    ) = None
    num_heads: Count = 1  # H
    tucker_rank: Annotated[int, Field(ge=1, le=16)] = 2  # r
    tucker_cores: Annotated[int, Field(ge=1, le=16)] = 2  # c
    value_expansion: Annotated[int, Field(ge=1, le=16)] = 1  # t
    first_stage_topk: Count | None = None
    replaces_ffn: bool = False

    def __post_init__(self) -> None:
        """The rows read must exist, and a value splits evenly over the cores."""
        if self.first_stage_topk is not None and self.first_stage_topk**2 < self.knn:
            raise InputError(
                f"first_stage_topk={self.first_stage_topk}: a grid of {self.first_stage_topk**2}"
                f" cannot give knn={self.knn} rows"
            )
        if self.value_dim % self.tucker_cores:
            raise InputError(
                f"value_dim={self.value_dim}: is not a multiple of"
                f" tucker_cores={self.tucker_cores} (one score a slice)"
            )
        if self.share_ratio is None and self.knn > self.knum**2:
            raise InputError(f"knn={self.knn}: exceeds the {self.knum**2} rows of knum={self.knum}")

    def table_rows(self, num_layers: int) -> int:
        """Rows of the table that `num_layers` layers share; of one own table without sharing."""
        return self.knum**2 * (1 if self.share_ratio is None else num_layers)

    def row_keys(self, num_layers: int) -> int:
        """sqrt(R): floor(sqrt(rows_all * share_ratio)), or `knum` with a table of its own."""
        if self.share_ratio is None:
            return self.knum
        ratio = _as_fraction(self.share_ratio)
        return isqrt(self.table_rows(num_layers) * ratio.numerator // ratio.denominator)

    def check(self, num_layers: int, hidden_size: int) -> None:
        """The rows read must lie within a layer's window."""
        del hidden_size
        reached = self.row_keys(num_layers) ** 2
        if self.knn > reached:
            raise InputError(
                f"memory.knn={self.knn}: exceeds the {reached} rows that a layer reaches"
                f" (share_ratio={self.share_ratio}, {num_layers} memory layers)"
            )

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """H, n, m, f, Dk, Dv, r, c, t, and Dp where there are pre-values."""
        del step
        keys = self.row_keys(operator.count) * self.value_expansion
        first = first_kept(self.first_stage_topk, self.knn, keys)
        letters = [
            Letter("H", self.num_heads, "memory heads"),
            Letter("n", keys, "keys per side"),
            Letter("m", self.knn, "rows read per token and head"),
            Letter("f", first, "keys kept per side before the grid"),
            Letter("Dk", self.key_dim, "key width per side"),
            Letter("Dv", self.value_dim, "value width"),
            Letter("r", self.tucker_rank, "Tucker rank"),
            Letter("c", self.tucker_cores, "Tucker cores"),
            Letter("t", self.value_expansion, "value expansion: t^2 groups of values"),
        ]
        if self.pre_value_dim is not None:
            letters.append(Letter("Dp", self.pre_value_dim, "pre-value width"))
        return tuple(letters)

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """query, retrieve, (pre_projection, pre_values,) values, output."""
        row_keys = self.row_keys(site.count)
        distinct = step.routing.expected_distinct(
            row_keys**2, self.knn, step.tokens * self.num_heads, kind="rows"
        )
        windows = tuple(
            (index * self.knum**2 % self.table_rows(site.count), row_keys**2)
            for index in range(site.count)
        )
        touched = Touched(
            kind="rows",
            distinct=distinct,
            population=row_keys**2,
            chosen_by="memory.retrieve",
            windows=windows if self.share_ratio is not None else (),
            table_rows=self.table_rows(site.count) if self.share_ratio is not None else 0,
        )
        operators = [
            self._query(site, step),
            tucker_retrieve(
                site,
                step,
                row_keys=row_keys,
                num_heads=self.num_heads,
                knn=self.knn,
                key_dim=self.key_dim,
                rank=self.tucker_rank,
                cores=self.tucker_cores,
                value_expansion=self.value_expansion,
                first_stage_topk=self.first_stage_topk,
            ),
        ]
        if self.pre_value_dim is not None:
            operators.append(
                linear(
                    "memory.pre_projection",
                    site,
                    step,
                    inputs=site.hidden_size,
                    outputs=self.pre_value_dim,
                    group="memory_projections",
                    summary="Projection of the token to the width of pre-values",
                    formula="2 N D Dp",
                    source=SOURCE,
                )
            )
            operators.append(self._pre_values(site, step, self.pre_value_dim, touched))
        return [
            *operators,
            self._values(site, step, touched),
            linear(
                "memory.output",
                site,
                step,
                inputs=self.value_expansion**2 * self.value_dim,
                outputs=site.hidden_size,
                group="memory_projections",
                summary="Projection of the summed values back to the hidden size",
                formula="2 N t^2 Dv D",
                source=SOURCE,
            ),
        ]

    def _query(self, site: Site, step: Step) -> Operator:
        """D to 2 Dk, and RMSNorm of each half: one query shared by ranks and heads."""
        elements = step.tokens * 2 * self.key_dim
        weight = vector("norm", "norm", self.key_dim)
        return linear(
            "memory.query",
            site,
            step,
            inputs=site.hidden_size,
            outputs=2 * self.key_dim,
            group="memory_projections",
            name="query",
            extra=(
                Part(
                    name="query_norm",
                    kind="norm",
                    flops=RMS_NORM * elements,
                    weight_bytes=weight.stored_bytes(step),
                    output_bytes=elements * step.activation_bytes,
                    inner_input_bytes=elements * step.activation_bytes,
                    routing=True,
                ),
            ),
            extra_weights=(weight,),
            routing=True,
            summary="One query of two halves for all heads and ranks, each half normalised",
            formula=f"2 N D (2 Dk) + {RMS_NORM} N (2 Dk)",
            source=SOURCE,
        )

    def _rows(self, name: str, width: int, num_layers: int) -> Weight:
        return Weight(
            name="weight",
            group="memory_values",
            rows=self.table_rows(num_layers),
            cols=width,
            active_rows=self.num_heads * self.knn,
            shared="" if self.share_ratio is None else f"memory.{self.layers}.{name}",
        )

    def _pre_values(self, site: Site, step: Step, width: int, touched: Touched) -> Operator:
        """Dot of the projected input with m rows of Dp a head, times c core scores each."""
        n, a, reads = step.tokens, step.activation_bytes, self.num_heads * self.knn
        table = self._rows("pre_values", width, site.count)
        return site.operator(
            "memory.pre_values",
            kind="gather",
            parts=(
                Part(
                    name="dots",
                    kind="gather",
                    flops=n * (2 * reads * width),
                    row_bytes=touched.distinct * table.row_bytes(step),
                    input_bytes=n * (width * a + reads * INDEX_BYTES),
                    inner_input_bytes=n * (reads * width * a),
                    inner_output_bytes=n * (reads * (width + 1) * a),
                    shape=Rows(reads=n * reads, row_bytes=table.row_bytes(step)),
                ),
                Part(
                    name="weights",
                    kind="selection",
                    flops=n * (self.tucker_cores * reads),
                    input_bytes=n * (self.tucker_cores * reads * a),
                    output_bytes=n * (self.tucker_cores * reads * a),
                    inner_input_bytes=n * (reads * a),
                    routing=True,
                ),
            ),
            weights=(table,),
            summary="Dot product of the projected token with each chosen row, times the row's c"
            " scores",
            formula="2 N H m Dp + c N H m; bytes: each distinct row of Dp once",
            source="arXiv 2508.18756, section 3",
        )

    def _values(self, site: Site, step: Step, touched: Touched) -> Operator:
        """Weighted sum of m rows of Dv a head (into t^2 groups when values are expanded)."""
        n, a, reads = step.tokens, step.activation_bytes, self.num_heads * self.knn
        table = self._rows("values", self.value_dim, site.count)
        out = self.value_expansion**2 * self.value_dim
        return site.operator(
            "memory.values",
            kind="gather",
            parts=(
                Part(
                    name="weighted_sum",
                    kind="gather",
                    flops=n * (2 * reads * self.value_dim),
                    row_bytes=touched.distinct * table.row_bytes(step),
                    input_bytes=n * (reads * (INDEX_BYTES + self.tucker_cores * a)),
                    output_bytes=n * (out * a),
                    shape=Rows(  # a row is read in one slice for each core
                        reads=n * reads * self.tucker_cores,
                        row_bytes=table.row_bytes(step) / self.tucker_cores,
                    ),
                ),
            ),
            weights=(table,),
            touched=touched,
            summary="Weighted sum of the m rows that each head chose, in t^2 groups",
            formula="2 N H m Dv; bytes: each distinct row of Dv once",
            source=SOURCE,
        )


@lru_cache(maxsize=64)  # designs by the thousand share a ratio
def _as_fraction(ratio: float) -> Fraction:
    """The simplest fraction near a decimal: 0.05 means 1/20."""
    return Fraction(ratio).limit_denominator(10**6)
