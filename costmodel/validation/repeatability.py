"""Repeatability: the same cases measured twice, and how far the two recordings are apart.

Only what both recordings hold is compared: cases of the same workload, and runs that finished in
both. Repeated readings of a step are compared by their medians, with the spread that both state;
counts, of steps and of leaves, are equal or not.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import hypot
from statistics import median

from costmodel.errors import InputError, shown
from costmodel.recordings.measured import Exact, ExactColumn, Spread
from costmodel.recordings.quantities import QUANTITIES, RUNS, RunName
from costmodel.recordings.recording import Case, Recording

RecordingPair = tuple[Recording, Recording]
"""Two recordings of one model, the first and the repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One quantity of one step, measured in both recordings."""

    model: str
    case: str
    first: Spread
    again: Spread

    @property
    def relative(self) -> float:
        """The second median over the first, less 1."""
        return self.again.median / self.first.median - 1

    @property
    def spread(self) -> float | None:
        """The change that the spreads of both measurements allow, relative to the first median.

        It is sqrt(IQR^2 + IQR'^2) / median, of their interquartile ranges; None if one of the two
        is a single reading, which has no range.
        """
        if self.first.repeats == 1 or self.again.repeats == 1:
            return None
        ranges = (readings.q3 - readings.q1 for readings in (self.first, self.again))
        return hypot(*ranges) / self.first.median

    @property
    def within(self) -> bool | None:
        """Whether the medians differ by no more than `spread`; None without a spread."""
        return None if self.spread is None else abs(self.relative) <= self.spread


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityChanges:
    """The changes of one quantity, over all steps that both recordings measured."""

    quantity: str
    run: RunName
    changes: tuple[Change, ...]

    @property
    def usual(self) -> float:
        """The median of |relative change|."""
        return median(abs(change.relative) for change in self.changes)

    @property
    def largest(self) -> Change:
        """The change with the largest |relative change|."""
        return max(self.changes, key=lambda change: abs(change.relative))

    @property
    def usual_spread(self) -> float | None:
        """The median of the spreads; None if no change has one."""
        spreads = [change.spread for change in self.changes if change.spread is not None]
        return median(spreads) if spreads else None

    @property
    def within(self) -> int | None:
        """How many changes lie within their spread; None if no change has one."""
        if self.usual_spread is None:
            return None
        return sum(change.within is True for change in self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class CountAgreement:
    """One count, of steps or of leaves: how many pairs were compared, and how many are equal."""

    quantity: str
    run: RunName
    compared: int
    equal: int


def quantity_changes(pairs: Sequence[RecordingPair]) -> tuple[QuantityChanges, ...]:
    """The changes of every quantity of steps that has readings in both recordings of a pair.

    Raises:
        InputError: Two recordings are not of one model, weights and data.
    """
    cases = [common for pair in pairs for common in _common_cases(*pair)]
    quantities = []
    for run, quantity in _runs_and_quantities():
        changes = tuple(
            Change(model=model, case=first.workload.label, first=one, again=two)
            for model, first, again in cases
            for one, two in _measured_twice(first, again, run, quantity)
            if isinstance(one, Spread) and isinstance(two, Spread)
        )
        if changes:
            quantities.append(QuantityChanges(quantity=quantity, run=run, changes=changes))
    return tuple(quantities)


def count_agreements(pairs: Sequence[RecordingPair]) -> tuple[CountAgreement, ...]:
    """Whether every count that both recordings of a pair hold is the same in both.

    Raises:
        InputError: Two recordings are not of one model, weights and data.
    """
    cases = [common for pair in pairs for common in _common_cases(*pair)]
    agreements = []
    for run, quantity in _runs_and_quantities():
        counts = [
            count
            for _, first, again in cases
            for one, two in _measured_twice(first, again, run, quantity)
            for count in _counts(one, two)
        ]
        if counts:
            equal = sum(one == two for one, two in counts)
            agreements.append(
                CountAgreement(quantity=quantity, run=run, compared=len(counts), equal=equal)
            )
    return tuple(agreements)


def _common_cases(first: Recording, again: Recording) -> Iterator[tuple[str, Case, Case]]:
    """The cases whose workload both recordings hold, with the model's name."""
    for field in ("model", "weights_seed", "paths"):
        if getattr(first, field) != getattr(again, field):
            raise InputError(f"{field}: differs between {shown(first.model.name)} and its repeat")
    first_cases = {case.workload: case for case in first.cases}
    for case in again.cases:
        if case.workload not in first_cases:
            continue
        if case.seed != first_cases[case.workload].seed:
            label = case.workload.label
            raise InputError(f"seed={case.seed}: differs from the first run's: {label}")
        kernels = kernels_of(first)
        name = first.model.name if kernels == "torch" else f"{first.model.name}, {kernels}"
        yield name, first_cases[case.workload], case


def kernels_of(recording: Recording) -> str:
    """The backend whose kernels a recording measured; of several all, as `fused and torch`."""
    backends = {run.backend for case in recording.cases for run in case.runs.values()}
    return " and ".join(sorted(backends))


def _runs_and_quantities() -> Iterator[tuple[RunName, str]]:
    """Each run of each quantity, in the order of `QUANTITIES`."""
    return (
        (run, name) for name, quantity in QUANTITIES.items() for run in RUNS if run in quantity.runs
    )


def _measured_twice(
    first: Case, again: Case, run: RunName, quantity: str
) -> Iterator[tuple[object, object]]:
    """The quantity of the step and of the leaves, in two cases; none if one lacks the run."""
    if run in first.runs and run in again.runs:
        one, two = first.runs[run], again.runs[run]
        yield one.step.get(quantity), two.step.get(quantity)
        yield one.operators.get(quantity), two.operators.get(quantity)


def _counts(one: object, two: object) -> Iterable[tuple[int | None, int | None]]:
    """Pairs of counts; of columns, those of the leaves that have a count in either."""
    if isinstance(one, Exact) and isinstance(two, Exact):
        return [(one.value, two.value)]
    if isinstance(one, ExactColumn) and isinstance(two, ExactColumn):
        pairs = zip(one.values, two.values, strict=True)
        return [pair for pair in pairs if pair != (None, None)]
    return []
