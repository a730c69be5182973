"""Dense products of a handful of tokens without the matrix unit, norm and residual included.

One block holds R rows of the weight whole, in registers, and multiplies them by every token: each
weight is read once, and asked for before the previous kernel has finished (see `launch`). The
RMSNorm in front of a projection costs less here than as a launch of its own, since every block
needs the whole row of each token anyway. For one token this is faster than cuBLAS; from how many
tokens on it is not, the benchmark measures.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import block_of, launch_options, wait_for_previous
from reference_model.kernels.norm import normalised


@triton.jit
def _linear(
    x,
    weight,
    bias,
    gamma,
    residual,
    out,
    eps,
    N,
    D: tl.constexpr,
    T: tl.constexpr,
    R: tl.constexpr,
    BLOCK: tl.constexpr,
    NORM: tl.constexpr,
    BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr,
    PDL: tl.constexpr,
):
    rows = tl.program_id(0) * R + tl.arange(0, R)
    offsets = tl.arange(0, BLOCK)
    inside = offsets < D
    there = rows < N
    at = rows[:, None].to(tl.int64) * D + offsets[None, :]
    loaded = there[:, None] & inside[None, :]
    w = tl.load(weight + at, mask=loaded, other=0.0, eviction_policy="evict_first")
    wait_for_previous(PDL)
    for token in tl.static_range(T):
        a = tl.load(x + token * D + offsets, mask=inside, other=0.0).to(tl.float32)
        if NORM:
            a = normalised(a, gamma, offsets, inside, eps, D)
        y = tl.sum(w.to(tl.float32) * a[None, :], 1)
        if BIAS:
            y += tl.load(bias + rows, mask=there, other=0.0).to(tl.float32)
        if RESIDUAL:
            y += tl.load(residual + token * N + rows, mask=there, other=0.0).to(tl.float32)
        tl.store(out + token * N + rows, y.to(out.dtype.element_ty), mask=there)


def linear(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    *,
    bias: Tensor | None = None,
    gamma: Tensor | None = None,
    eps: float = 1e-6,
    residual: Tensor | None = None,
    rows: int = 2,
    warps: int = 4,
    pdl: bool = False,
) -> None:
    """Compute out [T, N] = norm(x [T, D]) weight [N, D]^T + bias + residual.

    The norm is taken where `gamma` [D] is given. `residual` may be `out` itself.
    """
    tokens, width = x.shape
    outputs = weight.shape[0]
    _linear[triton.cdiv(outputs, rows),](
        x,
        weight,
        x if bias is None else bias,
        x if gamma is None else gamma,
        x if residual is None else residual,
        out,
        eps,
        outputs,
        D=width,
        T=tokens,
        R=rows,
        BLOCK=block_of(width),
        NORM=gamma is not None,
        BIAS=bias is not None,
        RESIDUAL=residual is not None,
        **launch_options(pdl=pdl, warps=warps),
    )
