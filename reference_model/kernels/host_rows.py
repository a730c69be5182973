"""Rows of a table in pinned host memory, gathered into the GPU's memory.

A pinned tensor has an address that the GPU can read through its link to the host, so a kernel gets
the table's own pointer and reads the rows that are wanted and nothing else. The same kernel reads a
table in HBM.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import block_of

PROGRAMS = 128  # the link is full with few of them, and other kernels run beside them
TILE = 2048  # elements that a program has in flight


@triton.jit
def _gather(table, rows, out, R, W: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    columns = tl.arange(0, BLOCK)
    inside = columns < W
    for first in range(tl.program_id(0) * ROWS, R, tl.num_programs(0) * ROWS):
        number = first + tl.arange(0, ROWS)
        known = number < R
        row = tl.load(rows + number, mask=known, other=0).to(tl.int64)
        mask = known[:, None] & inside[None, :]
        value = tl.load(table + row[:, None] * W + columns[None, :], mask=mask)
        tl.store(out + number[:, None].to(tl.int64) * W + columns[None, :], value, mask=mask)


def gather_rows(table: Tensor, rows: Tensor, out: Tensor, *, programs: int = PROGRAMS) -> None:
    """Copy the rows [R] of a table [V, W] in host memory to out [R, W] in the GPU's memory.

    A row that stands twice in `rows` is read twice, unless L2 still has it. Each row is written to
    out once: R W elements, which L2 takes; they leave it for HBM when other data comes.

    Args:
        table: Pinned, contiguous.
        rows: On the GPU, contiguous.
        out: On the GPU, of the table's dtype, contiguous.
        programs: The most that share the rows.
    """
    count, width = out.shape
    block = block_of(width)
    at_once = max(1, TILE // block)
    grid = min(programs, triton.cdiv(count, at_once))
    _gather[grid,](table, rows, out, count, W=width, BLOCK=block, ROWS=at_once, num_warps=4)
