"""How well predictions meet recordings: errors by quantity, by operator kind, and the worst cases.

Every joined row is counted somewhere: compared, or with one side, or with neither. Errors are of
ratios, measured over predicted: a factor of two too high and one too low weigh the same.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp, inf, log
from operator import attrgetter
from statistics import fmean, median
from typing import NamedTuple

from costmodel.achieved import Achieved, achieved
from costmodel.beside import BOUNDS, NO_HARDWARE, Gpus
from costmodel.bound import Violation, violations
from costmodel.costs.predicted import Unknown
from costmodel.inputs.recording import Recording
from costmodel.join import Row, join
from costmodel.quantities import QUANTITIES, RUNS, RunName

BY_DISTANCE = attrgetter("distance")
BY_KIND = ("kernel_s", "launches", "hbm_read_bytes")  # whose leaves are told apart by kind


class Entry(NamedTuple):
    """A joined row, where it comes from, and how far its two sides are apart (`distance`)."""

    recording: str
    case: str
    row: Row
    distance: float


def distance(row: Row) -> float:
    """How far measured and predicted are apart: |ln ratio|; 0 where nothing can be compared.

    A number beside a predicted 0, or a measured 0, is infinitely far; beside a bound it says
    nothing, since bounds may be 0.
    """
    predicted, measured = row.predicted, row.measured
    if predicted is None or measured is None or predicted == measured:
        return 0.0
    if not predicted or not measured:
        return 0.0 if row.basis.startswith(BOUNDS) else inf
    return abs(log(float(measured) / float(predicted)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLine:
    """The errors of one quantity at one level against one basis.

    Attributes:
        level: `step`, or `leaf` for all leaves, or an operator kind.
        compared: rows with both sides; of them `equal` are equal to the unit, and `no_ratio` have a
            0 on one side alone.
        measured_only, predicted_only, neither: rows that lack a side, or both.
        median_ratio: measured over predicted.
        error: exp(mean of |ln ratio|) - 1: 0.1 is 10 % off, up or down.
        worst: the entry farthest from its prediction.
    """

    quantity: str
    run: RunName
    level: str
    basis: str
    compared: int
    equal: int
    no_ratio: int
    measured_only: int
    predicted_only: int
    neither: int
    median_ratio: float | None
    error: float | None
    worst: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFigures:
    """What one case achieved."""

    recording: str
    case: str
    achieved: Achieved


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Recordings against predictions. `groups` are all rows by quantity, the worst ones first."""

    calibrations: tuple[str, ...]
    failed_checks: tuple[str, ...]
    violations: tuple[tuple[str, Violation], ...]
    errors: tuple[ErrorLine, ...]
    errors_by_kind: tuple[ErrorLine, ...]
    figures: tuple[CaseFigures, ...]
    groups: tuple[tuple[Entry, ...], ...]


def validate(recordings: Sequence[tuple[str, Recording]], gpus: Gpus) -> Validation:
    """Join each named recording with its prediction and sum up.

    Raises:
        InputError: A calibration was asked for that is of another GPU.
    """
    entries: dict[tuple[RunName, str], list[Entry]] = {}
    broken: list[tuple[str, Violation]] = []
    figures: list[CaseFigures] = []
    for name, recording in recordings:
        for joined in join(recording, gpus):
            for row in joined.rows:
                entry = Entry(name, joined.label, row, distance(row))
                entries.setdefault((row.run, row.quantity), []).append(entry)
            found = achieved(recording, joined.index, gpus)
            figures.append(CaseFigures(recording=name, case=joined.label, achieved=found))
        broken += [(name, each) for each in violations(recording, gpus)]
    groups = [
        sorted(entries[run, quantity], key=BY_DISTANCE, reverse=True)
        for quantity in QUANTITIES
        for run in RUNS
        if (run, quantity) in entries
    ]
    return Validation(
        calibrations=_calibrations(recordings, gpus),
        failed_checks=_failed_checks(recordings),
        violations=tuple(sorted(broken, key=lambda each: each[1].share)),
        errors=_lines(groups, _level),
        errors_by_kind=_lines(
            [group for group in groups if group[0].row.quantity in BY_KIND], _kind
        ),
        figures=tuple(figures),
        groups=tuple(map(tuple, groups)),
    )


def _level(row: Row) -> str | None:
    return "step" if row.path is None else "leaf"


def _kind(row: Row) -> str | None:
    return row.kind


def _lines(
    groups: Iterable[list[Entry]], level_of: Callable[[Row], str | None]
) -> tuple[ErrorLine, ...]:
    """One line for each quantity, level and basis, in the order in which they are met."""
    found = []
    for group in groups:
        parts: dict[tuple[str, str], list[Entry]] = {}
        for entry in group:
            level = level_of(entry.row)
            if level is not None:
                parts.setdefault((level, entry.row.basis), []).append(entry)
        found += [_line(level, basis, part) for (level, basis), part in sorted(parts.items())]
    return tuple(found)


def _line(level: str, basis: str, entries: list[Entry]) -> ErrorLine:
    """The sums of rows of one quantity, which come worst first."""
    equal = no_ratio = measured_only = predicted_only = neither = 0
    ratios: list[float] = []
    for entry in entries:
        row = entry.row
        if row.measured is None or row.predicted is None:
            measured_only += row.measured is not None
            predicted_only += row.predicted is not None
            neither += row.measured is None and row.predicted is None
            continue
        equal += row.measured == row.predicted
        if row.measured and row.predicted:
            ratios.append(float(row.measured) / float(row.predicted))
        else:
            no_ratio += row.measured != row.predicted
    first = entries[0]
    return ErrorLine(
        quantity=first.row.quantity,
        run=first.row.run,
        level=level,
        basis=basis,
        compared=len(entries) - measured_only - predicted_only - neither,
        equal=equal,
        no_ratio=no_ratio,
        measured_only=measured_only,
        predicted_only=predicted_only,
        neither=neither,
        median_ratio=median(ratios) if ratios else None,
        error=exp(fmean(abs(log(ratio)) for ratio in ratios)) - 1 if ratios else None,
        worst=first if first.distance else None,
    )


def _calibrations(recordings: Sequence[tuple[str, Recording]], gpus: Gpus) -> tuple[str, ...]:
    """By device: which calibration predicts its times, or why none does."""
    devices = {session.machine.name for _, each in recordings for session in each.sessions}
    found = []
    for device in sorted(devices):
        gpu = gpus.of(device)
        if gpu is None:
            found.append(f"{device}: {NO_HARDWARE}")
        elif isinstance(gpu.curves, Unknown):
            found.append(f"{device}: {gpu.curves.reason}")
        else:
            made = gpu.curves.calibration
            found.append(f"{device}: calibration {made.name}, measured {made.conditions.started}")
    return tuple(found)


def _failed_checks(recordings: Sequence[tuple[str, Recording]]) -> tuple[str, ...]:
    """The profiler's self-checks that did not hold, with what was known and what was measured."""
    return tuple(
        f"{name}, session of {session.started}: {check.name}: measured {check.measured:.6g},"
        f" known {check.known:.6g}, tolerance {check.tolerance:.2g}"
        for name, recording in recordings
        for session in recording.sessions
        for check in session.self_check
        if check.passed is False
    )
