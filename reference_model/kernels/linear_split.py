"""Dense products of up to 64 tokens on the matrix unit, the reduction split among blocks.

A block takes a tile of the weight, ROWS x DEPTH, whole into registers, and asks for it before the
previous kernel has finished; there is no loop, so nothing but memory is waited for. Tiles of the
same rows leave float32 sums in memory; a counter tells which of them arrives last, and that one
adds them up in their order, so that the result has the same bits every time. Bias and residual are
added there.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import launch_options, wait_for_previous

LEAST, MOST = 16, 64  # tokens of a block


@triton.jit
def _linear_split(
    x, weight, bias, residual, out, partial, arrived, T, N,
    K: tl.constexpr, BLOCK_T: tl.constexpr, ROWS: tl.constexpr, DEPTH: tl.constexpr,
    SPLITS: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    split = tl.program_id(0)
    tile = tl.program_id(1)
    rows = tile * ROWS + tl.arange(0, ROWS)
    at = split * DEPTH + tl.arange(0, DEPTH)
    there = rows < N
    inside = at < K
    w = tl.load(
        weight + rows[:, None].to(tl.int64) * K + at[None, :],
        mask=there[:, None] & inside[None, :], other=0.0, eviction_policy="evict_first",
    )  # fmt: skip
    token = tl.arange(0, BLOCK_T)
    real = token < T
    wait_for_previous(PDL)
    a = tl.load(
        x + token[:, None] * K + at[None, :], mask=real[:, None] & inside[None, :], other=0.0
    )
    total = tl.dot(w, a.T, input_precision="ieee")
    if SPLITS == 1:
        _write(total, bias, residual, out, rows, there, token, real, N, BIAS, RESIDUAL)
    else:
        spot = tl.arange(0, ROWS)[:, None] + token[None, :] * ROWS
        first = partial + tile.to(tl.int64) * (SPLITS * ROWS * BLOCK_T)
        tl.store(first + split * (ROWS * BLOCK_T) + spot, total)
        tl.debug_barrier()
        if tl.atomic_add(arrived + tile, 1, sem="acq_rel") == SPLITS - 1:
            tl.store(arrived + tile, 0)
            total = tl.zeros((ROWS, BLOCK_T), tl.float32)
            for s in tl.static_range(SPLITS):
                total += tl.load(first + s * (ROWS * BLOCK_T) + spot, cache_modifier=".cg")
            _write(total, bias, residual, out, rows, there, token, real, N, BIAS, RESIDUAL)


@triton.jit
def _write(
    total, bias, residual, out, rows, there, token, real, N, BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
):  # fmt: skip
    to = token[None, :] * N + rows[:, None]
    inside = there[:, None] & real[None, :]
    if BIAS:
        total += tl.load(bias + rows, mask=there, other=0.0).to(tl.float32)[:, None]
    if RESIDUAL:
        total += tl.load(residual + to, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + to, total.to(out.dtype.element_ty), mask=inside)


@dataclass(frozen=True, slots=True)
class SplitTile:
    """A block's tile of the weight, and its warps."""

    rows: int = 64
    depth: int = 512
    warps: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitBuffers:
    """Where blocks leave their sums; products that run one after another share it."""

    partial: Tensor  # float32
    arrived: Tensor  # int32, zero between launches

    @classmethod
    def make(
        cls, sizes: list[tuple[int, int, SplitTile]], tokens: int, device: str
    ) -> "SplitBuffers":
        """Room for the largest of the products of (outputs, inputs, tile)."""
        tiles = [
            (triton.cdiv(outputs, tile.rows), triton.cdiv(inputs, tile.depth), tile.rows)
            for outputs, inputs, tile in sizes
        ]
        elements = max((count * splits * rows for count, splits, rows in tiles), default=0)
        return cls(
            partial=torch.zeros(elements * block_of_tokens(tokens), device=device),
            arrived=torch.zeros(
                max((count for count, _, _ in tiles), default=0), device=device, dtype=torch.int32
            ),
        )


def block_of_tokens(tokens: int) -> int:
    """The tokens that a block has room for: 16, 32 or 64."""
    assert tokens <= MOST, tokens
    return max(LEAST, triton.next_power_of_2(tokens))


def linear_split(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    tile: SplitTile,
    buffers: SplitBuffers,
    *,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    pdl: bool = False,
) -> None:
    """Compute out [T, N] = x [T, K] weight [N, K]^T + bias + residual, for T up to 64.

    `residual` may be `out` itself.
    """
    tokens, inputs = x.shape
    outputs = weight.shape[0]
    splits, count = triton.cdiv(inputs, tile.depth), triton.cdiv(outputs, tile.rows)
    _linear_split[splits, count](
        x, weight, x if bias is None else bias, x if residual is None else residual, out,
        buffers.partial, buffers.arrived, tokens, outputs, K=inputs,
        BLOCK_T=block_of_tokens(tokens), ROWS=tile.rows, DEPTH=tile.depth, SPLITS=splits,
        BIAS=bias is not None, RESIDUAL=residual is not None,
        **launch_options(pdl=pdl, warps=tile.warps),
    )  # fmt: skip
