"""The activations of feed-forward layers and of single neurons: inside other kernels, or alone.

Alone one follows a product of many tokens by cuBLAS, which is so much faster than a kernel of our
own that reading its output once more costs less.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import launch_options, wait_for_previous

BLOCK = 2048  # elements that a block computes: 32 bytes a thread of four warps

CLAMP: tl.constexpr = tl.constexpr(7.0)  # of gpt-oss's activation; arXiv 2508.10925
ALPHA: tl.constexpr = tl.constexpr(1.702)
SLOPE: tl.constexpr = tl.constexpr(1.5957691216057308)  # 2 sqrt(2 / pi)


@triton.jit
def gelu(x):
    """GELU by its approximation with tanh, which is a sigmoid of twice the argument, in float32."""
    return x * tl.sigmoid((x + 0.044715 * x * x * x) * SLOPE)


@triton.jit
def gated(gate, up, ACTIVATION: tl.constexpr):
    """silu(gate) up, or gpt-oss's clamped form of it, in float32."""
    if ACTIVATION == "clamped_silu":
        gate = tl.minimum(gate, CLAMP)
        up = tl.minimum(tl.maximum(up, -CLAMP), CLAMP)
        return gate * tl.sigmoid(gate * ALPHA) * (up + 1)
    else:  # noqa: RET505 - Triton wants one return a branch
        tl.static_assert(ACTIVATION == "silu")
        return gate * tl.sigmoid(gate) * up


@triton.jit
def _activate(
    both, hidden, WIDTH: tl.constexpr, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < WIDTH
    source = both + token * (2 * WIDTH) + column
    wait_for_previous(PDL)
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + WIDTH, mask=inside, other=0.0).to(tl.float32)
    y = gated(gate, up, ACTIVATION)
    tl.store(hidden + token * WIDTH + column, y.to(hidden.dtype.element_ty), mask=inside)


def activate(both: Tensor, hidden: Tensor, *, activation: str, pdl: bool = False) -> None:
    """Compute hidden [T, F] of gates and ups [T, 2 F], gates first."""
    tokens, width = hidden.shape
    _activate[tokens, triton.cdiv(width, BLOCK)](
        both, hidden, WIDTH=width, ACTIVATION=activation, BLOCK=BLOCK,
        **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip
