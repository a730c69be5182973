"""One calibration, from the launch costs over every curve to the power, as the schema wants it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pydantic import ValidationError

import costmodel
from costmodel.errors import WorkError
from costmodel.recordings.calibration import Calibration
from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Missing
from costmodel.strict import explained
from profiler.calibrate.cuda import Instruments
from profiler.calibrate.graph_timer import WARM_UPS, UnmeasuredError
from profiler.calibrate.grid import Curve
from profiler.calibrate.operations import Operation
from profiler.calibrate.power import Powers
from profiler.instruments.machine import commit, now

FEWEST_POINTS = 2  # of a curve


class Progress(Protocol):
    """Where the calibration stands, for people."""

    def begin(self, stage: str) -> None:
        """A curve, the launches or the power begin."""

    def advance(self) -> None:
        """One more point is done or left out."""

    def say(self, message: str) -> None:
        """Something that is worth a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A calibration and what it had to leave out."""

    calibration: Calibration
    left_out: int  # points


def calibrate(
    instruments: Instruments,
    curves: Mapping[Curve, Sequence[Operation]],
    progress: Progress,
    *,
    name: str,
    hardware: str,
) -> Done:
    """Measure all curves; a point that cannot be had is left out and said.

    Raises:
        WorkError: The GPU failed, a curve has fewer than two points, or what was measured breaks a
            rule of the schema, such as a load that draws less than the idle GPU.
    """
    try:
        return _calibrated(instruments, curves, progress, name=name, hardware=hardware)
    except ValidationError as error:
        raise WorkError(f"what was measured is no calibration: {explained(error)}") from None


def _calibrated(
    instruments: Instruments,
    curves: Mapping[Curve, Sequence[Operation]],
    progress: Progress,
    *,
    name: str,
    hardware: str,
) -> Done:
    started, machine = now(), instruments.machine
    progress.begin("launch")
    launch = instruments.launch()
    points: dict[str, Any] = {}
    for curve, operations in curves.items():
        progress.begin(curve)
        points[curve] = _measured(instruments, curve, operations, progress)
    progress.begin("power")
    powers = instruments.powers()
    if isinstance(powers.power, Missing):
        progress.say(f"power: not measured ({powers.power.reason})")
    calibration = Calibration(
        schema_version=1,
        name=name,
        hardware=hardware,
        machine=machine,
        conditions=_conditions(powers, started),
        sparsecost_version=costmodel.__version__,
        commit=commit(),
        launch=launch,
        power=None if isinstance(powers.power, Missing) else powers.power,
        **points,
    )
    wanted, had = (sum(map(len, each.values())) for each in (curves, points))
    return Done(calibration=calibration, left_out=wanted - had)


def _measured(
    instruments: Instruments, curve: str, operations: Sequence[Operation], progress: Progress
) -> tuple[object, ...]:
    found = []
    for operation in operations:
        try:
            found.append(operation.point(instruments.time(operation)))
        except UnmeasuredError as error:
            progress.say(f"{curve}: {operation}: left out: {error}")
        progress.advance()
    if len(found) < FEWEST_POINTS:
        raise WorkError(f"{curve}: {len(found)} points could be measured; a curve needs two")
    return tuple(found)


def _conditions(powers: Powers, started: str) -> Conditions:
    """The GPU's state under its last load, over the whole calibration."""
    if powers.conditions is None:
        return Conditions(started=started, warm_up=WARM_UPS)
    return replace(powers.conditions, started=started, warm_up=WARM_UPS)
