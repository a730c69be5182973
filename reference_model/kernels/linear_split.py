"""Dense products of up to 64 tokens on the matrix unit, the reduction split among blocks.

A block takes ROWS rows of the weight and a slice of their inputs, which stream through shared
memory by tensor descriptors (TMA). Slices of the same rows leave float32 sums in memory; a counter
tells which of them arrives last, and that one adds them up in their order, so that the result has
the same bits every time. Bias and residual are added there. Two things were tried and dropped:
holding a tile in registers, asked for before the previous kernel has finished (up to twice the time
at 64 tokens); and asking for the first bytes of each row, for the L2, before that wait (steps 0.1
to 2 % slower).
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from reference_model.kernels.launch import block_of, launch_options, wait_for_previous

LEAST, MOST = 16, 64  # tokens of a block


@triton.jit
def _linear_split(
    x, weight, bias, residual, out, partial, arrived, T, N,
    K: tl.constexpr, SLICE: tl.constexpr, BLOCK_T: tl.constexpr, ROWS: tl.constexpr,
    DEPTH: tl.constexpr, STAGES: tl.constexpr, SPLITS: tl.constexpr, BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    split = tl.program_id(0)
    tile = tl.program_id(1)
    rows = tile * ROWS + tl.arange(0, ROWS)
    there = rows < N
    begin = split * SLICE
    end = tl.minimum(begin + SLICE, K)
    token = tl.arange(0, BLOCK_T)
    real = token < T
    wait_for_previous(PDL)
    source = x + token[:, None] * K + tl.arange(0, DEPTH)[None, :]
    total = tl.zeros((ROWS, BLOCK_T), tl.float32)
    for k in tl.range(begin, end, DEPTH, num_stages=STAGES):
        a = tl.load(source + k, mask=real[:, None], other=0.0)
        total = tl.dot(weight.load([tile * ROWS, k]), a.T, total, input_precision="ieee")
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
    """A block's rows, the slices of the inputs, inputs a step, stages in flight, warps."""

    rows: int
    splits: int
    depth: int
    stages: int
    warps: int = 4

    def slice_of(self, inputs: int) -> int:
        """Inputs of a slice: whole steps; the last slice may have fewer."""
        assert inputs % self.depth == 0, (inputs, self.depth)
        return -(-inputs // (self.depth * self.splits)) * self.depth


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitBuffers:
    """Where blocks leave their sums; products that run one after another share it."""

    partial: Tensor  # float32
    arrived: Tensor  # int32, zero between launches

    @classmethod
    def make(cls, outputs: int, tile: SplitTile, tokens: int, device: str) -> "SplitBuffers":
        """Room for products with so many outputs."""
        count = triton.cdiv(outputs, tile.rows)
        elements = count * tile.splits * tile.rows * block_of_tokens(tokens)
        return cls(
            partial=torch.zeros(elements, device=device),
            arrived=torch.zeros(count, device=device, dtype=torch.int32),
        )


def block_of_tokens(tokens: int) -> int:
    """The tokens that a block has room for: 16, 32 or 64."""
    assert tokens <= MOST, tokens
    return max(LEAST, block_of(tokens))


def linear_split(
    x: Tensor,
    weight: TensorDescriptor,
    out: Tensor,
    tile: SplitTile,
    buffers: SplitBuffers,
    *,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    pdl: bool = False,
) -> None:
    """Compute out [T, N] = x [T, K] weight [N, K]^T + bias + residual, for T up to 64.

    The weight is described in tiles of tile.rows x tile.depth. `residual` may be `out` itself.
    """
    tokens, inputs = x.shape
    outputs = out.shape[1]
    _linear_split[tile.splits, triton.cdiv(outputs, tile.rows)](
        x, weight, x if bias is None else bias, x if residual is None else residual, out,
        buffers.partial, buffers.arrived, tokens, outputs, K=inputs, SLICE=tile.slice_of(inputs),
        BLOCK_T=block_of_tokens(tokens), ROWS=tile.rows, DEPTH=tile.depth, STAGES=tile.stages,
        SPLITS=tile.splits, BIAS=bias is not None, RESIDUAL=residual is not None,
        **launch_options(pdl=pdl, warps=tile.warps, stages=tile.stages),
    )  # fmt: skip
