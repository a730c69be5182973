"""Memory tables: a layer's window of a table, its rows, weighted sums and dot products of them.

All reads of a table's rows stand here, so that a table may stand in host memory: then a kernel
gathers the rows that a layer reads into the GPU's memory, and what follows is the same arithmetic
on the same numbers.

Shapes: N tokens, m rows read by a token (of all heads), width of a row in elements.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

TablesPlace: TypeAlias = Literal["hbm", "host"]
TABLE_STD = 0.02  # of the elements of a table: as the public code of UltraMem's authors has it


@dataclass(frozen=True, slots=True, kw_only=True)
class TableView:
    """The window of a table that one layer reads; layers that share a table have different windows.

    The rows of the table form a ring, so that a window that passes the last row goes on at row 0.
    """

    table: nn.Parameter  # [rows, width]
    offset: int  # the first row of the window
    copies: int = 1  # t^2: virtual rows that stand for one row of the table (value expansion)

    def rows(self, indices: Tensor) -> Tensor:
        """Indices of (virtual) rows of the window to indices of rows of the table, same shape."""
        if self.copies > 1:
            indices = indices // self.copies
        if self.offset == 0:
            return indices
        return (indices + self.offset) % self.table.shape[0]


def placed(table: Tensor, place: TablesPlace, device: torch.device) -> Tensor:
    """The table in a place: the memory of a device, or pinned memory of the host.

    torch's allocator of pinned memory takes the next power of two of a table's bytes.
    """
    if place == "hbm" or device.type != "cuda":
        return table.to(device)
    pinned = torch.empty(table.shape, dtype=table.dtype, pin_memory=True)
    return pinned.copy_(table)


def apart(table: Tensor, rows: Tensor) -> bool:
    """Whether a table stands in host memory, and what reads it on a GPU."""
    return table.device != rows.device


def row_values(table: Tensor, rows: Tensor) -> Tensor:
    """The rows [...] of a table [V, width], in the memory of the device that reads them.

    Returns:
        [..., width].
    """
    if not apart(table, rows):
        return nn.functional.embedding(rows, table)
    from reference_model.kernels.host_rows import gather_rows

    out = torch.empty(rows.numel(), table.shape[1], dtype=table.dtype, device=rows.device)
    gather_rows(table.detach(), rows.flatten(), out)
    return out.view(*rows.shape, -1)


def within_reach(table: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Table and rows [N, m] such that a PyTorch kernel on the rows' device can read them.

    Of a table in host memory, the rows themselves as a table [N m, width], and their numbers in it.
    It costs N m width elements that are written and read once more, by way of L2.
    """
    if not apart(table, rows):
        return table, rows
    values = row_values(table, rows).flatten(0, 1)
    return values, torch.arange(len(values), device=rows.device).view_as(rows)


def weighted_sum(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sum of the rows [N, m] of the table, each of its c slices times its weight [N, m, c].

    Rows of a table in HBM are summed as they are read and never stored.

    Returns:
        [N, width].
    """
    table, rows = within_reach(table, rows)
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
    """`weighted_sum` of the rows of each group by itself: value expansion.

    The reads of a token are sorted by group, so that each (token, slice, group) is one bag and each
    row is still read once.

    Args:
        table: [rows, width].
        rows: Indices of rows of the table, [N, m].
        weights: [N, m, c].
        groups: The group of each read, [N, m].
        num_groups: How many groups there are.

    Returns:
        [N, num_groups * width], group by group.
    """
    table, rows = within_reach(table, rows)
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
    """Dot product of x [N, width] with each of its rows [N, m] of the table: [N, m]."""
    return torch.bmm(row_values(table, rows), x[..., None])[..., 0]
