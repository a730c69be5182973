"""Eight anchors: kernels that are the same in every run, timed before and after each part of it.

If one takes over `TOLERANCE` longer or shorter afterwards, the GPU was not in one state meanwhile,
and what was measured in between is void. Each is a CUDA graph of many copies of one operation of
the calibration, timed in a process of its own: `python -m benchmarks.held_out.anchors` prints them.
"""

import json
import sys
from collections.abc import Callable, Sequence

from costmodel.errors import WorkError
from profiler.calibrate.operations import (
    AttentionOperation,
    GemmOperation,
    MoveOperation,
    Operation,
    RowsOperation,
    TopKOperation,
)
from profiler.instruments.process import LineProcess, WorkerLostError

TOLERANCE = 0.02
TIMEOUT_S = 120.0
NULL_NODES = 1024
OPERATIONS: dict[str, Operation] = {
    "copy of 128 MiB": MoveOperation(bytes=2**28),
    "stream of a weight, 1 x 28672 x 8192": GemmOperation(m=1, n=28_672, k=8192),
    "product of 4096 x 4096 x 4096": GemmOperation(m=4096, n=4096, k=4096),
    "attention, 64 sequences of 2,048 keys": AttentionOperation(
        batch=64, heads=32, kv_heads=8, head_dim=128, queries=1, keys=2048
    ),
    "top 32 of 24,576 values, 64 rows": TopKOperation(rows=64, width=24_576, chosen=32),
    "131,072 random rows of 512 bytes": RowsOperation(reads=131_072, row_bytes=512),
    "elementwise, 1 MiB": MoveOperation(bytes=2**20),
}
NULL_CHAIN = f"chain of {NULL_NODES:,} kernels that do nothing"
NAMES = (*OPERATIONS, NULL_CHAIN)
COMMAND = (sys.executable, "-m", "benchmarks.held_out.anchors")  # from the root of the project

Readings = dict[str, float]  # seconds of each anchor, by name


def moved(before: Readings, after: Readings) -> dict[str, float]:
    """The anchors whose time changed by more than `TOLERANCE`, and by what share.

    An anchor that stands on one side only has moved: its share is infinite.
    """
    shares = {
        name: after[name] / before[name] - 1 if name in before and name in after else float("inf")
        for name in (*before, *(name for name in after if name not in before))
    }
    return {name: share for name, share in shares.items() if abs(share) > TOLERANCE}


def timed(
    time: Callable[[Operation], float],
    null_chain: Callable[[], float],
    operations: dict[str, Operation] = OPERATIONS,
) -> Readings:
    """Seconds of each anchor."""
    readings = {name: time(operation) for name, operation in operations.items()}
    return readings | {NULL_CHAIN: null_chain()}


def read_anchors(command: Sequence[str] = COMMAND) -> Readings:
    """Time the anchors in a process of their own.

    Raises:
        WorkError: The process ended without them.
    """
    try:
        with LineProcess(command, timeout_s=TIMEOUT_S) as process:
            line = process.read()
            process.wait()
    except WorkerLostError as lost:
        raise WorkError(f"the anchors were not measured: the process {lost}") from None
    assert line is not None
    readings = json.loads(line)
    return {str(name): float(seconds) for name, seconds in readings.items()}


def main() -> None:
    """Warm the GPU up, and print the readings as JSON."""
    from profiler.calibrate.cuda import CudaInstruments
    from profiler.calibrate.launch import null_graph_s
    from profiler.instruments.process import end_with_parent

    end_with_parent()
    instruments = CudaInstruments()
    flush = instruments.time.flush
    readings = timed(
        lambda operation: instruments.time(operation).s,
        lambda: null_graph_s(NULL_NODES, flush=flush),
    )
    sys.stdout.write(json.dumps(readings) + "\n")


if __name__ == "__main__":
    main()
