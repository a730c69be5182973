"""Anchors: three short kernels, the same in every recording, timed before and after each case.

A copy, a square product and a gather of rows: what a step's time hangs on (bandwidth, the clock
under tensor load, reads of rows). Two recordings whose anchors differ were made on machines, or in
states of one machine, that differ as much; see `costmodel.validation.anchors`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor

from costmodel.recordings.machine import Anchor, Conditions
from profiler.instruments.spread import rounded
from profiler.instruments.timing import Flush, seconds_between_events
from profiler.runs.self_check import GEMM, copying, multiplying

COPY_BYTES = 2**27
TABLE_ROWS, ROW_BYTES = 2**19, 512
GATHERED_ROWS = 2**16
READINGS = 5


class Anchors:
    """The buffers of the three kernels on a GPU, allocated once."""

    def __init__(self, device: torch.device | str = "cuda") -> None:
        """Allocate them."""
        self._kernels = {
            f"copy of {COPY_BYTES >> 20} MiB": copying(device, COPY_BYTES),
            f"product of {GEMM} x {GEMM} x {GEMM}, bf16": multiplying(device),
            f"gather of {GATHERED_ROWS:,} rows of {ROW_BYTES} bytes": _gathering(device),
        }

    @property
    def nbytes(self) -> int:
        """Bytes of all buffers: the measurement's own memory, no part of a step's."""
        index_bytes = GATHERED_ROWS * torch.int64.itemsize
        gather = (TABLE_ROWS + GATHERED_ROWS) * ROW_BYTES + index_bytes
        return 2 * COPY_BYTES + 3 * GEMM * GEMM * torch.bfloat16.itemsize + gather

    def seconds(self, flush: Flush) -> dict[str, float]:
        """Median seconds of each kernel, by name, from a cold L2."""
        return {
            name: rounded(median(seconds_between_events(kernel, READINGS, flush)))
            for name, kernel in self._kernels.items()
        }


def with_anchors(
    conditions: Conditions, before: Mapping[str, float], after: Mapping[str, float]
) -> Conditions:
    """The conditions with both readings of each anchor."""
    anchors = tuple(
        Anchor(name=name, before_s=seconds, after_s=after[name]) for name, seconds in before.items()
    )
    return replace(conditions, anchors=anchors)


def _gathering(device: torch.device | str) -> Callable[[], Tensor]:
    table = torch.empty(TABLE_ROWS, ROW_BYTES, dtype=torch.uint8, device=device).random_()
    rows = torch.randperm(TABLE_ROWS)[:GATHERED_ROWS].to(device)
    gathered = table.new_empty(GATHERED_ROWS, ROW_BYTES)
    return lambda: torch.index_select(table, 0, rows, out=gathered)
