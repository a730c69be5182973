"""The rows of a join: one quantity of a step or a leaf, as predicted and as measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from costmodel.layers.numbers import Number
from costmodel.recordings.measured import Readings
from costmodel.recordings.quantities import RunName
from costmodel.validation.case_prediction import CasePrediction
from costmodel.validation.counterparts import Counterpart

NOT_ALONE = "not measured alone"
NO_LEAF = "not measured (no leaf of the recording has this path)"

# Values of `choices`: what `basis` adds to numbers that depend on choices
AS_ROUTED = ""  # synthetic routing
BY_RECORDED_CHOICES = ", by the recorded choices"
AS_UNIFORM = ", as if uniform (no choice was recorded)"


class Row(NamedTuple):
    """One quantity of a step or of one leaf, as predicted and as measured.

    `path` and `kind` (of the leaf's operator) are None for the step. `basis` says what `predicted`
    is: a prediction, or the bound in its place. The quartiles `q1` and `q3` are None of an exact
    count. If `predicted` or `measured` is None, `reason` says why.
    """

    run: RunName
    quantity: str
    path: str | None
    kind: str | None
    basis: str
    predicted: Number | None
    measured: float | None  # median
    q1: float | None
    q3: float | None
    repeats: int | None
    source: str | None
    reason: str | None
    backend: str  # of the run, or of the case's other runs

    @property
    def ratio(self) -> float | None:
        """Measured over predicted; None if one of them is missing or `predicted` is 0."""
        if self.measured is None or not self.predicted:
            return None
        return float(self.measured) / float(self.predicted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """What the rows of a column are of: leaves and regions, or the step alone (`STEP_ALONE`).

    All tuples have one entry for each row.

    Attributes:
        paths: of the leaves; None is the step.
        kinds: of the leaves' operators; None of a leaf that no operator has.
        operators: indices of the operators in the prediction; -1 of a leaf that no operator has.
        places: indices of the paths in the recording; None of a leaf that the recording lacks.
        regions: indices of the operators that a region's kernels span, by the region's path.
        inside: the path of the region by the path of each leaf that it spans.
        alike: rows (indices) that have one counterpart: leaves of one operator, regions of the
            same operators. Every row stands in one of them.
    """

    paths: tuple[str | None, ...]
    kinds: tuple[str | None, ...]
    operators: tuple[int, ...]
    places: tuple[int | None, ...]
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    inside: Mapping[str, str] = field(default_factory=dict)
    alike: tuple[tuple[int, ...], ...]

    def why_not_measured(self, index: int, otherwise: str) -> str:
        """Why a row has no measured number; `otherwise` if the recording has the leaf."""
        path = self.paths[index]
        if path is not None and path in self.inside:
            return f"{NOT_ALONE} (a kernel spans {self.inside[path]})"
        return NO_LEAF if self.places[index] is None else otherwise

    def values(self, column: Sequence[float | None]) -> tuple[float | None, ...]:
        """Of each row the number that a recorded column holds; an empty column holds none."""
        if not column:
            return (None,) * len(self.places)
        return tuple([None if place is None else column[place] for place in self.places])

    def only(self, kept: Sequence[int]) -> "Leaves":
        """The rows at these indices, none of them alike."""
        return replace(
            self,
            paths=tuple(self.paths[index] for index in kept),
            kinds=tuple(self.kinds[index] for index in kept),
            operators=tuple(self.operators[index] for index in kept),
            places=tuple(self.places[index] for index in kept),
            alike=tuple((row,) for row in range(len(kept))),
        )


STEP_ALONE = Leaves(paths=(None,), kinds=(None,), operators=(-1,), places=(0,), alike=((0,),))


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedColumn:
    """One quantity of one run, of the step or of all leaves: its rows, made when asked for.

    A folder of recordings has half a million rows, most of which are only counted.

    Attributes:
        backend: whose kernels the run measured; of an absent run, those of the case's others.
        leaves: what the rows are of.
        counterparts: the predicted number of each row.
        measured: the measured number of each row.
        readings: the measured column, in the order of the recording's paths.
        choices: `AS_ROUTED`, `BY_RECORDED_CHOICES` or `AS_UNIFORM`.
    """

    run: RunName
    backend: str
    quantity: str
    leaves: Leaves
    counterparts: tuple[Counterpart, ...]
    measured: tuple[float | None, ...]
    readings: Readings
    choices: str

    @property
    def of_step(self) -> bool:
        """True if the column is one number of the step, not one a leaf."""
        return self.leaves is STEP_ALONE

    def row(self, index: int) -> Row:
        """The row of one leaf, or of the step (0)."""
        counterpart, measured = self.counterparts[index], self.measured[index]
        place = self.leaves.places[index]
        reasons = [] if counterpart.value is not None else [counterpart.reason]
        if measured is None:
            reasons.append(self.leaves.why_not_measured(index, self.readings.reason))
        return Row(
            run=self.run,
            quantity=self.quantity,
            path=self.leaves.paths[index],
            kind=self.leaves.kinds[index],
            basis=counterpart.basis + self.choices if counterpart.by_choices else counterpart.basis,
            predicted=counterpart.value,
            measured=measured,
            q1=_at(self.readings.q1, place),
            q3=_at(self.readings.q3, place),
            repeats=self.readings.repeats,
            source=self.readings.source,
            reason="; ".join(reasons) or None,
            backend=self.backend,
        )

    def rows(self) -> Iterator[Row]:
        """All rows."""
        return map(self.row, range(len(self.counterparts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedCase:
    """All quantities of one case; `index` is that of the case in the recording.

    `prediction` is that of the device and the backend of the run `time`.
    """

    index: int
    label: str
    columns: tuple[JoinedColumn, ...]
    prediction: CasePrediction

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows of all columns; they are made at each call."""
        return tuple(row for column in self.columns for row in column.rows())


def _at(column: Sequence[float | None], place: int | None) -> float | None:
    return column[place] if place is not None and column else None
