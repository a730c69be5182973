"""How kernels follow one another: programmatic dependent launch, and the block sizes of arrays.

A dependent launch (PDL, compute capability 9.0) puts a kernel's blocks on the GPU while the
previous kernel still runs. They may read only what no running kernel writes (weights, indices made
two kernels ago) until `wait_for_previous`, which returns once the previous kernel has finished and
its results can be seen. The same call then lets the next kernel come. Letting it come any earlier
was measured to be slower: blocks of several kernels pile up and hold the registers that the running
one needs. Since each kernel waits before it lets its successor come, at most two kernels overlap.
"""

from typing import Any

import triton
import triton.language as tl

INTERPRETED: bool = triton.knobs.runtime.interpret  # kernels run on a CPU, one block at a time


@triton.jit
def wait_for_previous(PDL: tl.constexpr):
    """Wait for the kernel before this one, where it may still run, and let the next one come."""
    if PDL:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()


def launch_options(*, pdl: bool, warps: int, stages: int = 1) -> dict[str, Any]:
    """What a launch says beside its arguments; `PDL` is one of the kernel's own."""
    options: dict[str, Any] = {"num_warps": warps, "num_stages": stages}
    options["PDL"] = pdl and not INTERPRETED
    if options["PDL"]:
        options["launch_pdl"] = True
    return options


def block_of(width: int) -> int:
    """The block that holds `width` elements: a power of two; what is beyond is masked."""
    block: int = triton.next_power_of_2(width)
    return block


@triton.jit
def prefetch(pointers, BYTES: tl.constexpr, PDL: tl.constexpr):
    """Ask for BYTES behind each of these pointers, for the L2; 16 must divide both.

    Nothing waits for them: it is a hint, for weights of a kernel that still has to wait for others.
    """
    if PDL:
        tl.inline_asm_elementwise(
            f"cp.async.bulk.prefetch.L2.global [$1], {BYTES}; mov.u32 $0, 0;",
            "=r,l",
            [pointers.to(tl.int64)],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
