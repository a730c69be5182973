"""Statistics of the errors of joined rows: how many compare, their ratios, and the worst row.

Rows are counted straight from the columns that hold them; only the worst ones are made.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log
from sys import float_info
from typing import NamedTuple

from costmodel.layers.numbers import Number
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.quantities import RunName
from costmodel.validation.counterparts import BOUND_BASES
from costmodel.validation.joined import (
    AS_UNIFORM,
    BY_RECORDED_CHOICES,
    NOT_ALONE,
    JoinedColumn,
    Row,
)

STEP_LEVEL, LEAF_LEVEL = "step", "leaf"
BOTH_PHASES = "both"
OF_BOTH_PHASES = (  # quantities that do not differ in nature between decode and prefill
    "parameters",
    "buffer_bytes",
    "kv_held_bytes",
    "kv_allocated_bytes",
    "state_held_bytes",
    "flops_counted",
    "eager_s",
    "distinct",
    "peak_memory_bytes",
    "resident_memory_bytes",
)
NO_KIND = "no operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The recording and the case that rows come from; `model` is the short name of its model."""

    recording: str
    model: str
    case: str
    workload: CaseWorkload
    backend: str  # of the case's time


class Entry(NamedTuple):
    """A joined row with its origin, and how far measured and predicted are apart (`distance`)."""

    origin: Origin
    row: Row
    distance: float


class RowReference(NamedTuple):
    """A row of a column that is not made yet."""

    origin: Origin
    column: JoinedColumn
    row_index: int

    @property
    def distance(self) -> float:
        """How far the measured and the predicted number are apart (`distance` below)."""
        counterpart = self.column.counterparts[self.row_index]
        return distance(counterpart.value, self.column.measured[self.row_index], counterpart.basis)

    def entry(self) -> Entry:
        """The row, made."""
        return Entry(self.origin, self.column.row(self.row_index), self.distance)


class Group(NamedTuple):
    """The rows of one statistic: those that agree in all of this."""

    quantity: str
    run: RunName
    level: str  # `step`, or the kind of operator
    phase: str  # `decode`, `prefill` or `both`
    basis: str
    backend: str


def distance(predicted: Number | None, measured: float | None, basis: str) -> float:
    """How far two numbers are apart: |ln(measured / predicted)|; 0 if one of them is missing.

    If one of the two is 0, they are infinitely far apart; but not if `basis` is a bound, which may
    well be 0: then nothing is said, and the distance is 0.
    """
    if predicted is None or measured is None or predicted == measured:
        return 0.0
    ratio = float(measured) / float(predicted) if predicted else 0.0
    if not ratio:
        return 0.0 if basis.startswith(BOUND_BASES) else inf
    return abs(log(ratio)) or float_info.min  # counts that differ beyond a float's digits


class ErrorStats:
    """The statistics of one group of rows, as far as they have been counted."""

    def __init__(self) -> None:
        self.compared = self.equal = self.no_ratio = self.by_recorded_choices = 0
        self.measured_only = self.predicted_only = self.neither = 0
        self.ratios: list[float] = []  # of pairs
        self.amounts: list[float] = []  # what was measured of each, all layers together
        self.worst_factor = 1.0  # by which the numbers of the worst row differ, up or down
        self.worst: RowReference | None = None

    def count_compared(
        self, column: Sequence[float], predicted: Number, *, bound: bool
    ) -> float | None:
        """Count measured numbers that are compared with one predicted number: one pair.

        The answer is the measured number that is the worst so far; None if an earlier one is.
        """
        self.compared += len(column)
        equal = column.count(predicted)
        self.equal += equal
        divisor = float(predicted)
        ratios = [float(measured) / divisor for measured in column] if divisor else []
        if not (ratios and all(ratios)):
            return self._count_zeros(column, divisor, bound=bound)
        self._add(ratios, column)
        high, low = max(ratios), min(ratios)
        farthest = high if high * low >= 1 else low
        if farthest > self.worst_factor or farthest * self.worst_factor < 1:
            self.worst_factor = max(farthest, 1 / farthest)
            return column[ratios.index(farthest)]
        if equal == len(column) or self.worst is not None:
            return None
        return next(measured for measured in column if measured != predicted)

    def _count_zeros(self, column: Sequence[float], divisor: float, *, bound: bool) -> float | None:
        """Count the ratios of a column in which one is 0, or too small for a float."""
        worst = None
        ratios = []
        for measured in column:
            ratio = float(measured) / divisor if divisor else 0.0
            if ratio:
                ratios.append(ratio)
                if ratio > self.worst_factor or ratio * self.worst_factor < 1:
                    self.worst_factor, worst = max(ratio, 1 / ratio), measured
            elif measured or divisor:
                self.no_ratio += 1
                if not bound and self.worst_factor < inf:
                    self.worst_factor, worst = inf, measured
        if ratios:
            self._add(ratios, column)
        return worst

    def _add(self, ratios: Sequence[float], column: Sequence[float]) -> None:
        """Add one pair: the mean of the ratios of its layers, and the sum of what was measured."""
        one = len(ratios) == 1  # a step, as most are
        self.ratios.append(ratios[0] if one else sum(ratios) / len(ratios))
        self.amounts.append(float(column[0] if one else sum(column)))


class GroupedErrorStats:
    """The statistics of all rows by group, and how many rows lack a number, by the reason."""

    def __init__(self) -> None:
        self.by_group: dict[Group, ErrorStats] = {}
        self.lacking: Counter[str] = Counter()

    def add(self, origin: Origin, column: JoinedColumn) -> None:
        """Count all rows of a column."""
        measured = column.measured
        none_measured = not column.readings.median
        groups: dict[tuple[str | None, str, bool], ErrorStats] = {}  # of a column they are few
        for rows in column.leaves.alike:
            kind = column.leaves.kinds[rows[0]]
            counterpart = column.counterparts[rows[0]]
            told_apart = kind, counterpart.basis, counterpart.by_choices
            stats = groups.get(told_apart)
            if stats is None:
                stats = groups[told_apart] = self._stats(origin, column, *told_apart)
            known = (
                []
                if none_measured
                else [value for row in rows if (value := measured[row]) is not None]
            )
            absent = len(rows) - len(known)
            if absent:
                if counterpart.value is None:
                    stats.neither += absent
                else:
                    stats.predicted_only += absent
                self._count_absent(column, rows)
            if counterpart.value is None:
                stats.measured_only += len(known)
                if known:
                    self.lacking[counterpart.reason] += len(known)
            elif known:
                if counterpart.by_choices and column.choices == BY_RECORDED_CHOICES:
                    stats.by_recorded_choices += len(known)
                bound = counterpart.basis in BOUND_BASES
                worst = stats.count_compared(known, counterpart.value, bound=bound)
                if worst is not None:
                    row = next(row for row in rows if measured[row] == worst)
                    stats.worst = RowReference(origin, column, row)

    def _count_absent(self, column: JoinedColumn, rows: Sequence[int]) -> None:
        """Count why rows have no measured number, where they have none."""
        leaves = column.leaves
        if not column.readings.median and not leaves.inside and None not in leaves.places:
            self.lacking[column.readings.reason] += len(rows)
            return
        for row in rows:
            if column.measured[row] is None:
                reason = leaves.why_not_measured(row, column.readings.reason)
                self.lacking[NOT_ALONE if reason.startswith(NOT_ALONE) else reason] += 1

    def _stats(
        self,
        origin: Origin,
        column: JoinedColumn,
        kind: str | None,
        basis: str,
        by_choices: bool,  # noqa: FBT001 - a part of what tells groups apart
    ) -> ErrorStats:
        """The statistics of the group that such rows of a column belong to."""
        level = STEP_LEVEL if column.of_step else kind or NO_KIND
        if by_choices and column.choices == AS_UNIFORM:
            basis += AS_UNIFORM
        phase = BOTH_PHASES if column.quantity in OF_BOTH_PHASES else origin.workload.phase
        group = Group(column.quantity, column.run, level, phase, basis, column.backend)
        stats = self.by_group.get(group)
        if stats is None:
            stats = self.by_group[group] = ErrorStats()
        return stats
