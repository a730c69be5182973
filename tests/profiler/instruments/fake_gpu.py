"""A GPU of which every count can be worked out by hand: queued work, an L2 of whole lines, HBM."""

from collections import OrderedDict, defaultdict
from functools import partial

READ, WRITTEN = "dram__bytes_read.sum", "dram__bytes_write.sum"
DURATION = "gpu__time_duration.sum"
BF16 = "sm__ops_path_tensor_src_bf16_dst_fp32.sum"
TF32 = "sm__ops_path_tensor_src_tf32_dst_fp32.sum"
LINE = 1_000_000  # bytes


class FakeGpu:
    """L2 drops the least recently used line; work happens, and counts, when it is waited for."""

    def __init__(self, l2_lines: int = 8) -> None:
        self.counters: dict[str, float] = defaultdict(float)
        self._l2_lines = l2_lines
        self._dirty: OrderedDict[tuple[str, int], bool] = OrderedDict()
        self._queue: list[partial[None]] = []

    def read(self, buffer: str, lines: int) -> None:
        """Reads lines of a buffer; those not in L2 come from HBM."""
        self._queue.append(partial(self._move, buffer, lines, write=False))

    def write(self, buffer: str, lines: int) -> None:
        """Writes whole lines of a buffer; they go to HBM when they leave L2."""
        self._queue.append(partial(self._move, buffer, lines, write=True))

    def multiply(self, flops: int, metric: str = BF16) -> None:
        self._queue.append(partial(self._count, metric, flops))

    def wait(self) -> None:
        for work in self._queue:
            work()
        self._queue.clear()

    def _count(self, metric: str, amount: float) -> None:
        self.counters[metric] += amount

    def _move(self, buffer: str, lines: int, *, write: bool) -> None:
        for number in range(lines):
            line = (buffer, number)
            if line not in self._dirty and not write:
                self._count(READ, LINE)
            self._dirty[line] = write or self._dirty.get(line, False)
            self._dirty.move_to_end(line)
            self._count(DURATION, 1000)
            if len(self._dirty) > self._l2_lines and self._dirty.popitem(last=False)[1]:
                self._count(WRITTEN, LINE)
