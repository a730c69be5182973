"""A memory layer addressed by hashes of its input: no scores and no top-k."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.layers.base import Count, MemoryKind, Size, Width
from costmodel.layers.kernel_shape import Rows
from costmodel.layers.operator import Operator, Part, Step, Weight
from costmodel.layers.primitives import linear
from costmodel.layers.site import Site
from costmodel.strict import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HashMemory(MemoryKind):
    """h hashes of a token choose h of N rows, whose sum is projected."""

    kind: Literal["hash_memory"] = "hash_memory"
    layers: str
    num_rows: Annotated[  # N
        int, Field(ge=1, le=2**24), Size(sets="parameters", label="Rows of a layer")
    ]
    num_hashes: Annotated[Count, Size(chosen=True, label="Rows read a token")]  # h
    row_dim: Annotated[Width, Size(step=32, multiple_of="num_slices", label="Row width")]  # R
    num_slices: Count = 1
    share: Annotated[float, Field(gt=0, le=1), Size(label="Share of rows in use")] | None = None
    replaces_ffn: bool = False

    def __post_init__(self) -> None:
        """The rows read must exist, and be cut evenly."""
        if self.num_hashes > self.num_rows:
            raise InputError(f"num_hashes={self.num_hashes}: exceeds num_rows={self.num_rows}")
        if self.row_dim % self.num_slices:
            raise InputError(
                f"row_dim={self.row_dim}: is no multiple of num_slices={self.num_slices}"
            )

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """values, output."""
        n, a, h, width = step.tokens, step.activation_bytes, self.num_hashes, self.row_dim
        table = Weight(
            name="weight", group="memory_values", rows=self.num_rows, cols=width, active_rows=h
        )
        distinct = step.routing.expected_distinct(self.num_rows, h, n, kind="rows")
        values = site.operator(
            "memory.values",
            kind="gather",
            parts=(
                Part(
                    name="sum",
                    kind="gather",
                    flops=2 * n * h * width,
                    row_bytes=distinct * table.row_bytes(step),
                    output_bytes=n * width * a,
                    shape=Rows(reads=n * h, row_bytes=table.row_bytes(step)),
                ),
            ),
            weights=(table,),
            formula="2 N h R",
            source="a toy",
        )
        output = linear(
            "memory.output",
            site,
            step,
            inputs=width,
            outputs=site.hidden_size,
            group="memory_projections",
            formula="2 N R D",
            source="a toy",
        )
        return [values, output]
