"""Values of latent attention: slices of the context joined, and mapped out of the latent space.

Attention leaves, for each token and head, a result [c] of every slice and the slice's share. The
joined result is their sum by shares, and goes through the head's `v_up` [v, c]. Every program joins
what it needs as it reads it, so that no launch and no memory lies between the two.

With one token or many slices a program takes one token and a few rows of the weight, whole and
asked for before the previous kernel has finished, without the matrix unit. Otherwise it takes a
tile of tokens and 64 rows on the matrix unit.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.latent_attention import LatentResults
from reference_model.kernels.launch import block_of, launch_options, wait_for_previous

FEW_SLICES = 8  # that a tile of tokens joins, one after another
AT_ONCE = 8  # slices that a program of one token reads together
FEW_ROWS, ROWS = 16, 64  # of the weight: of a program of one token, of a tile
LEAST_TOKENS, MOST_TOKENS = 16, 64
DEPTH = 64  # of the latent space that a tile multiplies a step


@triton.jit
def _values_of_token(
    mixed, shares, weight, out,
    H: tl.constexpr, v: tl.constexpr, c: tl.constexpr, ROWS: tl.constexpr, SLICES: tl.constexpr,
    BLOCK_Z: tl.constexpr, AT_ONCE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    head = tl.program_id(1)
    element = tl.arange(0, c)
    there = rows < v
    at = (head * v + rows)[:, None] * c + element[None, :]
    w = tl.load(weight + at, mask=there[:, None], other=0.0)
    wait_for_previous(PDL)
    group = tl.program_id(2).to(tl.int64) * H + head
    slice_ = tl.arange(0, BLOCK_Z)
    share = tl.load(shares + group * SLICES + slice_, mask=slice_ < SLICES, other=float("-inf"))
    top = tl.max(share, 0)
    below = tl.sum(tl.exp2(share - top), 0)
    some = tl.arange(0, AT_ONCE)
    acc = tl.zeros((AT_ONCE, c), tl.float32)
    for z in tl.static_range(0, SLICES, AT_ONCE):
        real = z + some < SLICES
        spot = group * SLICES + z + some
        share = tl.load(shares + spot, mask=real, other=float("-inf"))
        part = tl.load(
            mixed + spot[:, None] * c + element[None, :], mask=real[:, None], other=0.0
        ).to(tl.float32)
        acc += part * (tl.exp2(share - top) / below)[:, None]
    joined = tl.sum(acc, 0).to(mixed.dtype.element_ty).to(tl.float32)
    y = tl.sum(w.to(tl.float32) * joined[None, :], 1)
    tl.store(out + group * v + rows, y.to(out.dtype.element_ty), mask=there)


@triton.jit
def _values_of_tile(
    mixed, shares, weight, out, T,
    H: tl.constexpr, v: tl.constexpr, c: tl.constexpr, ROWS: tl.constexpr, BLOCK_T: tl.constexpr,
    DEPTH: tl.constexpr, SLICES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    token = (tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)).to(tl.int64)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    head = tl.program_id(2)
    real, there = token < T, rows < v
    element = tl.arange(0, DEPTH)
    spot = (token * H + head) * SLICES
    wait_for_previous(PDL)
    top = tl.zeros((BLOCK_T,), tl.float32)
    below = tl.full((BLOCK_T,), 1.0, tl.float32)
    if SLICES > 1:
        top = tl.full((BLOCK_T,), float("-inf"), tl.float32)
        for z in tl.static_range(SLICES):
            top = tl.maximum(top, tl.load(shares + spot + z, mask=real, other=0.0))
        below = tl.zeros((BLOCK_T,), tl.float32)
        for z in tl.static_range(SLICES):
            below += tl.exp2(tl.load(shares + spot + z, mask=real, other=0.0) - top)
    total = tl.zeros((ROWS, BLOCK_T), tl.float32)
    for k in tl.range(0, c, DEPTH, num_stages=3):
        at = (head * v + rows)[:, None] * c + k + element[None, :]
        w = tl.load(weight + at, mask=there[:, None], other=0.0)
        source = mixed + spot[:, None] * c + k + element[None, :]
        if SLICES == 1:
            a = tl.load(source, mask=real[:, None], other=0.0)
        else:
            joined = tl.zeros((BLOCK_T, DEPTH), tl.float32)
            for z in tl.static_range(SLICES):
                share = tl.load(shares + spot + z, mask=real, other=0.0)
                part = tl.load(source + z * c, mask=real[:, None], other=0.0).to(tl.float32)
                joined += part * (tl.exp2(share - top) / below)[:, None]
            a = joined.to(mixed.dtype.element_ty)
        total = tl.dot(w, a.T, total, input_precision="ieee")
    to = out + (token * H + head)[None, :] * v + rows[:, None]
    tl.store(to, total.to(out.dtype.element_ty), mask=there[:, None] & real[None, :])


def latent_values(
    results: LatentResults, weight: Tensor, out: Tensor, *, pdl: bool = False
) -> None:
    """Join the slices' results of [T, H, slices, c] and map them by `v_up` [H, v, c] to [T, H v].

    The joined result is rounded to the model's format before the product.
    """
    tokens, heads, slices, c = results.mixed.shape
    v = weight.shape[1]
    given = results.mixed, results.shares, weight, out
    if tokens == 1 or slices > FEW_SLICES:
        _values_of_token[triton.cdiv(v, FEW_ROWS), heads, tokens](
            *given, H=heads, v=v, c=c, ROWS=FEW_ROWS, SLICES=slices, BLOCK_Z=block_of(slices),
            AT_ONCE=min(AT_ONCE, block_of(slices)), **launch_options(pdl=pdl, warps=4),
        )  # fmt: skip
        return
    together = min(MOST_TOKENS, max(LEAST_TOKENS, block_of(tokens)))
    _values_of_tile[triton.cdiv(tokens, together), triton.cdiv(v, ROWS), heads](
        *given, tokens, H=heads, v=v, c=c, ROWS=ROWS, BLOCK_T=together, DEPTH=min(DEPTH, c),
        SLICES=slices, **launch_options(pdl=pdl, warps=4, stages=3),
    )  # fmt: skip
