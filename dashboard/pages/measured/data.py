"""One case of a recording, compared with its prediction: the sentences and the table's rows."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from costmodel import units
from costmodel.costs.quantities.quantity import DIGITS, DIGITS_OF_TIMES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.layers.numbers import Number
from costmodel.recordings.quantities import QUANTITIES, Unit
from costmodel.recordings.recording import Case, Recording
from costmodel.show.told_times import digits_of
from costmodel.validation.case_attribution import CaseAttribution, case_attribution
from costmodel.validation.case_prediction import CasePrediction
from costmodel.validation.counterparts import PREDICTED, UNPREDICTED
from costmodel.validation.join import join_case
from costmodel.validation.joined import JoinedCase, Row
from costmodel.validation.machines import Gpus, backend_of, device_of
from costmodel.validation.utilisation import Utilisation, measured_utilisation, routing_paths

FIELDS = (  # chosen in this order
    "phase",
    "routing",
    "dtype",
    "placement",
    "context",
    "new_tokens",
    "batch",
)
PREFIXES: dict[Unit, str] = {"s": "u", "bytes": "M", "flops": "G"}  # so that a column sorts
SIZES = ((1.05, "="), (1.25, "."), (2.0, ".."))  # of errors in either direction, and their marks
WORST = "..."  # of larger errors
COLOURS = {  # of the marks: orange where measured is more, blue where it is less
    "---": "#0072B2",
    "--": "#56B4E9",
    "-": "#B9DDF3",
    "=": "#BDBDBD",
    "+": "#F7CFA8",
    "++": "#E69F00",
    "+++": "#D55E00",
}
WHOLE = "whole step"
UNCERTAIN = frozenset({"s", "j", "w"})  # units of what is predicted and measured with a spread
EXACT_DIGITS = 6  # significant ones of bytes and FLOPs in the table


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedCase:
    """A case of a recording, joined with its prediction."""

    recording: Recording
    index: int  # of the case
    joined: JoinedCase
    side: CasePrediction
    achieved: Utilisation
    routing_leaves: frozenset[str]  # paths of routers and selectors

    @property
    def case(self) -> Case:
        """The case itself."""
        return self.recording.cases[self.index]

    @property
    def attribution(self) -> CaseAttribution:
        """Where the measured time goes."""
        return case_attribution(self.case, self.joined)

    @property
    def time(self) -> Row:
        """The time of the title: the measured one, else the one that this phase usually has."""
        usual = "graph_s" if self.case.workload.phase == "decode" else "eager_s"
        row = self.step(self.achieved.time_of)
        return self.step(usual) if row.measured is None else row

    def step(self, quantity: str) -> Row:
        """A quantity of the whole step."""
        return next(
            column.row(0)
            for column in self.joined.columns
            if column.quantity == quantity and column.of_step
        )

    def leaves(self, quantity: str) -> tuple[Row, ...]:
        """A quantity of all leaves, from the first run that measured it."""
        columns = [
            column
            for column in self.joined.columns
            if column.quantity == quantity and not column.of_step
        ]
        measured = [
            column for column in columns if any(value is not None for value in column.measured)
        ]
        return tuple((measured or columns)[0].rows())


@cache
def _gpus() -> Gpus:
    return Gpus()


def compared(recording: Recording, index: int) -> ComparedCase:
    """One case joined with the prediction for the machine that measured it."""
    joined = join_case(recording, index, _gpus())
    side = joined.prediction
    return ComparedCase(
        recording=recording,
        index=index,
        joined=joined,
        side=side,
        achieved=measured_utilisation(recording, index, _gpus()),
        routing_leaves=routing_paths(side.costs.operators),
    )


def offered(cases: Sequence[Case], field: str, chosen: Mapping[str, object]) -> list[Any]:
    """The values of a field in the cases that agree with `chosen`; numbers in order."""
    values = dict.fromkeys(
        getattr(case.workload, field)
        for case in cases
        if all(getattr(case.workload, name) == value for name, value in chosen.items())
    )
    return sorted(values) if all(isinstance(value, int) for value in values) else [*values]


def place(cases: Sequence[Case], chosen: Mapping[str, object]) -> int:
    """The index of the case with the chosen value of every field."""
    return next(
        index
        for index, case in enumerate(cases)
        if all(getattr(case.workload, name) == chosen[name] for name in FIELDS)
    )


def sentence(case: ComparedCase) -> str:
    """The title: what was measured, its time, the predicted one and the roofline bound."""
    row = case.time
    workload = case.case.workload
    machine = device_of(case.recording, case.case, "time")
    text = (
        f"{case.recording.model.name}, {workload.phase} at batch {workload.batch:,} on {machine}: "
    )
    if row.measured is None:
        text += "not measured"
    else:
        text += f"measured {units.seconds(row.measured)}"
    if row.predicted is not None and row.basis.startswith(PREDICTED):
        seconds = units.rounded(float(row.predicted), digits_of(case.side.times))
        predicted = f"predicted {units.seconds(seconds)}"
        text += (
            f"; {predicted}" if row.ratio is None else f", {units.ratio(row.ratio)} the {predicted}"
        )
    if case.side.prediction is not None:
        bound = STEP_QUANTITIES["time.floor_s"].label
        text += f"; {bound} {units.seconds(case.side.prediction.floor_s)}"
    return text


def subtitle(case: ComparedCase) -> str:
    """The line below the title: model, machine, backend, workload, and the title's time."""
    machine = device_of(case.recording, case.case, "time")
    title = QUANTITIES[case.time.quantity].title
    backend = backend_of(case.case, "time")
    return (
        f"{case.recording.model.name} on {machine}, kernels of {backend}: {case.joined.label};"
        f" {title}"
    )


def comparable(case: ComparedCase) -> tuple[str, ...]:
    """The quantities that are both measured and predicted of some leaf, in the registry's order."""
    known = {
        column.quantity
        for column in case.joined.columns
        if not column.of_step
        and any(
            measured is not None and counterpart.value
            for measured, counterpart in zip(column.measured, column.counterparts, strict=True)
        )
    }
    return tuple(name for name in QUANTITIES if name in known)


def error(ratio: float | None) -> list[str]:
    """A mark of how far measured is from predicted: `=` within 5 %, else one to three + or -."""
    if not ratio:
        return []
    sign, size = ("+", ratio) if ratio > 1 else ("-", 1 / ratio)
    return [next((marks for most, marks in SIZES if size <= most), WORST).replace(".", sign)]


def _cell(value: Number | None, row: Row, factor: float, digits: int) -> float | None:
    """A value in the unit of its column; counts to the unit, others to `digits` or as exact."""
    if value is None:
        return None
    unit = QUANTITIES[row.quantity].unit
    if unit == "count":
        return float(value)
    return units.rounded(float(value) / factor, digits if unit in UNCERTAIN else EXACT_DIGITS)


def record(row: Row, routing_leaves: Container[str] = ()) -> dict[str, Any]:
    """A row of the table, with its numbers in the unit that it names."""
    unit, factor = units.scale(
        QUANTITIES[row.quantity].unit, PREFIXES.get(QUANTITIES[row.quantity].unit, "")
    )
    spread = "exact" if row.measured is not None else ""
    if row.q1 is not None and row.q3 is not None:
        low, high = (units.significant(quartile / factor) for quartile in (row.q1, row.q3))
        spread = f"{low} to {high}, {row.repeats:,} repeats"
    basis = row.basis if row.basis != UNPREDICTED else ""
    return {
        "Operator": row.path or WHOLE,
        "Routing": "yes" if row.path in routing_leaves else "",
        "Quantity": QUANTITIES[row.quantity].title,
        "Unit": unit,
        "Predicted": _cell(row.predicted, row, factor, DIGITS_OF_TIMES),
        "Measured": _cell(row.measured, row, factor, DIGITS),
        "Ratio": None if row.ratio is None else units.rounded(row.ratio, DIGITS),
        "Error": error(row.ratio),
        "Spread (q1 to q3)": spread,
        "Basis, reason": "; ".join(filter(None, (basis, row.reason))),
        "Run": row.run,
        "Source": row.source or "",
    }
