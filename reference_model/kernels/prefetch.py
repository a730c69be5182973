"""Bytes that a later kernel will read, asked into the L2 while the memory would stand idle.

At one or a few tokens a step is a chain of kernels of which some stream weights and others (rope,
router) are a few blocks that wait for one another. Their launches carry extra blocks that only ask
for lines of the L2: of this layer's cache, of the next projections. Nothing waits for the answer
and nothing depends on it; asking too early or for too much drives out what is needed sooner.
"""

import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels.launch import INTERPRETED

LINE = 128  # bytes that one request brings
LINES: tl.constexpr = tl.constexpr(1024)  # that one block asks for
MOST = 3  # tensors of one launch


@triton.jit
def _ask(base, line, lines):
    at = line + tl.arange(0, LINES)
    address = base.to(tl.int64) + 128 * tl.minimum(at, tl.maximum(lines - 1, 0)).to(tl.int64)
    tl.inline_asm_elementwise(
        "prefetch.global.L2::evict_last [$1]; mov.u32 $0, 0;",
        "=r,l",
        [address],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )


@triton.jit
def prefetch(program, first, first_lines, second, second_lines, third, third_lines):
    """Block `program` of as many as `programs` says, over three tensors one after the other."""
    line = program * LINES
    second_starts = tl.cdiv(first_lines, LINES) * LINES
    third_starts = second_starts + tl.cdiv(second_lines, LINES) * LINES
    if line < second_starts:
        _ask(first, line, first_lines)
    elif line < third_starts:
        _ask(second, line - second_starts, second_lines)
    else:
        _ask(third, line - third_starts, third_lines)


def ahead_of(tensors: tuple[Tensor, ...], spare: Tensor) -> tuple[tuple[Tensor | int, ...], int]:
    """Arguments of `prefetch` after the program, and its number of blocks.

    Each tensor is contiguous; `spare` stands for those that are not given. The interpreter knows
    no such requests: there it is nothing.
    """
    assert len(tensors) <= MOST
    if INTERPRETED:
        tensors = ()
    arguments: list[Tensor | int] = []
    programs = 0
    for tensor in tensors:
        assert tensor.is_contiguous()
        lines = triton.cdiv(tensor.nbytes, LINE)
        arguments += [tensor, lines]
        programs += triton.cdiv(lines, LINES.value)
    for _ in range(MOST - len(tensors)):
        arguments += [spare, 0]
    return tuple(arguments), programs
