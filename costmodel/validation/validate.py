"""How well predictions meet recordings: errors by quantity and operator kind, and the worst cases.

Every joined row is counted somewhere: compared, or with one side, or with neither. Errors are of
ratios, measured over predicted: a factor of two too high and one too low weigh the same.
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
from costmodel.validation.bounds import Violation, demands, violations_of
from costmodel.validation.counterparts import NO_HARDWARE, Gpus
from costmodel.validation.error_stats import (
    BOTH,
    LEAF_LEVEL,
    STEP_LEVEL,
    Entry,
    ErrorLine,
    Key,
    Origin,
    Place,
    Tallies,
    Tally,
    error_line,
)
from costmodel.validation.join import NO_RUN, OWN, STEP, Joined, join
from costmodel.validation.utilisation import Achieved, achieved

BY_KIND = ("kernel_s", "launches", "hbm_read_bytes")  # whose leaves are told apart by kind
MAX_NAME = 28  # characters of a model's name in a table

Columns: TypeAlias = Sequence[tuple[Origin, Joined]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFigures:
    """What one case achieved."""

    origin: Origin
    achieved: Achieved


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCheck:
    """A self-check of the profiler that did not hold: what was known, and what was measured."""

    recording: str
    session: str  # when it started
    name: str
    known: float
    measured: float
    tolerance: float  # relative


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Recordings against predictions.

    Attributes:
        recordings: each recording's name, and the short one of its model.
        calibrations: by GPU, what predicted its times.
        failed_checks: self-checks of the profiler that did not hold.
        violations: what undercuts its bound, with the recording, the farthest below first.
        errors: by quantity, level and phase.
        errors_by_kind: the same of leaves, by kind of operator.
        figures: what each case achieved.
        chosen_cases: cases that are predicted by the choices that they recorded.
        lacking_runs: how many cases lack a run, by run and reason.
        lacking_sides: how many rows lack a side, by the reason.
        columns: all rows, by quantity and run.
    """

    recordings: tuple[tuple[str, str], ...]
    calibrations: tuple[str, ...]
    failed_checks: tuple[FailedCheck, ...]
    violations: tuple[tuple[str, Violation], ...]
    errors: tuple[ErrorLine, ...]
    errors_by_kind: tuple[ErrorLine, ...]
    figures: tuple[CaseFigures, ...]
    chosen_cases: int
    lacking_runs: Counter[tuple[RunName, str]]
    lacking_sides: Counter[str]
    columns: dict[tuple[str, RunName], Columns]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(line.rows for line in self.errors)


def validate(recordings: Sequence[tuple[str, Recording]], gpus: Gpus) -> Validation:
    """Join each named recording with its prediction and sum up.

    Raises:
        InputError: A calibration was asked for that is of another GPU.
    """
    models = short_names([recording.model.name for _, recording in recordings])
    tallies = Tallies()
    columns: dict[tuple[str, RunName], list[tuple[Origin, Joined]]] = {
        (quantity.name, run): [] for quantity in QUANTITIES.values() for run in quantity.runs
    }
    figures: list[CaseFigures] = []
    broken: list[tuple[str, Violation]] = []
    chosen = 0
    lacking: Counter[tuple[RunName, str]] = Counter()
    for (name, recording), model in zip(recordings, models, strict=True):
        for joined in join(recording, gpus):
            case = recording.cases[joined.index]
            origin = Origin(recording=name, model=model, case=joined.label, workload=case.workload)
            for column in joined.columns:
                tallies.add(origin, column)
                columns[column.quantity, column.run].append((origin, column))
            chosen += any(column.own == OWN for column in joined.columns)
            demanded = demands(recording.model, case.workload)
            found = achieved(recording, joined.index, gpus, demanded)
            figures.append(CaseFigures(origin=origin, achieved=found))
            broken += [(name, each) for each in violations_of(recording, case, gpus, demanded)]
            lacking.update(
                (run, case.lacking.get(run, NO_RUN)) for run in RUNS if run not in case.runs
            )
    return Validation(
        recordings=tuple(zip((name for name, _ in recordings), models, strict=True)),
        calibrations=_calibrations(recordings, gpus),
        failed_checks=_failed_checks(recordings),
        violations=tuple(sorted(broken, key=lambda each: each[1].share)),
        errors=tuple(_lines(tallies.by_key, by_kind=False)),
        errors_by_kind=tuple(_lines(tallies.by_key, by_kind=True)),
        figures=tuple(figures),
        chosen_cases=chosen,
        lacking_runs=lacking,
        lacking_sides=tallies.lacking,
        columns={key: rows for key, rows in columns.items() if rows},
    )


def short_names(models: Sequence[str]) -> list[str]:
    """Models in a word: `OLMoE-227M` of `OLMoE-227M/1.2B`; `#2` is a second one of that name."""
    whole = [name.partition(" (")[0] for name in models]
    heads = {name: name.partition("/")[0] for name in whole}
    shared = Counter(heads.values())
    found: list[str] = []
    seen: Counter[str] = Counter()
    for name in whole:
        short = heads[name] if shared[heads[name]] == 1 else name
        short = short if len(short) <= MAX_NAME else f"{short[: MAX_NAME - 3]}..."
        seen[short] += 1
        found.append(short if seen[short] == 1 else f"{short} #{seen[short]}")
    return found


def worst_first(columns: Columns, most: int | None = None) -> Iterator[Entry]:
    """All rows of some columns; or the `most` worst of those that have two sides, which differ."""
    places = (
        Place(origin, column, at) for origin, column in columns for at in range(len(column.beside))
    )
    far = attrgetter("distance")
    if most is None:
        return (place.entry() for place in sorted(places, key=far, reverse=True))
    return (place.entry() for place in nlargest(most, places, key=far) if place.distance)


def of_step(columns: Columns, phase: str) -> Columns:
    """Those of the step itself, in one phase or both."""
    return [
        (origin, column)
        for origin, column in columns
        if column.leaves is STEP and phase in {origin.workload.phase, BOTH}
    ]


def worst_leaves(columns: Columns, most: int) -> list[Entry]:
    """The worst row of each leaf, whatever its layer, the farthest first."""
    worst: dict[str, Place] = {}
    far: dict[str, float] = {}
    for origin, column in columns:
        for at, path in enumerate(column.leaves.paths):
            place = Place(origin, column, at)
            if path is None or not (apart := place.distance):
                continue
            name = leaf_name(path)
            if apart > far.get(name, 0.0):
                worst[name], far[name] = place, apart
    return [worst[name].entry() for name in nlargest(most, far, key=lambda name: far[name])]


def leaf_name(path: str) -> str:
    """A leaf's path without the layer: `moe.experts` of `layers.3.moe.experts`."""
    first, _, rest = path.partition(".")
    return rest.partition(".")[2] if first == "layers" else path


def _lines(by_key: dict[Key, Tally], *, by_kind: bool) -> Iterator[ErrorLine]:
    """Tallies as lines, in the order of the quantities, the step before its leaves."""
    parts: dict[Key, list[Tally]] = {}
    for key, tally in by_key.items():
        if not by_kind:
            level = STEP_LEVEL if key.level == STEP_LEVEL else LEAF_LEVEL
            parts.setdefault(key._replace(level=level), []).append(tally)
        elif key.level != STEP_LEVEL and key.quantity in BY_KIND:
            parts[key] = [tally]
    order = list(QUANTITIES)

    def place(key: Key) -> tuple[int, int, bool, str, str, str]:
        leaf = key.level != STEP_LEVEL
        run = RUNS.index(key.run)
        return order.index(key.quantity), run, leaf, key.level, key.phase, key.basis

    for key in sorted(parts, key=place):
        yield error_line(key, parts[key])


def _calibrations(recordings: Iterable[tuple[str, Recording]], gpus: Gpus) -> tuple[str, ...]:
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
            day = made.conditions.started.partition("T")[0]
            found.append(f"{device}: times and energy by calibration {made.name} of {day}")
    return tuple(found)


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
