"""How well predictions meet recordings: errors by quantity and operator kind, and the worst rows.

Every joined row is counted once: with both numbers, with one of them, or with neither. Errors are
those of ratios, measured over predicted, by two measures (`recordings/error_measures.py`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from operator import attrgetter
from typing import TypeAlias

from costmodel.costs.latency import Unknown
from costmodel.recordings.quantities import QUANTITIES, RUNS, RunName
from costmodel.recordings.recording import Recording
from costmodel.validation.anchors import AnchorReadings, anchor_readings
from costmodel.validation.bounds import Violation, case_violations
from costmodel.validation.breakdowns import Breakdown, breakdowns
from costmodel.validation.case_attribution import CaseAttribution, case_attribution
from costmodel.validation.case_prediction import NO_HARDWARE, SharedPredictions
from costmodel.validation.counterparts import BOUND_BASES
from costmodel.validation.error_line import ErrorLine, error_line
from costmodel.validation.error_stats import (
    BOTH_PHASES,
    LEAF_LEVEL,
    STEP_LEVEL,
    Entry,
    ErrorStats,
    Group,
    GroupedErrorStats,
    Origin,
    RowReference,
)
from costmodel.validation.join import NO_RUN, join
from costmodel.validation.joined import BY_RECORDED_CHOICES, JoinedColumn
from costmodel.validation.machines import Gpus, backend_of
from costmodel.validation.names import short_names
from costmodel.validation.pairs import PairPoint, pair_points
from costmodel.validation.utilisation import Utilisation, measured_utilisation

BY_KIND = ("kernel_s", "launches", "hbm_read_bytes")  # summed up by kind of operator as well

Columns: TypeAlias = Sequence[tuple[Origin, JoinedColumn]]
"""Joined columns of several cases, each with the case that it comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseUtilisation:
    """How well one case used its GPU."""

    origin: Origin
    utilisation: Utilisation


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCheck:
    """A self-check of the profiler that failed: work of known size was measured too far off."""

    recording: str
    session: str  # when the session started
    name: str
    known: float
    measured: float
    tolerance: float  # relative


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Recordings compared with their predictions.

    Attributes:
        recordings: the name of each recording, with the short name of its model.
        calibrations: a sentence for each device: what predicts its times.
        anchors: times of kernels that are the same in every recording, over all of them.
        failed_checks: self-checks of the profiler that did not hold.
        violations: measured numbers below their bounds, each with the name of the recording; the
            farthest below come first.
        errors: by quantity, level and phase.
        errors_by_kind: the errors of leaves, by kind of operator.
        utilisations: of each case.
        chosen_cases: how many cases are predicted by the choices that they recorded.
        lacking_runs: how many cases lack a run, by run and reason.
        lacking_sides: how many rows lack a measured or a predicted number, by the reason.
        columns: all rows, by quantity and run.
        breakdowns: errors of steps by batch, context, new tokens and model.
        pairs: a memory layer against a mixture of experts, at equal workloads.
        attributions: where the time of each case goes, if it was asked for.
    """

    recordings: tuple[tuple[str, str], ...]
    calibrations: tuple[str, ...]
    anchors: tuple[AnchorReadings, ...]
    failed_checks: tuple[FailedCheck, ...]
    violations: tuple[tuple[str, Violation], ...]
    errors: tuple[ErrorLine, ...]
    errors_by_kind: tuple[ErrorLine, ...]
    utilisations: tuple[CaseUtilisation, ...]
    chosen_cases: int
    lacking_runs: Counter[tuple[RunName, str]]
    lacking_sides: Counter[str]
    columns: dict[tuple[str, RunName], Columns]
    breakdowns: tuple[Breakdown, ...]
    pairs: tuple[PairPoint, ...]
    attributions: tuple[tuple[Origin, CaseAttribution], ...] = ()

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return sum(line.rows for line in self.errors)


def validate(
    recordings: Sequence[tuple[str, Recording]], gpus: Gpus, *, attribution: bool = False
) -> Validation:
    """Compare recordings, each given with its name, with their predictions.

    With `attribution`, also say where the time of each case goes.

    Raises:
        InputError: A calibration was asked for that is of another GPU.
    """
    models = short_names(
        [recording.model.name for _, recording in recordings],
        [backend_of(recording.cases[0], "time") for _, recording in recordings],
    )
    stats = GroupedErrorStats()
    columns: dict[tuple[str, RunName], list[tuple[Origin, JoinedColumn]]] = {
        (quantity.name, run): [] for quantity in QUANTITIES.values() for run in quantity.runs
    }
    utilisations: list[CaseUtilisation] = []
    violations: list[tuple[str, Violation]] = []
    attributions: list[tuple[Origin, CaseAttribution]] = []
    chosen_cases = 0
    lacking: Counter[tuple[RunName, str]] = Counter()
    shared = SharedPredictions()
    for (name, recording), model in zip(recordings, models, strict=True):
        usual = next((backend_of(each, "time") for each in recording.cases if each.runs), "torch")
        for joined in join(recording, gpus, shared.of(recording)):
            case = recording.cases[joined.index]
            origin = Origin(
                recording=name,
                model=model,
                case=joined.label,
                workload=case.workload,
                backend=backend_of(case, "time") if case.runs else usual,
            )
            for column in joined.columns:
                stats.add(origin, column)
                columns[column.quantity, column.run].append((origin, column))
            chosen_cases += any(column.choices == BY_RECORDED_CHOICES for column in joined.columns)
            work = shared.works[case.workload]
            used = measured_utilisation(recording, joined.index, gpus, work)
            utilisations.append(CaseUtilisation(origin=origin, utilisation=used))
            violations += [
                (name, violation) for violation in case_violations(recording, case, gpus, work)
            ]
            if attribution:
                attributions.append((origin, case_attribution(case, joined)))
            lacking.update(
                (run, case.lacking.get(run, NO_RUN)) for run in RUNS if run not in case.runs
            )
    return Validation(
        recordings=tuple(zip((name for name, _ in recordings), models, strict=True)),
        calibrations=_calibrations(recordings, gpus),
        anchors=anchor_readings(recording for _, recording in recordings),
        failed_checks=_failed_checks(recordings),
        violations=tuple(sorted(violations, key=lambda named: named[1].share)),
        errors=tuple(_error_lines(stats.by_group, by_kind=False)),
        errors_by_kind=tuple(_error_lines(stats.by_group, by_kind=True)),
        utilisations=tuple(utilisations),
        chosen_cases=chosen_cases,
        lacking_runs=lacking,
        lacking_sides=stats.lacking,
        columns={key: joined for key, joined in columns.items() if joined},
        breakdowns=tuple(breakdowns(columns)),
        pairs=tuple(pair_points(recordings, columns)),
        attributions=tuple(attributions),
    )


def worst_first(columns: Columns, most: int | None = None) -> Iterator[Entry]:
    """All rows of some columns, the worst first.

    With `most`, only so many rows, and only those whose two numbers can be compared and differ.
    """
    rows = (
        RowReference(origin, column, index)
        for origin, column in columns
        for index in range(len(column.counterparts))
    )
    by_distance = attrgetter("distance")
    if most is None:
        return (row.entry() for row in sorted(rows, key=by_distance, reverse=True))
    return (row.entry() for row in nlargest(most, rows, key=by_distance) if row.distance)


def of_step(columns: Columns, phase: str) -> Columns:
    """The columns of the step itself, in one phase or in both (`BOTH_PHASES`)."""
    return [
        (origin, column)
        for origin, column in columns
        if column.of_step and phase in {origin.workload.phase, BOTH_PHASES}
    ]


def worst_leaves(columns: Columns, most: int) -> list[Entry]:
    """The worst row of each leaf over all layers and cases, the worst leaf first.

    Rows over a bound are left out: nothing is expected to equal it.
    """
    worst: dict[str, RowReference] = {}
    worst_distance: dict[str, float] = {}
    for origin, column in columns:
        for index, path in enumerate(column.leaves.paths):
            row = RowReference(origin, column, index)
            bound = column.counterparts[index].basis in BOUND_BASES
            if path is None or bound or not (distance := row.distance):
                continue
            name = leaf_name(path)
            if distance > worst_distance.get(name, 0.0):
                worst[name], worst_distance[name] = row, distance
    names = nlargest(most, worst_distance, key=lambda name: worst_distance[name])
    return [worst[name].entry() for name in names]


def leaf_name(path: str) -> str:
    """A leaf's path without the layer: `moe.experts` of `layers.3.moe.experts`."""
    first, _, rest = path.partition(".")
    return rest.partition(".")[2] if first == "layers" else path


def _error_lines(by_group: dict[Group, ErrorStats], *, by_kind: bool) -> Iterator[ErrorLine]:
    """The lines of steps and of all leaves; or, `by_kind`, of leaves by kind of operator.

    They come in the order of the quantities, the step before its leaves.
    """
    lines: dict[Group, list[ErrorStats]] = {}
    for group, stats in by_group.items():
        if not by_kind:
            level = STEP_LEVEL if group.level == STEP_LEVEL else LEAF_LEVEL
            lines.setdefault(group._replace(level=level), []).append(stats)
        elif group.level != STEP_LEVEL and group.quantity in BY_KIND:
            lines[group] = [stats]
    quantities = list(QUANTITIES)

    def order(group: Group) -> tuple[object, ...]:
        of_leaves = group.level != STEP_LEVEL
        quantity, run = quantities.index(group.quantity), RUNS.index(group.run)
        return quantity, run, of_leaves, group.level, group.phase, group.basis, group.backend

    for group in sorted(lines, key=order):
        yield error_line(group, lines[group])


def _calibrations(recordings: Iterable[tuple[str, Recording]], gpus: Gpus) -> tuple[str, ...]:
    """A sentence for each device: which calibration predicts its times, or why none does."""
    devices = {
        session.machine.name for _, recording in recordings for session in recording.sessions
    }
    sentences = []
    for device in sorted(devices):
        gpu = gpus.of(device)
        if gpu is None:
            sentences.append(f"{device}: {NO_HARDWARE}")
        elif isinstance(gpu.calibration, Unknown):
            sentences.append(f"{device}: {gpu.calibration.reason}")
        else:
            used = gpu.calibration
            day = used.measured.partition("T")[0]
            sentences.append(f"{device}: times and energy by calibration {used.name} of {day}")
    return tuple(sentences)


def _failed_checks(recordings: Iterable[tuple[str, Recording]]) -> tuple[FailedCheck, ...]:
    return tuple(
        FailedCheck(
            recording=name,
            session=session.started,
            name=check.name,
            known=check.known,
            measured=check.measured,
            tolerance=check.tolerance,
        )
        for name, recording in recordings
        for session in recording.sessions
        for check in session.self_check
        if check.measured is not None and not check.passed
    )
