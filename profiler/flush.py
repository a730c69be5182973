"""Emptying L2 between measurements: reads enough of something else to push out all of it."""

import torch

FEWEST_BYTES = 2**28
L2_TIMES = 4  # so that no replacement policy keeps a line of what was there


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
