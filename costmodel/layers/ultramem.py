"""UltraMem and UltraMemV2: Tucker-decomposed product keys over a table of values.

Letters: N tokens, D hidden, H memory heads, n keys per side, R = (n / t)^2 table rows a layer
reaches, m rows read per token and head, Dk key width per side, Dv value and Dp pre-value width,
r Tucker rank, c Tucker cores, t^2 value expansion. From token to row indices:
costmodel/layers/ultramem_retrieve.py; rows of the table: costmodel/layers/ultramem_rows.py.
Source: UltraMem, arXiv 2411.12364, section 3; UltraMemV2, arXiv 2508.18756, section 3 and
appendix A.
"""

from fractions import Fraction
from functools import lru_cache
from math import isqrt
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import Count, MemoryKind, Size, Width
from costmodel.layers.letters import Letter
from costmodel.layers.operator import Operator, Step, Weight
from costmodel.layers.primitives import linear
from costmodel.layers.site import Site
from costmodel.layers.touched import Touched
from costmodel.layers.ultramem_retrieve import SOURCE, first_kept, tucker_query, tucker_retrieve
from costmodel.layers.ultramem_rows import expanded_values, pre_values
from costmodel.strict import STRICT

Outputs = Literal["shared", "per_group"]
"""What an expanded value goes through: one projection of the groups' sum, or one for each group."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UltraMem(MemoryKind):
    """UltraMemV2 (pre-values, one table shared through ring windows) and UltraMem (own tables).

    `share_ratio` is the part of the shared table that each layer reaches; None gives every layer a
    table of its own of `knum`^2 rows. `key_dim` is the width of one side; public run files of PKM
    and Memory+ state both halves together.

    `value_expansion` t gives each row t^2 keys, in t^2 groups. UltraMem sums the rows of each group
    apart, and each group has its own output projection ("per_group": t^2 Dv to D). UltraMemV2 sums
    all groups and projects once ("shared": Dv to D). Where `value_expansion_outputs` is not stated,
    a layer with pre-values gets UltraMemV2's form, one without them UltraMem's.
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
    query_per_rank: bool = False  # each Tucker rank has a query of its own: D to r 2 Dk
    value_expansion: Annotated[int, Field(ge=1, le=16)] = 1  # t
    value_expansion_outputs: Outputs | None = None  # filled in: never None in a layer
    first_stage_topk: Count | None = None
    replaces_ffn: bool = False

    @property
    def in_place_of_ffn(self) -> bool:
        """Whether its blocks have no FFN: `replaces_ffn`."""
        return self.replaces_ffn

    def __post_init__(self) -> None:
        """The rows read must exist, and a value splits evenly over the cores."""
        if self.value_expansion_outputs is None:
            outputs: Outputs = "per_group" if self.pre_value_dim is None else "shared"
            object.__setattr__(self, "value_expansion_outputs", outputs)  # it is frozen
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

    @property
    def num_queries(self) -> int:
        """q: queries of two halves that a token makes, one for all Tucker ranks or one for each."""
        return self.tucker_rank if self.query_per_rank else 1

    @property
    def output_groups(self) -> int:
        """Groups of expanded values that have an output projection of their own."""
        return self.value_expansion**2 if self.value_expansion_outputs == "per_group" else 1

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
        """H, q, n, m, f, Dk, Dv, r, c, t, and Dp where there are pre-values."""
        del step
        keys = self.row_keys(operator.count) * self.value_expansion
        first = first_kept(self.first_stage_topk, self.knn, keys)
        letters = [
            Letter("H", self.num_heads, "memory heads"),
            Letter("q", self.num_queries, "queries of a token, for all Tucker ranks or for each"),
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
            tucker_query(site, step, key_dim=self.key_dim, num_queries=self.num_queries),
            tucker_retrieve(
                site,
                step,
                row_keys=row_keys,
                num_heads=self.num_heads,
                knn=self.knn,
                key_dim=self.key_dim,
                rank=self.tucker_rank,
                num_queries=self.num_queries,
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
            operators.append(
                pre_values(
                    site,
                    step,
                    self._table("pre_values", self.pre_value_dim, site.count),
                    touched,
                    cores=self.tucker_cores,
                )
            )
        per_group = self.value_expansion_outputs == "per_group"
        return [
            *operators,
            expanded_values(
                site,
                step,
                self._table("values", self.value_dim, site.count),
                touched,
                cores=self.tucker_cores,
                groups=self.output_groups,
            ),
            linear(
                "memory.output",
                site,
                step,
                inputs=self.output_groups * self.value_dim,
                outputs=site.hidden_size,
                group="memory_projections",
                summary="Projection of the summed values back to the hidden size",
                formula="2 N t^2 Dv D" if per_group else "2 N Dv D",
                source=SOURCE,
            ),
        ]

    def _table(self, name: str, width: int, num_layers: int) -> Weight:
        return Weight(
            name="weight",
            group="memory_values",
            rows=self.table_rows(num_layers),
            cols=width,
            active_rows=self.num_heads * self.knn,
            shared="" if self.share_ratio is None else f"memory.{self.layers}.{name}",
        )


@lru_cache(maxsize=64)  # designs by the thousand share a ratio
def _as_fraction(ratio: float) -> Fraction:
    """The simplest fraction near a decimal: 0.05 means 1/20."""
    return Fraction(ratio).limit_denominator(10**6)
