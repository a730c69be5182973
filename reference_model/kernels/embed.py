"""Rows of the embedding table for the new tokens: one program a token."""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import block_of, launch_options, wait_for_previous


@triton.jit
def _embed(ids, table, out, V, D: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr):
    wait_for_previous(PDL)
    token = tl.program_id(0).to(tl.int64)
    offsets = tl.arange(0, BLOCK)
    inside = offsets < D
    row = tl.load(ids + token)
    row = tl.minimum(tl.maximum(row, 0), V - 1)
    value = tl.load(table + row * D + offsets, mask=inside)
    tl.store(out + token * D + offsets, value, mask=inside)


def embed(ids: Tensor, table: Tensor, out: Tensor, *, pdl: bool = False) -> None:
    """Copy the rows ids [T] of a table [V, D] to out [T, D]; ids outside are clamped into it."""
    _embed[ids.numel(),](
        ids, table, out, table.shape[0], D=table.shape[1], BLOCK=block_of(table.shape[1]),
        **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip
