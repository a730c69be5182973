"""One calibration: launch costs, all points of all curves, then power, in the schema's form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pydantic import ValidationError

import costmodel
from costmodel.errors import WorkError
from costmodel.recordings.calibration import Calibration, Launch
from costmodel.recordings.machine import Conditions, Machine
from costmodel.recordings.measured import Missing
from costmodel.strict import explained
from profiler.calibrate.graph_timer import WARM_UPS, UnmeasuredError
from profiler.calibrate.grid import Curve
from profiler.calibrate.operations import Operation, Timing
from profiler.calibrate.power import PowerResult
from profiler.instruments.machine import commit, now

FEWEST_POINTS = 2  # of a curve


class Instruments(Protocol):
    """All that needs a GPU: `profiler.calibrate.cuda.CudaInstruments`, or stand-ins of a test."""

    @property
    def machine(self) -> Machine:
        """The machine that is measured."""

    def launch(self) -> Launch:
        """Measure the cost of launching a kernel that has nothing to do."""

    def time(self, operation: Operation) -> Timing:
        """Measure one point.

        Raises:
            UnmeasuredError: This point cannot be measured; others can.
            WorkError: The GPU failed.
        """

    def power(self) -> PowerResult:
        """Measure the power of steady loops."""


class CalibrationProgress(Protocol):
    """Shows how far a calibration is."""

    def begin(self, stage: str) -> None:
        """Note that a stage begins: a curve, the launch costs or the power."""

    def advance(self) -> None:
        """Note that one more point is measured or left out."""

    def say(self, message: str) -> None:
        """Show a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationResult:
    """A calibration, and the number of points that could not be measured."""

    calibration: Calibration
    left_out: int


def calibrate(
    instruments: Instruments,
    curves: Mapping[Curve, Sequence[Operation]],
    progress: CalibrationProgress,
    *,
    name: str,
    hardware: str,
) -> CalibrationResult:
    """Measure launch costs, curves and power; points that cannot be measured are left out.

    `hardware` is the preset that the calibration describes.

    Raises:
        WorkError: The GPU failed, a curve has fewer than two points, or a measurement breaks a rule
            of the schema, such as a load that draws less power than the idle GPU.
    """
    try:
        return _calibrated(instruments, curves, progress, name=name, hardware=hardware)
    except ValidationError as error:
        raise WorkError(f"what was measured is no calibration: {explained(error)}") from None


def _calibrated(
    instruments: Instruments,
    curves: Mapping[Curve, Sequence[Operation]],
    progress: CalibrationProgress,
    *,
    name: str,
    hardware: str,
) -> CalibrationResult:
    started, machine = now(), instruments.machine
    progress.begin("launch")
    launch = instruments.launch()
    points: dict[str, Any] = {}
    for curve, operations in curves.items():
        progress.begin(curve)
        points[curve] = _measured_points(instruments, curve, operations, progress)
    progress.begin("power")
    result = instruments.power()
    if isinstance(result.power, Missing):
        progress.say(f"power: not measured ({result.power.reason})")
    calibration = Calibration(
        schema_version=1,
        name=name,
        hardware=hardware,
        machine=machine,
        conditions=_conditions(result, started),
        sparsecost_version=costmodel.__version__,
        commit=commit(),
        launch=launch,
        power=None if isinstance(result.power, Missing) else result.power,
        **points,
    )
    planned, measured = (sum(map(len, by_curve.values())) for by_curve in (curves, points))
    return CalibrationResult(calibration=calibration, left_out=planned - measured)


def _measured_points(
    instruments: Instruments,
    curve: str,
    operations: Sequence[Operation],
    progress: CalibrationProgress,
) -> tuple[object, ...]:
    points = []
    for operation in operations:
        try:
            points.append(operation.point(instruments.time(operation)))
        except UnmeasuredError as error:
            progress.say(f"{curve}: {operation}: left out: {error}")
        progress.advance()
    if len(points) < FEWEST_POINTS:
        raise WorkError(f"{curve}: {len(points)} points could be measured; a curve needs two")
    return tuple(points)


def _conditions(result: PowerResult, started: str) -> Conditions:
    """The GPU's state under the last load, with the start and warm-up of the whole calibration."""
    if result.conditions is None:
        return Conditions(started=started, warm_up=WARM_UPS)
    return replace(result.conditions, started=started, warm_up=WARM_UPS)
