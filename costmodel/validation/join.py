"""A recording joined with its prediction: an outer join on `path`, in which nothing is dropped.

Every quantity that a run can give has a row for the step and one for each leaf that either side
knows. A side that says nothing is None, with the reason; so a quantity that was never measured
still shows what was predicted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, cast

from costmodel.backends import BACKENDS
from costmodel.errors import InputError, shown
from costmodel.layers.numbers import Number
from costmodel.layers.site import expanded_paths, region_leaves
from costmodel.recordings.machine import Machine
from costmodel.recordings.measured import Missing, Readings, readings_of
from costmodel.recordings.quantities import RUNS, RunName, measured_in
from costmodel.recordings.recording import Case, Recording, Run
from costmodel.validation.counterparts import (
    PREDICTED,
    UNPREDICTED,
    Beside,
    Gpu,
    Gpus,
    Side,
    operator_beside,
    region_beside,
    step_beside,
    workload_of,
)
from costmodel.validation.recorded_routing import Observed, chosen_by, recorded_routing

if TYPE_CHECKING:
    from costmodel.inputs.workload import Backend

OWN = ", by the recorded choices"
AS_UNIFORM = ", as if uniform (no choice was recorded)"
NO_LEAF = "not measured (no leaf of the recording has this path)"
NO_OPERATOR = "not predicted (no operator has this path)"
REGION = "region"  # in place of the kind of an operator
NO_RUN = "not measured (the case has no such run)"
NOT_PREDICTED = Beside(value=None, basis=UNPREDICTED, reason=NO_OPERATOR)


class Row(NamedTuple):
    """One quantity of a step or of one leaf, both sides. None: that side has none; `reason` why.

    `path` and `kind` (the operator's) are None for the step. `basis` says what `predicted` is: a
    prediction, or the bound that stands in its place. Quartiles are None of an exact count.
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
class Leaves:
    """The leaves of a column, or the step in their stead (`STEP`).

    Attributes:
        paths: None is the step.
        kinds: of their operators; None where there is none.
        operators: their indices among the operators that are predicted; -1 where there is none.
        places: their indices among the recording's paths; None where it has no such leaf.
        regions: by path of a region, the indices of the operators that its kernel spans.
        inside: by path of a leaf that was measured only as part of a region, that region's path.
    """

    paths: tuple[str | None, ...]
    kinds: tuple[str | None, ...]
    operators: tuple[int, ...]
    places: tuple[int | None, ...]
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    inside: Mapping[str, str] = field(default_factory=dict)

    def why_not_measured(self, index: int, otherwise: str) -> str:
        """Why a leaf has no measured number; `otherwise` if the recording has it."""
        path = self.paths[index]
        if self.places[index] is not None:
            return otherwise
        if path is not None and path in self.inside:
            return f"not measured alone (a kernel spans {self.inside[path]})"
        return NO_LEAF


STEP = Leaves(paths=(None,), kinds=(None,), operators=(-1,), places=(0,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """One quantity of a run, of the step or of all leaves: its rows, unmade until asked for.

    A folder of recordings holds half a million rows, of which most are only counted. `beside` and
    `measured` are aligned with `leaves`; `own` says by which choices, if not by the declared ones,
    the numbers were predicted that depend on choices.
    """

    run: RunName
    quantity: str
    leaves: Leaves
    beside: tuple[Beside, ...]
    measured: tuple[float | None, ...]
    readings: Readings
    own: str

    def row(self, index: int) -> Row:
        """The row of one leaf, or of the step."""
        beside, measured = self.beside[index], self.measured[index]
        place = self.leaves.places[index]
        reasons = [] if beside.value is not None else [beside.reason]
        if measured is None:
            reasons.append(self.leaves.why_not_measured(index, self.readings.reason))
        return Row(
            run=self.run,
            quantity=self.quantity,
            path=self.leaves.paths[index],
            kind=self.leaves.kinds[index],
            basis=beside.basis + self.own if beside.by_choices else beside.basis,
            predicted=beside.value,
            measured=measured,
            q1=_at(self.readings.q1, place),
            q3=_at(self.readings.q3, place),
            repeats=self.readings.repeats,
            source=self.readings.source,
            reason="; ".join(reasons) or None,
        )

    def rows(self) -> Iterator[Row]:
        """All rows."""
        return map(self.row, range(len(self.beside)))


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedCase:
    """All quantities of one case. `index` is its place in the recording."""

    index: int
    label: str
    columns: tuple[Joined, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, made anew."""
        return tuple(row for column in self.columns for row in column.rows())


def join(recording: Recording, gpus: Gpus) -> Iterator[JoinedCase]:
    """Each case of the recording beside its prediction, in turn."""
    for index in range(len(recording.cases)):
        yield join_case(recording, index, gpus)


def join_case(recording: Recording, index: int, gpus: Gpus) -> JoinedCase:
    """One case beside its prediction, run by run, each on the machine that measured it."""
    case = recording.cases[index]
    sides: dict[tuple[str, str], tuple[Side, Leaves]] = {}
    columns: list[Joined] = []
    for name in RUNS:
        device = device_of(recording, case, name)
        backend = backend_of(case, name)
        if (device, backend) not in sides:
            side = side_of(recording, case, gpus.of(device), backend)
            sides[device, backend] = side, _leaves(recording, side)
        columns += _columns(case, name, *sides[device, backend])
    return JoinedCase(index=index, label=case_label(case), columns=tuple(columns))


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
    return _machine(
        recording, [case.runs[name]] if name in case.runs else [*case.runs.values()]
    ).name


def _machine(recording: Recording, runs: Sequence[Run]) -> Machine:
    """What the first of the runs was measured on, or the recording's first session."""
    return recording.sessions[runs[0].session if runs else 0].machine


def backend_of(case: Case, name: RunName) -> str:
    """The backend of a run; of an absent run, that of the case's others, or plain PyTorch."""
    runs = [case.runs[name]] if name in case.runs else [*case.runs.values()]
    return runs[0].backend if runs else "torch"


def side_of(recording: Recording, case: Case, gpu: Gpu | None, backend: str = "torch") -> Side:
    """The predicted side. Under `scores` it is costed by what the case was seen to touch.

    Raises:
        InputError: The recording names a backend that is not known.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend={shown(backend)}: is not one of {', '.join(BACKENDS)}")
    routing = None
    if case.workload.routing == "scores":
        found = (recorded_routing(recording, case.runs[name]) for name in RUNS if name in case.runs)
        routing = next((each for each in found if each is not None), None)
    on_cpu = _machine(recording, [*case.runs.values()]).device == "cpu"
    workload = replace(workload_of(case.workload, routing), backend=cast("Backend", backend))
    return Side(recording.model, workload, gpu, on_cpu=on_cpu)


def _leaves(recording: Recording, side: Side) -> Leaves:
    """The leaves of the recording, then those only predicted."""
    operators = side.costs.operators
    index = {path: at for at, op in enumerate(operators) for path in expanded_paths(op.path)}
    recorded = set(recording.paths)
    paths = (*recording.paths, *(path for path in index if path not in recorded))
    regions: dict[str, tuple[int, ...]] = {}
    inside: dict[str, str] = {}
    for path in recording.paths:
        leaves = region_leaves(path)
        if len(leaves) > 1 and all(leaf in index for leaf in leaves):
            regions[path] = tuple(index[leaf] for leaf in leaves)
            inside |= dict.fromkeys(leaves, path)
    at_operators = tuple(index.get(path, -1) for path in paths)
    kinds = [None if at < 0 else operators[at].kind for at in at_operators]
    return Leaves(
        paths=paths,
        kinds=tuple(
            REGION if path in regions else kind for path, kind in zip(paths, kinds, strict=True)
        ),
        operators=at_operators,
        places=(*range(len(recorded)), *(None,) * (len(paths) - len(recorded))),
        regions=regions,
        inside=inside,
    )


def _columns(case: Case, name: RunName, side: Side, leaves: Leaves) -> Iterator[Joined]:
    """All quantities of one run of a case."""
    run = case.runs.get(name)
    absent = Missing(reason=case.lacking.get(name, NO_RUN))
    own = ""
    if case.workload.routing == "scores":
        own = OWN if isinstance(side.workload.routing, Observed) else AS_UNIFORM
    for quantity in measured_in(name, "step"):
        beside = step_beside(side, quantity)
        measured = readings_of(run.step.get(quantity) if run else absent)
        yield _joined(name, quantity, STEP, (beside,), measured, own)
    operators = side.costs.operators
    for quantity in measured_in(name, "operators"):
        column = readings_of(run.operators.get(quantity) if run else absent)
        if quantity == "distinct":
            yield _distinct(_joined(name, quantity, leaves, _chosen(side, leaves), column, own))
            continue
        # An index of -1 finds the last
        found = [*(operator_beside(side, quantity, op) for op in operators), NOT_PREDICTED]
        all_beside = tuple(
            region_beside(side, quantity, path, [operators[at] for at in leaves.regions[path]])
            if path is not None and path in leaves.regions
            else found[at]
            for path, at in zip(leaves.paths, leaves.operators, strict=True)
        )
        yield _joined(name, quantity, leaves, all_beside, column, own)


def _joined(  # noqa: PLR0917 - one caller, twice
    run: RunName,
    quantity: str,
    leaves: Leaves,
    beside: tuple[Beside, ...],
    column: Readings,
    own: str,
) -> Joined:
    return Joined(
        run=run,
        quantity=quantity,
        leaves=leaves,
        beside=beside,
        measured=(*column.median, *(None,) * (len(beside) - len(column.median))),
        readings=column,
        own=own,
    )


def _distinct(column: Joined) -> Joined:
    """The column without the leaves that choose nothing, and of which neither side says so."""
    pairs = zip(column.beside, column.measured, strict=True)
    kept = [
        index
        for index, (beside, measured) in enumerate(pairs)
        if beside is not NOT_PREDICTED or measured is not None
    ]
    leaves = replace(
        column.leaves,
        paths=tuple(column.leaves.paths[index] for index in kept),
        kinds=tuple(column.leaves.kinds[index] for index in kept),
        operators=tuple(column.leaves.operators[index] for index in kept),
        places=tuple(column.leaves.places[index] for index in kept),
    )
    return replace(
        column,
        leaves=leaves,
        beside=tuple(column.beside[index] for index in kept),
        measured=tuple(column.measured[index] for index in kept),
    )


def _chosen(side: Side, leaves: Leaves) -> tuple[Beside, ...]:
    """Expected distinct items, beside the leaf that chooses them."""
    found = {
        chooser: Beside(value=distinct, basis=PREDICTED, by_choices=True)
        for chooser, distinct in chosen_by(side.costs.operators).values()
    }
    return tuple(
        next((found[leaf] for leaf in region_leaves(path or "") if leaf in found), NOT_PREDICTED)
        for path in leaves.paths
    )


def _at(column: Sequence[float | None], place: int | None) -> float | None:
    return column[place] if place is not None and column else None
