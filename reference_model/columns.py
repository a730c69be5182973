"""A selector of hashed rows: each head reads a table of its own, and no two have equally many rows.

The tables of all heads stand one behind the other, so that one gather reads them.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from reference_model.leaf import Factory, Selector
from reference_model.synthetic_routing import Popularity


class ColumnSelector(Selector):
    """Selects one row of each of G tables for each of N tokens."""

    moduli: Tensor  # [G] rows of each table
    starts: Tensor  # [G] first row of each table among those of all

    def __init__(self, factory: Factory, table_rows: Sequence[int]) -> None:
        super().__init__("rows", population=max(table_rows), draws=1, heads=len(table_rows))
        self.table_rows = tuple(table_rows)
        starts = (0, *accumulate(table_rows))[:-1]
        for name, values in (("moduli", table_rows), ("starts", starts)):
            tensor = torch.tensor(values, dtype=torch.int64, device=factory.device)
            self.register_buffer(name, tensor)

    @property
    def items(self) -> int:
        """Rows of all tables."""
        return sum(self.table_rows)

    def of_heads(self, choice: Tensor) -> Tensor:
        """Rows [N, G] within each table to rows among those of all tables."""
        return choice + self.starts

    def drawn(self, law: Popularity, tokens: int, *, generator: torch.Generator) -> Tensor:
        """Rows [N, G] that follow a law within each table."""
        columns = [law.rows(tokens, rows, 1, generator=generator) for rows in self.table_rows]
        return self.of_heads(torch.cat(columns, dim=1))
