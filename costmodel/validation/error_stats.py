"""Joined rows summed up as they come: how many have both sides, how far those are apart, the worst.

Only rows that are to be read are made; all others are counted from the columns that hold them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log
from sys import float_info
from typing import NamedTuple

import numpy as np

from costmodel.layers.numbers import Number
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import CaseWorkload
from costmodel.validation.counterparts import BOUNDS
from costmodel.validation.join import AS_UNIFORM, NO_LEAF, OWN, Joined, Row

STEP_LEVEL, LEAF_LEVEL = "step", "leaf"
BOTH = "both"  # phases
OF_BOTH = (  # which do not differ in nature between decode and prefill
    "parameters",
    "buffer_bytes",
    "kv_held_bytes",
    "kv_allocated_bytes",
    "flops_counted",
    "eager_s",
    "distinct",
    "peak_memory_bytes",
    "resident_memory_bytes",
)
NO_KIND = "no operator"
TENTH, NINE_TENTHS = 0.1, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where rows come from: the recording (and, in a word, its model), and the case."""

    recording: str
    model: str
    case: str
    workload: CaseWorkload


class Entry(NamedTuple):
    """A joined row, where it comes from, and how far its two sides are apart (`distance`)."""

    origin: Origin
    row: Row
    distance: float


class Place(NamedTuple):
    """A row that is not made yet: one place of a column."""

    origin: Origin
    column: Joined
    at: int

    @property
    def distance(self) -> float:
        """How far its two sides are apart."""
        beside = self.column.beside[self.at]
        return distance(beside.value, self.column.measured[self.at], beside.basis)

    def entry(self) -> Entry:
        """The row, made."""
        return Entry(self.origin, self.column.row(self.at), self.distance)


class Key(NamedTuple):
    """What rows are summed up together."""

    quantity: str
    run: RunName
    level: str  # `step`, or the kind of operator
    phase: str  # decode, prefill or both
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLine:
    """How one quantity, at one level and in one phase, meets one basis.

    Attributes:
        level: `step`, or `leaf` for all leaves, or an operator kind.
        phase: decode, prefill, or `both` of a quantity that does not differ in nature.
        basis: A prediction, or the bound that stands in its place.
        compared: rows with both sides; of them `equal` are equal to the unit, `no_ratio` have a 0
            on one side alone, and `by_recorded_choices` are predicted by what the run chose.
        measured_only, predicted_only, neither: rows that lack a side, or both.
        median_ratio, low_ratio, high_ratio: measured over predicted: median, 10th and 90th
            percentile.
        error: exp(mean of |ln ratio|) - 1: 0.1 is 10 % off, up or down. None of a bound, which
            nothing is expected to equal.
        worst: the entry farthest from its prediction.
    """

    quantity: str
    run: RunName
    level: str
    phase: str
    basis: str
    compared: int
    equal: int
    no_ratio: int
    by_recorded_choices: int
    measured_only: int
    predicted_only: int
    neither: int
    median_ratio: float | None
    low_ratio: float | None
    high_ratio: float | None
    error: float | None
    worst: Entry | None

    @property
    def rows(self) -> int:
        """All rows, whatever sides they have."""
        return self.compared + self.measured_only + self.predicted_only + self.neither


def distance(predicted: Number | None, measured: float | None, basis: str) -> float:
    """How far two sides are apart: |ln ratio|; 0 where nothing can be compared.

    A number beside a predicted 0, or a measured 0, is infinitely far; beside a bound it says
    nothing, since bounds may be 0.
    """
    if predicted is None or measured is None or predicted == measured:
        return 0.0
    ratio = float(measured) / float(predicted) if predicted else 0.0
    if not ratio:
        return 0.0 if basis.startswith(BOUNDS) else inf
    return abs(log(ratio)) or float_info.min  # counts that differ beyond a float's digits


class Tally:
    """The rows of one key, so far."""

    def __init__(self) -> None:
        self.compared = self.equal = self.no_ratio = self.by_recorded_choices = 0
        self.measured_only = self.predicted_only = self.neither = 0
        self.ratios: list[float] = []
        self.factor = 1.0  # of the worst, up or down
        self.worst: Place | None = None

    def is_worst(self, measured: float, predicted: Number, *, bound: bool) -> bool:
        """Count a row with both sides; whether it is the farthest so far."""
        self.compared += 1
        equal = bool(measured == predicted)
        self.equal += equal
        ratio = float(measured) / float(predicted) if predicted else 0.0
        if not ratio:
            self.no_ratio += not equal
            worst = not equal and not bound and self.factor < inf
            self.factor = inf if worst else self.factor
            return worst
        self.ratios.append(ratio)
        if ratio > self.factor or ratio * self.factor < 1:
            self.factor = max(ratio, 1 / ratio)
            return True
        return not equal and self.worst is None


class Tallies:
    """All rows, summed up by key, and those that lack a side by the reason."""

    def __init__(self) -> None:
        self.by_key: dict[Key, Tally] = {}
        self.lacking: Counter[str] = Counter()

    def add(self, origin: Origin, column: Joined) -> None:
        """Count all rows of a column."""
        known: dict[tuple[str | None, str, bool], Tally] = {}
        own = column.own == OWN
        leaves = column.leaves
        rows = zip(leaves.kinds, column.beside, column.measured, strict=True)
        for index, (kind, beside, measured) in enumerate(rows):
            sort = kind, beside.basis, beside.by_choices
            tally = known.get(sort)
            if tally is None:
                tally = known[sort] = self._tally(origin, column, *sort)
            if measured is None:
                if beside.value is None:
                    tally.neither += 1
                else:
                    tally.predicted_only += 1
                place = leaves.places[index]
                self.lacking[NO_LEAF if place is None else column.readings.reason] += 1
            elif beside.value is None:
                tally.measured_only += 1
                self.lacking[beside.reason] += 1
            else:
                tally.by_recorded_choices += own and beside.by_choices
                if tally.is_worst(measured, beside.value, bound=beside.basis in BOUNDS):
                    tally.worst = Place(origin, column, index)

    def _tally(
        self,
        origin: Origin,
        column: Joined,
        kind: str | None,
        basis: str,
        by_choices: bool,  # noqa: FBT001 - a part of the sort
    ) -> Tally:
        level = STEP_LEVEL if column.leaves.paths == (None,) else kind or NO_KIND
        if by_choices and column.own == AS_UNIFORM:
            basis += AS_UNIFORM
        phase = BOTH if column.quantity in OF_BOTH else origin.workload.phase
        key = Key(column.quantity, column.run, level, phase, basis)
        return self.by_key.setdefault(key, Tally())


def error_line(key: Key, tallies: Sequence[Tally]) -> ErrorLine:
    """The sum of tallies."""
    ratios = np.array([ratio for tally in tallies for ratio in tally.ratios])
    low = middle = high = error = None
    if len(ratios):
        low, middle, high = map(float, np.quantile(ratios, (TENTH, 0.5, NINE_TENTHS)))
        if not key.basis.startswith(BOUNDS):
            error = float(np.expm1(np.abs(np.log(ratios)).mean()))
    worst = max(tallies, key=lambda each: (each.factor, each.worst is not None)).worst
    return ErrorLine(
        quantity=key.quantity,
        run=key.run,
        level=key.level,
        phase=key.phase,
        basis=key.basis,
        compared=sum(each.compared for each in tallies),
        equal=sum(each.equal for each in tallies),
        no_ratio=sum(each.no_ratio for each in tallies),
        by_recorded_choices=sum(each.by_recorded_choices for each in tallies),
        measured_only=sum(each.measured_only for each in tallies),
        predicted_only=sum(each.predicted_only for each in tallies),
        neither=sum(each.neither for each in tallies),
        median_ratio=middle,
        low_ratio=low,
        high_ratio=high,
        error=error,
        worst=worst.entry() if worst else None,
    )
