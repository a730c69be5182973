"""A calibration of small shapes, measured by instruments that only pretend."""

from collections.abc import Callable

from costmodel.recordings.calibration import Launch, Power
from costmodel.recordings.machine import Conditions, Machine
from costmodel.recordings.measured import Missing
from profiler.calibrate.calibration import CalibrationResult, calibrate
from profiler.calibrate.graph_timer import UnmeasuredError
from profiler.calibrate.grid import Curve
from profiler.calibrate.operations import (
    AttentionOperation,
    GemmOperation,
    GroupedOperation,
    MoveOperation,
    Operation,
    RowsOperation,
    Timing,
    TopKOperation,
)
from profiler.calibrate.power import PowerResult

SHAPES: dict[Curve, tuple[Operation, ...]] = {
    "move": (MoveOperation(bytes=4096), MoveOperation(bytes=2**20)),
    "gemm": (GemmOperation(m=2, n=8, k=16), GemmOperation(m=256, n=64, k=32)),
    "grouped": (
        GroupedOperation(groups=2, rows=8, n=16, k=8),
        GroupedOperation(groups=4, rows=8, n=8, k=8),
    ),
    "rows": (RowsOperation(reads=32, row_bytes=128), RowsOperation(reads=64, row_bytes=256)),
    "attention": (
        AttentionOperation(batch=2, heads=4, kv_heads=2, head_dim=8, queries=1, keys=16),
        AttentionOperation(batch=1, heads=4, kv_heads=4, head_dim=8, queries=16, keys=16),
    ),
    "topk": (TopKOperation(rows=1, width=96, chosen=8), TopKOperation(rows=4, width=96, chosen=32)),
}


class FakeInstruments:
    """Takes a microsecond for everything, but for what `refuses`."""

    machine = Machine(
        device="cuda", name="NVIDIA H200", memory_bytes=2**37, python="3.12.1", torch="2.11.0"
    )

    def __init__(self, refuses: Callable[[Operation], bool] = lambda _: False) -> None:
        self.refuses = refuses
        self.measured_power: Power | Missing = Missing(reason="NVML is not installed")

    def launch(self) -> Launch:
        return Launch(graph_s=1.1e-6, eager_s=4.8e-6)

    def time(self, operation: Operation) -> Timing:
        if self.refuses(operation):
            raise UnmeasuredError("out of memory")
        return Timing(s=1e-6, q1_s=0.9e-6, q3_s=1.2e-6, kernels=2)

    def power(self) -> PowerResult:
        under_load = Conditions(started="2026-01-01T00:00:00Z", warm_up=900, sm_clock_mhz=1500.0)
        return PowerResult(power=self.measured_power, conditions=under_load)


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


def done(instruments: FakeInstruments | None = None, said: Said | None = None) -> CalibrationResult:
    return calibrate(
        instruments or FakeInstruments(), SHAPES, said or Said(), name="mine", hardware="h200"
    )
