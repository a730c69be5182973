"""One case of a recording beside its prediction: the sentence and the table's rows."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from costmodel import units
from costmodel.recordings.quantities import QUANTITIES, Unit
from costmodel.recordings.recording import Case, Recording
from costmodel.validation.counterparts import PREDICTED, UNPREDICTED, Gpus, Side
from costmodel.validation.join import JoinedCase, Row, backend_of, device_of, join_case, side_of
from costmodel.validation.utilisation import Achieved, achieved, routing_paths

FIELDS = ("phase", "routing", "dtype", "context", "new_tokens", "batch")  # chosen in this order
SCALED: dict[Unit, tuple[str, float]] = {  # one unit for a whole column, so that it sorts
    "s": ("us", 1e-6),
    "bytes": ("MB", 1e6),
    "flops": ("GFLOP", 1e9),
    "count": ("count", 1.0),
    "j": ("J", 1.0),
    "w": ("W", 1.0),
}
SIZES = ((1.05, "="), (1.25, "."), (2.0, ".."))  # of errors, either way
WORST = "..."  # beyond them
COLOURS = {  # of the signs: orange measured more, blue less
    "---": "#0072B2",
    "--": "#56B4E9",
    "-": "#B9DDF3",
    "=": "#BDBDBD",
    "+": "#F7CFA8",
    "++": "#E69F00",
    "+++": "#D55E00",
}
WHOLE = "whole step"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A case and all that stands beside it; `choosers` are the leaves that only choose."""

    recording: Recording
    index: int
    joined: JoinedCase
    side: Side
    achieved: Achieved
    choosers: frozenset[str]

    @property
    def case(self) -> Case:
        """The case itself."""
        return self.recording.cases[self.index]

    @property
    def time(self) -> Row:
        """The time that is told: what was measured, or else how such a step is usually run."""
        usual = "graph_s" if self.case.workload.phase == "decode" else "eager_s"
        told = self.step(self.achieved.time_of)
        return self.step(usual) if told.measured is None else told

    def step(self, quantity: str) -> Row:
        """A quantity of the whole step."""
        return next(
            column.row(0)
            for column in self.joined.columns
            if column.quantity == quantity and column.leaves.paths == (None,)
        )

    def leaves(self, quantity: str) -> tuple[Row, ...]:
        """A quantity of all leaves, of the first run that measured it."""
        found = [
            column
            for column in self.joined.columns
            if column.quantity == quantity and column.leaves.paths != (None,)
        ]
        measured = [each for each in found if any(one is not None for one in each.measured)]
        return tuple((measured or found)[0].rows())


@cache
def _gpus() -> Gpus:
    return Gpus()


def view(recording: Recording, index: int) -> View:
    """One case joined with the prediction for the machine that measured it."""
    case = recording.cases[index]
    gpu = _gpus().of(device_of(recording, case, "time"))
    side = side_of(recording, case, gpu, backend_of(case, "time"))
    return View(
        recording=recording,
        index=index,
        joined=join_case(recording, index, _gpus()),
        side=side,
        achieved=achieved(recording, index, _gpus()),
        choosers=routing_paths(side.costs.operators),
    )


def offered(cases: Sequence[Case], field: str, chosen: Mapping[str, object]) -> list[Any]:
    """What the cases that agree with `chosen` have in a field; numbers in order."""
    values = dict.fromkeys(
        getattr(case.workload, field)
        for case in cases
        if all(getattr(case.workload, name) == value for name, value in chosen.items())
    )
    return sorted(values) if all(isinstance(each, int) for each in values) else [*values]


def place(cases: Sequence[Case], chosen: Mapping[str, object]) -> int:
    """The case of which all fields are chosen."""
    return next(
        index
        for index, case in enumerate(cases)
        if all(getattr(case.workload, name) == chosen[name] for name in FIELDS)
    )


def sentence(found: View) -> str:
    """The answer: measured, predicted and floor."""
    row = found.time
    text = "Not measured"
    if row.measured is not None:
        text = f"Measured {units.seconds(row.measured)}"
    if row.predicted is not None and row.basis.startswith(PREDICTED):
        predicted = f"predicted {units.seconds(float(row.predicted))}"
        text += (
            f"; {predicted}" if row.ratio is None else f", {units.ratio(row.ratio)} the {predicted}"
        )
    if found.side.prediction is not None:
        text += f"; floor {units.seconds(found.side.prediction.floor_s)}"
    return text


def subtitle(found: View) -> str:
    """What was measured on which machine, and which time the sentence tells."""
    machine = device_of(found.recording, found.case, "time")
    title = QUANTITIES[found.time.quantity].title
    return f"{found.recording.model.name} on {machine}: {found.joined.label}; {title}"


def comparable(found: View) -> tuple[str, ...]:
    """Quantities of which some leaf has both sides, in the order of the list."""
    known = {
        column.quantity
        for column in found.joined.columns
        if column.leaves.paths != (None,)
        and any(
            one is not None and beside.value
            for one, beside in zip(column.measured, column.beside, strict=True)
        )
    }
    return tuple(name for name in QUANTITIES if name in known)


def error(ratio: float | None) -> list[str]:
    """How far measured is from predicted: = within 5 %, else one to three + or -; or nothing."""
    if not ratio:
        return []
    sign, size = ("+", ratio) if ratio > 1 else ("-", 1 / ratio)
    return [next((marks for most, marks in SIZES if size <= most), WORST).replace(".", sign)]


def record(row: Row, choosers: Container[str] = ()) -> dict[str, Any]:
    """A row of the table, numbers in the unit that it names; whether its leaf only chooses."""
    unit, factor = SCALED[QUANTITIES[row.quantity].unit]
    spread = "exact" if row.measured is not None else ""
    if row.q1 is not None and row.q3 is not None:
        low, high = (units.significant(each / factor) for each in (row.q1, row.q3))
        spread = f"{low} to {high}, {row.repeats:,} repeats"
    basis = row.basis if row.basis != UNPREDICTED else ""
    return {
        "Operator": row.path or WHOLE,
        "Chooses": "yes" if row.path in choosers else "",
        "Quantity": QUANTITIES[row.quantity].title,
        "Unit": unit,
        "Predicted": None if row.predicted is None else float(row.predicted) / factor,
        "Measured": None if row.measured is None else row.measured / factor,
        "Ratio": row.ratio,
        "Error": error(row.ratio),
        "Spread (q1 to q3)": spread,
        "Basis, reason": "; ".join(filter(None, (basis, row.reason))),
        "Run": row.run,
        "Source": row.source or "",
    }
