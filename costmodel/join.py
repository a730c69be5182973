"""A recording joined with its prediction: an outer join on `path`, in which nothing is dropped.

Every quantity that a run can give has a row for the step and one for each leaf that either side
knows. A side that says nothing is None, with the reason; so a quantity that was never measured
still shows what was predicted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from costmodel.beside import (
    PREDICTED,
    UNPREDICTED,
    Beside,
    Gpu,
    Gpus,
    Side,
    operator_beside,
    step_beside,
    workload_of,
)
from costmodel.inputs.measured import (
    Column,
    Exact,
    ExactColumn,
    Measured,
    Missing,
    Spread,
    SpreadColumn,
)
from costmodel.inputs.recording import Case, Recording
from costmodel.layers.operator import Number, Operator, expanded_paths
from costmodel.observed import Observed, chosen_by, recorded_routing
from costmodel.quantities import RUNS, RunName, measured_in

OWN = ", by the recorded choices"
AS_UNIFORM = ", as if uniform (no choice was recorded)"
NO_LEAF = "not measured (no leaf of the recording has this path)"
NO_OPERATOR = "not predicted (no operator has this path)"
NOT_GIVEN = "not measured (the run gives none here)"
NO_RUN = "not measured (the case has no such run)"


class Row(NamedTuple):
    """One quantity of a step or of one leaf, both sides. None: that side has none; `reason` why.

    `path` and `kind` (the operator's) are None for the step. `basis` says what `predicted` is: a
    prediction, or the bound that stands in its place. Quartiles are None of an exact count.
    A tuple, since a folder of recordings makes half a million of them.
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

    @property
    def ratio(self) -> float | None:
        """Measured over predicted; None where a side is missing or nothing is predicted."""
        if self.measured is None or not self.predicted:
            return None
        return float(self.measured) / float(self.predicted)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedCase:
    """All rows of one case. `index` is its place in the recording."""

    index: int
    label: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """A quantity as a run gives it, in the order of `paths`; empty where there is none."""

    median: Sequence[float | None] = ()
    q1: Sequence[float | None] = ()
    q3: Sequence[float | None] = ()
    repeats: int | None = None
    source: str | None = None
    reason: str = NOT_GIVEN


def join(recording: Recording, gpus: Gpus) -> Iterator[JoinedCase]:
    """Each case of the recording beside its prediction, in turn."""
    for index in range(len(recording.cases)):
        yield join_case(recording, index, gpus)


def join_case(recording: Recording, index: int, gpus: Gpus) -> JoinedCase:
    """One case beside its prediction, run by run, each on the machine that measured it."""
    case = recording.cases[index]
    sides: dict[str, Side] = {}
    rows: list[Row] = []
    for name in RUNS:
        device = device_of(recording, case, name)
        if device not in sides:
            sides[device] = side_of(recording, case, gpus.of(device))
        rows += _rows(recording, case, name, sides[device])
    return JoinedCase(index=index, label=case_label(case), rows=tuple(rows))


def case_label(case: Case) -> str:
    """`decode, batch 16, context 2,048, bf16, uniform`."""
    work = case.workload
    new = f", {work.new_tokens:,} new tokens" if work.phase == "prefill" else ""
    return (
        f"{work.phase}, batch {work.batch:,}, context {work.context:,}{new},"
        f" {work.dtype}, {work.routing}"
    )


def device_of(recording: Recording, case: Case, name: RunName) -> str:
    """The device of a run; of an absent run, that of the case's others, or of the recording."""
    runs = [case.runs[name]] if name in case.runs else [*case.runs.values()]
    return recording.sessions[runs[0].session if runs else 0].machine.name


def side_of(recording: Recording, case: Case, gpu: Gpu | None) -> Side:
    """The predicted side. Under `scores` it is costed by what the case was seen to touch."""
    routing = None
    if case.workload.routing == "scores":
        found = (recorded_routing(recording, case.runs[name]) for name in RUNS if name in case.runs)
        routing = next((each for each in found if each is not None), None)
    return Side(recording.model, workload_of(case.workload, routing), gpu)


def _rows(recording: Recording, case: Case, name: RunName, side: Side) -> Iterator[Row]:
    """All rows of one run of a case: the leaves of the recording, and those only predicted."""
    run = case.runs.get(name)
    absent = case.lacking.get(name, NO_RUN)
    own = ""
    if case.workload.routing == "scores":
        own = OWN if isinstance(side.workload.routing, Observed) else AS_UNIFORM
    for quantity in measured_in(name, "step"):
        given = _given(run.step.get(quantity) if run else Missing(reason=absent))
        yield _row(name, quantity, None, None, step_beside(side, quantity), given, 0, own)
    operators = side.costs.operators
    by_path = {path: op for op in operators for path in expanded_paths(op.path)}
    places = {path: place for place, path in enumerate(recording.paths)}
    leaves = [*recording.paths, *(path for path in by_path if path not in places)]
    for quantity in measured_in(name, "operators"):
        given = _given(run.operators.get(quantity) if run else Missing(reason=absent))
        predicted = _predicted(side, quantity, by_path)
        for path in leaves:
            place, beside = places.get(path), predicted.get(path)
            if beside is None:
                if quantity == "distinct" and _at(given.median, place) is None:
                    continue  # the leaf chooses nothing, and neither side says that it does
                beside = Beside(value=None, basis=UNPREDICTED, reason=NO_OPERATOR)
            kind = by_path[path].kind if path in by_path else None
            yield _row(name, quantity, path, kind, beside, given, place, own)


def _predicted(side: Side, quantity: str, by_path: Mapping[str, Operator]) -> dict[str, Beside]:
    """What stands beside a quantity, by path; distinct items stand at the leaf that chooses."""
    operators = side.costs.operators
    if quantity == "distinct":
        return {
            chooser: Beside(value=distinct, basis=PREDICTED, by_choices=True)
            for chooser, distinct in chosen_by(operators).values()
        }
    once = {op.path: operator_beside(side, quantity, op) for op in operators}
    return {path: once[op.path] for path, op in by_path.items()}


def _given(given: Measured | Column | None) -> _Given:
    """Columns of one or of all leaves; an exact count has no quartiles."""
    match given:
        case Missing():
            return _Given(reason=given.reason)
        case Exact():
            return _Given(median=(given.value,), source=given.source)
        case ExactColumn():
            return _Given(median=given.values, source=given.source)
        case Spread():
            return _Given(
                median=(given.median,),
                q1=(given.q1,),
                q3=(given.q3,),
                repeats=given.repeats,
                source=given.source,
            )
        case SpreadColumn():
            return _Given(
                median=given.median,
                q1=given.q1,
                q3=given.q3,
                repeats=given.repeats,
                source=given.source,
            )
    return _Given()


def _row(  # noqa: PLR0917 - half a million of these are made
    run: RunName,
    quantity: str,
    path: str | None,
    kind: str | None,
    beside: Beside,
    given: _Given,
    place: int | None,
    own: str,
) -> Row:
    measured = _at(given.median, place)
    reasons = [] if beside.value is not None else [beside.reason]
    if measured is None:
        reasons.append(NO_LEAF if place is None else given.reason)
    return Row(
        run=run,
        quantity=quantity,
        path=path,
        kind=kind,
        basis=beside.basis + own if beside.by_choices else beside.basis,
        predicted=beside.value,
        measured=measured,
        q1=_at(given.q1, place),
        q3=_at(given.q3, place),
        repeats=given.repeats,
        source=given.source,
        reason="; ".join(reasons) or None,
    )


def _at(column: Sequence[float | None], place: int | None) -> float | None:
    return column[place] if place is not None and column else None
