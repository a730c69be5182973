"""A second run of the same cases beside the first: how far they are apart, against their spread.

Only what the two have in common is compared: cases of one workload, in the runs that both finished.
A step's repeated readings differ by a `Change`; counts, of steps and of leaves, are equal or not.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import hypot
from statistics import median

from costmodel.errors import InputError, shown
from costmodel.recordings.measured import Exact, ExactColumn, Spread
from costmodel.recordings.quantities import QUANTITIES, RUNS, RunName
from costmodel.recordings.recording import Case, Recording

Pair = tuple[Recording, Recording]
"""The first recording of a model, and a second one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A number of one step, measured twice."""

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
        """What the two runs' own spreads allow, over the first median: sqrt(IQR^2 + IQR'^2).

        None where a run is a single reading, which has no spread of its own.
        """
        if self.first.repeats == 1 or self.again.repeats == 1:
            return None
        ranges = (each.q3 - each.q1 for each in (self.first, self.again))
        return hypot(*ranges) / self.first.median

    @property
    def within(self) -> bool | None:
        """Whether the medians are no farther apart than that; None where there is no spread."""
        return None if self.spread is None else abs(self.relative) <= self.spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """All changes of one quantity of steps."""

    quantity: str
    run: RunName
    changes: tuple[Change, ...]

    @property
    def usual(self) -> float:
        """The median of |relative change|."""
        return median(abs(each.relative) for each in self.changes)

    @property
    def largest(self) -> Change:
        """The change farthest from none."""
        return max(self.changes, key=lambda each: abs(each.relative))

    @property
    def usual_spread(self) -> float | None:
        """The median of the changes' spreads; None where there are none."""
        spreads = [each.spread for each in self.changes if each.spread is not None]
        return median(spreads) if spreads else None

    @property
    def within(self) -> int | None:
        """How many changes lie within their spread; None where there is none."""
        return None if self.usual_spread is None else sum(map(_is_within, self.changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recounted:
    """A count in both runs, of steps and of leaves: how many were compared, how many are equal."""

    quantity: str
    run: RunName
    compared: int
    equal: int


def repeated(pairs: Sequence[Pair]) -> tuple[Repeated, ...]:
    """Every quantity of steps that was read in both runs, in the order of `QUANTITIES`.

    Raises:
        InputError: Two recordings are not of one model, weights and data.
    """
    cases = [each for pair in pairs for each in _common(*pair)]
    found = []
    for run, quantity in _asked():
        changes = tuple(
            Change(model=model, case=first.workload.label, first=one, again=two)
            for model, first, again in cases
            for one, two in _both(first, again, run, quantity)
            if isinstance(one, Spread) and isinstance(two, Spread)
        )
        if changes:
            found.append(Repeated(quantity=quantity, run=run, changes=changes))
    return tuple(found)


def recounted(pairs: Sequence[Pair]) -> tuple[Recounted, ...]:
    """Every count that both runs made, in the order of `QUANTITIES`.

    Raises:
        InputError: Two recordings are not of one model, weights and data.
    """
    cases = [each for pair in pairs for each in _common(*pair)]
    found = []
    for run, quantity in _asked():
        values = [
            value
            for _, first, again in cases
            for one, two in _both(first, again, run, quantity)
            for value in _counts(one, two)
        ]
        if values:
            equal = sum(one == two for one, two in values)
            found.append(Recounted(quantity=quantity, run=run, compared=len(values), equal=equal))
    return tuple(found)


def _common(first: Recording, again: Recording) -> Iterator[tuple[str, Case, Case]]:
    """The model's name, and the cases that both recordings hold."""
    for field in ("model", "weights_seed", "paths"):
        if getattr(first, field) != getattr(again, field):
            raise InputError(f"{field}: differs between {shown(first.model.name)} and its repeat")
    known = {case.workload: case for case in first.cases}
    for case in again.cases:
        if case.workload not in known:
            continue
        if case.seed != known[case.workload].seed:
            label = case.workload.label
            raise InputError(f"seed={case.seed}: differs from the first run's: {label}")
        yield first.model.name, known[case.workload], case


def _asked() -> Iterator[tuple[RunName, str]]:
    return ((run, name) for name, each in QUANTITIES.items() for run in RUNS if run in each.runs)


def _both(first: Case, again: Case, run: RunName, quantity: str) -> Iterator[tuple[object, object]]:
    """The quantity in both cases, of the step and of the leaves, where both finished the run."""
    if run in first.runs and run in again.runs:
        one, two = first.runs[run], again.runs[run]
        yield one.step.get(quantity), two.step.get(quantity)
        yield one.operators.get(quantity), two.operators.get(quantity)


def _counts(one: object, two: object) -> Iterable[tuple[int | None, int | None]]:
    """Pairs of counts; of a column, those of leaves where either has one."""
    if isinstance(one, Exact) and isinstance(two, Exact):
        return [(one.value, two.value)]
    if isinstance(one, ExactColumn) and isinstance(two, ExactColumn):
        pairs = zip(one.values, two.values, strict=True)
        return [pair for pair in pairs if pair != (None, None)]
    return []


def _is_within(change: Change) -> bool:
    return change.within is True
