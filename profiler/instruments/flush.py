"""Emptying the L2 cache between measurements, by reading enough other data to evict all of it.

The same reads bring the GPU into the state that it has in a decode loop. Right after eager steps,
some CUDA graphs replay with hardly a gap between their kernels. Once a few other kernels have run,
such as the choice of a token between two steps, each kernel of a replay takes 0.35 us more, until
the next eager steps. (Seen on an H200 with torch 2.11 and CUDA 13.0: Llama-3.1-8B at batch 1 takes
5.98 or 6.43 ms, OLMoE-1B-7B 3.33 ms either way.) A decode loop has other kernels between its steps.
The cause within the GPU is not known.
"""

import torch

FEWEST_BYTES = 2**28
L2_TIMES = 4  # reading this many times L2 leaves no old line there, whatever is evicted first
SETTLING = 6  # calls after which replays take the time of a decode loop; 4 were enough


class L2Flush:
    """Reads a buffer of 256 MiB, or of four times L2 where that is more.

    The buffer is read, not written. A write would leave L2 full of dirty lines, whose writing back
    would count for the next measurement. A read evicts dirty lines, and leaves clean ones, which
    cost nothing to evict.
    """

    __slots__ = ("_buffer", "_sum")

    def __init__(self, device: torch.device | str = "cuda") -> None:
        """Allocate the buffer on the device."""
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
        """Queue the calls after which replays take the time of a decode loop (see the module)."""
        for _ in range(SETTLING):
            self()
