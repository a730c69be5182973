"""A memory layer addressed by a hash: no scores, no top-k, m rows of D a token, summed.

Letters: N tokens, D hidden, R rows, m rows read per token. Source: made up for a test.
"""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.layers.base import Count, MemoryKind, Size
from costmodel.layers.kernel_shape import Rows
from costmodel.layers.letters import Letter
from costmodel.layers.operator import INDEX_BYTES, Operator, Part, Step, Weight
from costmodel.layers.site import Site
from costmodel.layers.touched import Touched
from costmodel.strict import STRICT

SOURCE = "a test"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HashMemory(MemoryKind):
    """m rows whose numbers are hashes of the signs of the input."""

    kind: Literal["hash"] = "hash"
    layers: str = "all"
    num_rows: Annotated[  # R
        int, Field(ge=2, le=2**24), Size(sets="parameters", label="Rows of a layer")
    ]
    num_reads: Annotated[Count, Size(chosen=True, label="Rows read a token")] = 4  # m
    replaces_ffn: bool = False

    def letters(self, operator: Operator, step: Step) -> tuple[Letter, ...]:
        """m."""
        del operator, step
        return (Letter("m", self.num_reads, "rows read per token"),)

    def operators(self, site: Site, step: Step) -> list[Operator]:
        """hash, rows."""
        n, a, m, d = step.tokens, step.activation_bytes, self.num_reads, site.hidden_size
        distinct = step.routing.expected_distinct(self.num_rows, 1, n * m, kind="rows")
        table = Weight(
            name="weight", group="memory_values", rows=self.num_rows, cols=d, active_rows=m
        )
        return [
            site.operator(
                "memory.hash",
                kind="selection",
                parts=(
                    Part(
                        name="hash",
                        kind="selection",
                        input_bytes=n * d * a,
                        output_bytes=n * m * INDEX_BYTES,
                        routing=True,
                    ),
                ),
                formula="0",
                source=SOURCE,
            ),
            site.operator(
                "memory.rows",
                kind="gather",
                parts=(
                    Part(
                        name="sum",
                        kind="gather",
                        flops=2 * n * m * d,
                        row_bytes=distinct * table.row_bytes(step),
                        input_bytes=n * m * INDEX_BYTES,
                        output_bytes=n * d * a,
                        shape=Rows(reads=n * m, row_bytes=table.row_bytes(step)),
                    ),
                ),
                weights=(table,),
                touched=Touched(
                    kind="rows",
                    distinct=distinct,
                    population=self.num_rows,
                    chosen_by="memory.hash",
                ),
                formula="2 N m D",
                source=SOURCE,
            ),
        ]
