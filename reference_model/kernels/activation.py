"""The activations of gated feed-forward layers: within the kernel before them, or alone."""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import launch_options, wait_for_previous

CLAMP: tl.constexpr = tl.constexpr(7.0)  # of gpt-oss's activation; arXiv 2508.10925
ALPHA: tl.constexpr = tl.constexpr(1.702)
BLOCK = 1024  # elements a block


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
    both, hidden, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ACTIVATION: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < WIDTH
    wait_for_previous(PDL)
    gate = tl.load(both + token * 2 * WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(both + token * 2 * WIDTH + WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    y = gated(gate, up, ACTIVATION).to(hidden.dtype.element_ty)
    tl.store(hidden + token * WIDTH + at, y, mask=inside)


def activate(both: Tensor, hidden: Tensor, *, activation: str, pdl: bool = False) -> None:
    """Gates and ups [T, 2 I] to hidden [T, I]."""
    tokens, width = hidden.shape
    _activate[tokens, triton.cdiv(width, BLOCK)](
        both, hidden, WIDTH=width, BLOCK=BLOCK, ACTIVATION=activation,
        **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip
