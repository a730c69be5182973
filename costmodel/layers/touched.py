"""What a step touches of experts and of memory tables: distinct items, and bytes of their rows."""

from dataclasses import dataclass
from typing import Literal

from costmodel.layers.numbers import Number
from costmodel.routing.union import expected_union


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """Expected distinct experts or table rows that a step touches in one layer."""

    kind: Literal["experts", "rows"]
    distinct: Number
    population: int
    chosen_by: str  # the leaf that chooses them: "moe.router"
    windows: tuple[tuple[int, int], ...] = ()  # ring windows (start, length) of layers that share
    table_rows: int = 0  # rows of the shared table
    orders: tuple[int, ...] = ()  # of the n-grams that address the rows; none: scores choose them

    @property
    def union(self) -> Number:
        """Distinct rows of the shared table that at least one of its layers touches."""
        return expected_union(self.table_rows, self.windows, self.distinct)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """Bytes of memory-table rows that stand beside the compulsory ones (`Part.row_bytes`)."""

    read_bytes: Number  # each distinct row of a layer, whatever other layers of the table read
    sector_bytes: Number  # what the compulsory rows move, in whole sectors of 32 bytes
    far_bytes: Number = 0  # as `read_bytes`, of tables outside HBM, which the others leave out
    fetched_bytes: Number = 0  # what a layer fetches of those: `Part.fetched_bytes`
    fetched_sector_bytes: Number = 0  # the same in whole sectors
