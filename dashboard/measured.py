"""One case of a recording beside its prediction: the sentence, the cards and the table's rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from costmodel import units
from costmodel.achieved import Achieved, Figure, achieved
from costmodel.beside import PREDICTED, UNPREDICTED, Gpus, Side
from costmodel.costs.predicted import StepTime
from costmodel.inputs.recording import Case, Recording
from costmodel.join import JoinedCase, Row, device_of, join_case, side_of
from costmodel.quantities import QUANTITIES, Unit

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
    """A case and all that stands beside it."""

    recording: Recording
    index: int
    joined: JoinedCase
    side: Side
    achieved: Achieved

    @property
    def case(self) -> Case:
        """The case itself."""
        return self.recording.cases[self.index]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A card: measured, and what stands beside it. `reason` is from a file: not for Markdown."""

    label: str
    measured: str | None
    beside: str | None
    told: str  # what the number is
    reason: str = ""


@cache
def _gpus() -> Gpus:
    return Gpus()


def view(recording: Recording, index: int) -> View:
    """One case joined with the prediction for the machine that measured it."""
    case = recording.cases[index]
    gpu = _gpus().of(device_of(recording, case, "time"))
    return View(
        recording=recording,
        index=index,
        joined=join_case(recording, index, _gpus()),
        side=side_of(recording, case, gpu),
        achieved=achieved(recording, index, _gpus()),
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
    row = found.step(found.achieved.time_of)
    how = "as a CUDA graph" if found.achieved.time_of == "graph_s" else "launched one by one"
    said = ["not measured"]
    if row.measured is not None:
        said = [f"measured {units.seconds(row.measured)} {how}"]
    if row.predicted is not None and row.basis.startswith(PREDICTED):
        beside = f" ({units.ratio(row.ratio)})" if row.ratio is not None else ""
        said.append(f"predicted {units.seconds(float(row.predicted))}{beside}")
    if found.side.prediction is not None:
        said.append(f"floor {units.seconds(found.side.prediction.floor_s)}")
    text = "; ".join(said)
    return text[0].upper() + text[1:]


def compared(found: View) -> tuple[Compared, ...]:
    """The cards."""
    made, times, work = found.achieved, found.side.times, found.case.workload
    predicted_s = share = None
    if isinstance(times, StepTime):
        predicted_s = float(times.graph_s if made.time_of == "graph_s" else times.eager_s)
        share = float(times.routing_s) / float(times.graph_s) or None  # None: routes nothing
    rate = mbu = mfu = None
    prediction = found.side.prediction
    if predicted_s is not None and prediction is not None:
        hardware, sums = prediction.hardware, prediction.costs.totals
        rate = work.batch * work.new_tokens / predicted_s
        mbu = float(sums.compulsory_bytes) / predicted_s / hardware.hbm_bytes_per_s
        mfu = float(sums.flops) / predicted_s / hardware.peak_flops_per_s(work.dtype)[0]
    return (
        _of_row("Time as a CUDA graph", found.step("graph_s"), units.seconds),
        _of_row("Time launched one by one", found.step("eager_s"), units.seconds),
        _of_row("HBM read", found.step("hbm_read_bytes"), units.traffic),
        _of_row("Energy", found.step("energy_j"), lambda joules: units.scaled(joules, "J")),
        _of_figure("MBU", made.mbu, mbu, _percent, "compulsory bytes / time / datasheet bandwidth"),
        _of_figure("MFU", made.mfu, mfu, _percent, "useful FLOPs / time / dense peak"),
        _of_figure(
            "Tokens per second",
            made.tokens_per_s,
            rate,
            lambda value: f"{units.significant(value)} /s",
            "new tokens of all sequences / time",
        ),
        _of_figure(
            "Routing's share of kernel time",
            made.routing_share,
            share,
            _percent,
            "kernels of the leaves that only choose experts or rows",
        ),
    )


def _of_row(label: str, row: Row, form: Callable[[float], str]) -> Compared:
    predicted = None if row.predicted is None else float(row.predicted)
    return _compared(label, row.measured, predicted, form, row.basis, row.reason, row.basis)


def _of_figure(
    label: str, figure: Figure, predicted: float | None, form: Callable[[float], str], told: str
) -> Compared:
    return _compared(label, figure.value, predicted, form, PREDICTED, figure.reason, told)


def _compared(  # noqa: PLR0917 - two callers above
    label: str,
    measured: float | None,
    predicted: float | None,
    form: Callable[[float], str],
    basis: str,
    reason: str | None,
    told: str,
) -> Compared:
    beside = None
    if predicted is not None:
        times = f" ({units.ratio(measured / predicted)})" if measured and predicted else ""
        name = basis.split(",", maxsplit=1)[0].removesuffix(" bytes")
        beside = f"{name} {form(predicted)}{times}"
    return Compared(
        label=label,
        measured=None if measured is None else form(measured),
        beside=beside,
        told=told,
        reason=reason or "",
    )


def _percent(value: float) -> str:
    return f"{units.significant(100 * value, 3)} %"


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


def record(row: Row) -> dict[str, Any]:
    """A row of the table, numbers in the unit that it names."""
    unit, factor = SCALED[QUANTITIES[row.quantity].unit]
    spread = "exact" if row.measured is not None else ""
    if row.q1 is not None and row.q3 is not None:
        low, high = (units.significant(each / factor) for each in (row.q1, row.q3))
        spread = f"{low} to {high} {unit}, {row.repeats:,} repeats"
    basis = row.basis if row.basis != UNPREDICTED else ""
    return {
        "Operator": row.path or WHOLE,
        "Quantity": row.quantity,
        "Run": row.run,
        "Unit": unit,
        "Predicted": None if row.predicted is None else float(row.predicted) / factor,
        "Measured": None if row.measured is None else row.measured / factor,
        "Ratio": row.ratio,
        "Error": error(row.ratio),
        "Spread (q1 to q3)": spread,
        "Source": row.source or "",
        "Basis, reason": "; ".join(filter(None, (basis, row.reason))),
    }
