"""A calibration of small shapes, measured by instruments that only pretend."""

from collections.abc import Callable

from costmodel.recordings.calibration import Launch, Power
from costmodel.recordings.machine import Conditions, Machine
from costmodel.recordings.measured import Missing
from profiler.calibrate.calibration import Done, calibrate
from profiler.calibrate.graph_timer import UnmeasuredError
from profiler.calibrate.grid import Curve
from profiler.calibrate.operations import (
    Attention,
    Gemm,
    Grouped,
    Move,
    Operation,
    Rows,
    Timing,
    TopK,
)
from profiler.calibrate.power import Powers

SHAPES: dict[Curve, tuple[Operation, ...]] = {
    "move": (Move(bytes=4096), Move(bytes=2**20)),
    "gemm": (Gemm(m=2, n=8, k=16), Gemm(m=256, n=64, k=32)),
    "grouped": (Grouped(groups=2, rows=8, n=16, k=8), Grouped(groups=4, rows=8, n=8, k=8)),
    "rows": (Rows(reads=32, row_bytes=128), Rows(reads=64, row_bytes=256)),
    "attention": (
        Attention(batch=2, heads=4, kv_heads=2, head_dim=8, queries=1, keys=16),
        Attention(batch=1, heads=4, kv_heads=4, head_dim=8, queries=16, keys=16),
    ),
    "topk": (TopK(rows=1, width=96, chosen=8), TopK(rows=4, width=96, chosen=32)),
}


class FakeInstruments:
    """Takes a microsecond for everything, but for what `refuses`."""

    machine = Machine(
        device="cuda", name="NVIDIA H200", memory_bytes=2**37, python="3.12.1", torch="2.11.0"
    )

    def __init__(self, refuses: Callable[[Operation], bool] = lambda _: False) -> None:
        self.refuses = refuses
        self.power: Power | Missing = Missing(reason="NVML is not installed")

    def launch(self) -> Launch:
        return Launch(graph_s=1.1e-6, eager_s=4.8e-6)

    def time(self, operation: Operation) -> Timing:
        if self.refuses(operation):
            raise UnmeasuredError("out of memory")
        return Timing(s=1e-6, q1_s=0.9e-6, q3_s=1.2e-6, kernels=2)

    def powers(self) -> Powers:
        under_load = Conditions(started="2026-01-01T00:00:00Z", warm_up=900, sm_clock_mhz=1500.0)
        return Powers(power=self.power, conditions=under_load)


class Said:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.advanced = 0
        self.messages: list[str] = []

    def begin(self, stage: str) -> None:
        self.stages.append(stage)

    def advance(self) -> None:
        self.advanced += 1

    def say(self, message: str) -> None:
        self.messages.append(message)


def done(instruments: FakeInstruments | None = None, said: Said | None = None) -> Done:
    return calibrate(
        instruments or FakeInstruments(), SHAPES, said or Said(), name="mine", hardware="h200"
    )
