"""The two norms of latent attention whose queries are compressed too, in one launch.

The down projection leaves a row [q + c + r] a token: compressed query, latent, rotary key. One
program a token and part takes the RMSNorm of the query or of the latent. Where queries are not
compressed, the latent's norm is part of what follows it (`latent_query`), and this kernel is not
needed.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import block_of, launch_options, wait_for_previous
from reference_model.kernels.norm import normalised


@triton.jit
def _norm_row(source, gamma, out, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    inside = offsets < WIDTH
    row = tl.load(source + offsets, mask=inside, other=0.0).to(tl.float32)
    row = normalised(row, gamma, offsets, inside, eps, WIDTH)
    tl.store(out + offsets, row.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _latent_norms(
    query, latent, query_gamma, latent_gamma, query_out, latent_out, eps, query_stride,
    latent_stride,
    q: tl.constexpr, c: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_C: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    wait_for_previous(PDL)
    if tl.program_id(1) == 0:
        source, out = query + token * query_stride, query_out + token * q
        _norm_row(source, query_gamma, out, eps, q, BLOCK_Q)
    else:
        source, out = latent + token * latent_stride, latent_out + token * c
        _norm_row(source, latent_gamma, out, eps, c, BLOCK_C)


def latent_norms(
    query: Tensor,
    latent: Tensor,
    query_out: Tensor,
    latent_out: Tensor,
    *,
    query_gamma: Tensor,
    latent_gamma: Tensor,
    eps: float,
    pdl: bool = False,
) -> None:
    """Write the RMSNorm of the rows query [T, q] and latent [T, c] to contiguous outputs.

    The inputs may be parts of wider rows.
    """
    tokens, q = query.shape
    c = latent.shape[1]
    _latent_norms[tokens, 2](
        query, latent, query_gamma, latent_gamma, query_out, latent_out, eps, query.stride(0),
        latent.stride(0), q=q, c=c, BLOCK_Q=block_of(q), BLOCK_C=block_of(c),
        **launch_options(pdl=pdl, warps=4),
    )  # fmt: skip
