"""Emptying L2 between measurements: reads enough of something else to push out all of it.

The same reads bring the GPU into the state in which it decodes. Right after eager steps some graphs
replay with hardly a gap between their kernels; once a few other kernels have run, such as the
choice of a token between two steps, there are 0.35 us more for each, until the next eager steps
(seen on an H200, torch 2.11, CUDA 13.0: Llama-3.1-8B at batch 1 takes 5.98 or 6.43 ms, OLMoE-1B-7B
3.33 either way). A decode loop has other kernels between its steps. What makes the difference
within the GPU is not known.
"""

import torch

FEWEST_BYTES = 2**28
L2_TIMES = 4  # so that no replacement policy keeps a line of what was there
SETTLING = 6  # calls after which replays were as they stay; 4 were enough


class L2Flush:
    """Reads a buffer of 256 MiB, or four times L2 where that is more.

    It reads and does not write: a buffer just written would leave L2 full of changed lines, and the
    next measurement would be charged with writing them to memory. Reading pushes out, and so writes
    back, whatever was changed, and leaves only lines that cost nothing to drop.
    """

    __slots__ = ("_buffer", "_sum")

    def __init__(self, device: torch.device | str = "cuda") -> None:
        """Take the buffer on a GPU."""
        l2_bytes = torch.cuda.get_device_properties(0).L2_cache_size
        elements = max(FEWEST_BYTES, L2_TIMES * l2_bytes) // torch.float32.itemsize
        self._buffer = torch.rand(elements, device=device)
        self._sum = torch.empty((), device=device)

    @property
    def nbytes(self) -> int:
        """Bytes that a call reads."""
        return self._buffer.nbytes

    def __call__(self) -> None:
        """Queue the reads."""
        torch.sum(self._buffer, dim=0, out=self._sum)

    def settle(self) -> None:
        """Let the next replays of graphs be what they are in a loop: see the module."""
        for _ in range(SETTLING):
            self()
