"""Value tables: one for each layer or one that layers share, and fused sums over their rows."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class TableView:
    """A layer's part of a table: the shared parameter, and where its ring window starts."""

    table: nn.Parameter  # [rows, width]
    offset: int
    copies: int = 1  # virtual rows that stand for each row of the window (value expansion)

    def rows(self, indices: Tensor) -> Tensor:
        """(Virtual) rows of the window to rows of the table: the window wraps around its end."""
        if self.copies > 1:
            indices = indices // self.copies
        if self.offset == 0:
            return indices
        return (indices + self.offset) % self.table.shape[0]


def weighted_sum(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sum over m of weights [N, m, c] times rows [N, m] of the table, slice by slice: [N, width].

    A row has c slices with a weight each. The rows are summed as they are read, never stored.
    """
    slices = weights.shape[-1]
    if slices == 1:
        return nn.functional.embedding_bag(
            rows, table, per_sample_weights=weights[..., 0], mode="sum"
        )
    tokens, reads = rows.shape
    numbers = torch.arange(slices, device=rows.device)
    index = (rows[:, None] * slices + numbers[:, None]).view(tokens * slices, reads)
    out = nn.functional.embedding_bag(
        index,
        table.view(-1, table.shape[1] // slices),
        per_sample_weights=weights.mT.reshape(tokens * slices, reads),
        mode="sum",
    )
    return out.view(tokens, -1)


def grouped_weighted_sum(
    table: Tensor, rows: Tensor, weights: Tensor, groups: Tensor, num_groups: int
) -> Tensor:
    """`weighted_sum` into a group for each row: groups [N, m] to [N, num_groups * width].

    Reads of a token are sorted by group, so that each (token, slice, group) is one bag and each row
    is still read once.
    """
    tokens, reads = rows.shape
    slices = weights.shape[-1]
    ordered, order = groups.sort(dim=-1, stable=True)
    rows = rows.gather(-1, order)
    weights = weights.gather(1, order[..., None].expand_as(weights))
    numbers = torch.arange(slices, device=rows.device)
    index = rows[:, None] * slices + numbers[:, None]  # [N, c, m]
    starts = torch.searchsorted(
        ordered, torch.arange(num_groups, device=rows.device).expand(tokens, -1).contiguous()
    )
    firsts = torch.arange(tokens * slices, device=rows.device).view(tokens, slices, 1) * reads
    out = nn.functional.embedding_bag(
        index.flatten(),
        table.view(-1, table.shape[1] // slices),
        offsets=(firsts + starts[:, None]).flatten(),
        per_sample_weights=weights.mT.flatten(),
        mode="sum",
    )
    return out.view(tokens, slices, num_groups, -1).transpose(1, 2).reshape(tokens, -1)


def dots(table: Tensor, rows: Tensor, x: Tensor) -> Tensor:
    """Dot of x [N, width] with rows [N, m] of the table: [N, m]."""
    found = nn.functional.embedding(rows, table)
    return torch.bmm(found, x[..., None])[..., 0]
