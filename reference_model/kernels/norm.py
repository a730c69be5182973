"""RMSNorm with what waits to be added before it: a sublayer's output, or the experts' results.

The residual stream is read, added to, and written once, by one program a token that holds the whole
row. The sum is rounded to the stream's type before the norm is taken of it, so that stream and norm
agree as they do in plain PyTorch; until then it is float32.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import block_of, launch_options, wait_for_previous

MANY = 4096  # elements of all rows a token from which eight warps share them


@triton.jit
def normalised(x, gamma, offsets, inside, eps, D: tl.constexpr):
    """RMSNorm of a row x [BLOCK] of D elements, zero beyond them; for kernels that norm first."""
    scale = tl.rsqrt(tl.sum(x * x, 0) / D + eps)
    return x * scale * tl.load(gamma + offsets, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def _add_norm(
    stream,
    add,
    results,
    places,
    weights,
    gamma,
    out,
    eps,
    T,
    D: tl.constexpr,
    TOP_K: tl.constexpr,
    BLOCK: tl.constexpr,
    ADDS: tl.constexpr,
    PLACED: tl.constexpr,
    EVERY: tl.constexpr,
    PDL: tl.constexpr,
):
    line = tl.program_id(0).to(tl.int64)
    token = line * EVERY + (EVERY - 1)
    offsets = tl.arange(0, BLOCK)
    inside = offsets < D
    wait_for_previous(PDL)
    row = tl.load(stream + token * D + offsets, mask=inside, other=0.0).to(tl.float32)
    for number in tl.static_range(ADDS):
        at = (number * T + token) * D + offsets
        row += tl.load(add + at, mask=inside, other=0.0).to(tl.float32)
    for j in tl.static_range(TOP_K):
        pair = token * TOP_K + j
        place = tl.load(places + pair).to(tl.int64) if PLACED else pair
        result = tl.load(results + place * D + offsets, mask=inside, other=0.0)
        row += tl.load(weights + pair) * result.to(tl.float32)
    if ADDS + TOP_K > 0:
        rounded = row.to(stream.dtype.element_ty)
        tl.store(stream + token * D + offsets, rounded, mask=inside)
        row = rounded.to(tl.float32)
    normed = normalised(row, gamma, offsets, inside, eps, D)
    tl.store(out + line * D + offsets, normed.to(out.dtype.element_ty), mask=inside)


def add_norm(
    stream: Tensor,
    gamma: Tensor,
    out: Tensor,
    *,
    eps: float,
    add: Tensor | None = None,
    results: Tensor | None = None,
    weights: Tensor | None = None,
    places: Tensor | None = None,
    every: int = 1,
    pdl: bool = False,
) -> None:
    """Add to the stream [T, D] in place and write its RMSNorm to `out` [T, D].

    `add`, one [T, D] or several [.., T, D], is added as it is (outputs of attention, memory layers,
    shared experts). `results` [T k, D] are the experts', a row a pair, and are added by `weights`
    [T, k] in float32; with `places` [T, k] the row of a pair stands at its place. Of every so many
    tokens only the last is taken, if `every` says so: `out` is [T / every, D] then, and the other
    rows of the stream stay.
    """
    tokens, width = out.shape
    assert stream.shape == (tokens * every, width), (stream.shape, out.shape, every)
    top_k = 0 if weights is None else weights.shape[1]
    _add_norm[tokens,](
        stream,
        stream if add is None else add,
        stream if results is None else results,
        stream if places is None else places,
        stream if weights is None else weights,
        gamma,
        out,
        eps,
        stream.shape[0],
        D=width,
        TOP_K=top_k,
        BLOCK=block_of(width),
        ADDS=0 if add is None else add.numel() // stream.numel(),
        PLACED=places is not None,
        EVERY=every,
        **launch_options(pdl=pdl, warps=8 if width * (1 + top_k) >= MANY else 4),
    )
