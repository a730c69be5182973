"""Where the measured time of a step goes: its roofline bound, and four causes of all beyond it.

1. *Padding and over-read*: the bound of what was done less the bound of what had to be done. What
   was done: the HBM bytes that counters saw, read and written, and the FLOPs that tensor cores
   executed. Source: the roofline model with measured traffic, as in `costs/roofline.py`.
2. *Launch and latency*: kernels x what an empty kernel takes with its pause (`pauses.py`).
3. *Kernel inefficiency*: the rest of the predicted time beyond the bound: what the calibration's
   kernels of these shapes lose in any model.
4. *Residual*: measured less predicted time.

The parts sum to the measured time exactly: times are rounded to 2^-50 s (0.9 fs), so that floats
add up without error below 8 s. A cause may be negative: L2 spared traffic, or kernels overlapped.
A cause that was not measured is None, and the next one holds it: without counters, kernel
inefficiency holds padding and over-read. Without a predicted time (or a calibration) the residual
holds kernel inefficiency too (and launches).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.costs.roofline import far_bytes
from costmodel.recordings.quantities import QUANTITIES, RunName
from costmodel.recordings.recording import Case
from costmodel.validation.case_prediction import flops_of
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.error_stats import NO_KIND
from costmodel.validation.joined import JoinedCase, JoinedColumn
from costmodel.validation.pauses import PAUSES_S, empty_kernel_s
from costmodel.validation.utilisation import NO_DATASHEET, Figure, moved_bytes, step_figure

BETWEEN = "between kernels"  # in place of the kind of an operator
PARTS: Mapping[str, tuple[str, str]] = {  # by field: what a reader calls it, and what it is
    "bound_s": (
        STEP_QUANTITIES["time.floor_s"].label,
        "the longer of compulsory bytes / datasheet bandwidth and model FLOPs / dense peak",
    ),
    "over_read_s": (
        "padding and over-read",
        "the bound of counted HBM bytes and executed tensor FLOPs, less the roofline bound",
    ),
    "launch_s": (
        "launch and latency",
        "kernels x the time of an empty kernel and the pause before the next",
    ),
    "inefficiency_s": (
        "kernel inefficiency",
        "the rest of the predicted time: kernels below bandwidth and peak in any model",
    ),
    "residual_s": ("residual", "measured less predicted time: what the prediction does not know"),
}
_PER_S = float(2**50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """A measured time in seconds and its parts, which sum to it exactly.

    Attributes:
        measured_s: of a step its CUDA graph; of a kind of leaves, their kernels in all layers.
        bound_s: the roofline bound; of a kind, the sum of its leaves' own bounds.
        over_read_s, launch_s, inefficiency_s: see the module; None where not known.
        residual_s: what is left.
        notes: what was not known, and which cause holds it.
    """

    measured_s: float
    bound_s: float
    over_read_s: float | None
    launch_s: float | None
    inefficiency_s: float | None
    residual_s: float
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, float]:
        """The known parts by field, in order: they sum to `measured_s`."""
        values = {name: getattr(self, name) for name in PARTS}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseAttribution:
    """The attribution of a step and, of its kernels, by kind of operator; or why there is none.

    The kinds' measured times sum to the step's, `BETWEEN` (the graph less the leaves' kernels)
    among them. Their bounds sum to more than the step's where some leaves read and others compute.
    """

    step: Attribution | None
    by_kind: Mapping[str, Attribution]
    reason: str = ""


def attributed(
    measured_s: float,
    *,
    bound_s: float,
    over_read_s: Figure,
    launch_s: Figure,
    predicted_s: Figure,
) -> Attribution:
    """A measured time in its parts; figures that are not known say why."""
    measured, bound = _rounded(measured_s), _rounded(bound_s)
    known = [
        (field, figure)
        for field, figure in (("over_read_s", over_read_s), ("launch_s", launch_s))
        if figure.value is not None
    ]
    causes: dict[str, float] = {field: _rounded(figure.value or 0.0) for field, figure in known}
    notes = []
    rest = measured - bound - sum(causes.values())
    inefficiency = None
    holder = PARTS["residual_s"][0]
    if predicted_s.value is not None:
        inefficiency = _rounded(predicted_s.value) - bound - sum(causes.values())
        rest -= inefficiency
        holder = PARTS["inefficiency_s"][0]
    for field, figure in (("over_read_s", over_read_s), ("launch_s", launch_s)):
        if figure.value is None:
            notes.append(f"{PARTS[field][0]}: {figure.reason}; the {holder} holds it")
    if inefficiency is None:
        words = PARTS["inefficiency_s"][0]
        notes.append(f"{words}: {predicted_s.reason}; the residual holds it")
    return Attribution(
        measured_s=measured,
        bound_s=bound,
        over_read_s=causes.get("over_read_s"),
        launch_s=causes.get("launch_s"),
        inefficiency_s=inefficiency,
        residual_s=rest,
        notes=tuple(notes),
    )


def total(parts: Sequence[Attribution]) -> Attribution:
    """The sum of at least one attribution; a cause that one lacks stands where its notes say."""

    def sum_of(field: str) -> float | None:
        known = [value for each in parts if (value := getattr(each, field)) is not None]
        return sum(known) if known else None

    return Attribution(
        measured_s=sum(each.measured_s for each in parts),
        bound_s=sum(each.bound_s for each in parts),
        over_read_s=sum_of("over_read_s"),
        launch_s=sum_of("launch_s"),
        inefficiency_s=sum_of("inefficiency_s"),
        residual_s=sum(each.residual_s for each in parts),
        notes=tuple(dict.fromkeys(note for each in parts for note in each.notes)),
    )


def case_attribution(case: Case, joined: JoinedCase) -> CaseAttribution:
    """Where the time of a case's graph goes, by its joined rows and their prediction."""
    graph = step_figure(case, "time", "graph_s")
    prediction = joined.prediction.prediction
    if prediction is None or graph.value is None:
        reason = NO_DATASHEET if prediction is None else graph.reason or ""
        return CaseAttribution(step=None, by_kind={}, reason=reason)
    times, backend = prediction.time, prediction.workload.backend
    launches = step_figure(case, "trace", "launches")
    step = attributed(
        graph.value,
        bound_s=prediction.floor_s,
        over_read_s=_over_read_of_step(case, prediction),
        launch_s=_launch_s(launches, prediction, PAUSES_S[backend]),
        predicted_s=Figure(value=None, reason=times.reason)
        if isinstance(times, Unknown)
        else Figure(value=float(times.graph_s)),
    )
    by_kind = {
        kind: total(parts) for kind, parts in sorted(_leaves_by_kind(joined, prediction).items())
    }
    if by_kind:
        by_kind[BETWEEN] = _between(step, total([*by_kind.values()]))
    return CaseAttribution(step=step, by_kind=by_kind)


def _over_read_of_step(case: Case, prediction: Prediction) -> Figure:
    """The bound of the bytes and FLOPs that counters saw, less the bound."""
    moved = moved_bytes(case)
    executed = step_figure(case, "counters", "flops_tensor")
    if moved.value is None:
        return moved
    costs, ceilings = prediction.costs, prediction.ceilings
    flops = float(ceilings.at_peak(costs.operators, costs.totals.flops))
    if executed.value is not None:
        useful = sum(
            each.count * float(flops_of(each, "matmul", "attention")) for each in costs.operators
        )
        flops += executed.value - useful
    far = far_bytes(costs.totals)
    return Figure(value=float(ceilings.floor_s(moved.value, flops, far)) - prediction.floor_s)


def _launch_s(launches: Figure, prediction: Prediction, pause_s: float) -> Figure:
    """What so many empty kernels take, each with a pause."""
    curves = prediction.calibration
    if launches.value is None:
        return launches
    if isinstance(curves, Unknown):
        return Figure(value=None, reason=curves.reason)
    return Figure(value=launches.value * (empty_kernel_s(curves) + pause_s))


def _leaves_by_kind(joined: JoinedCase, prediction: Prediction) -> dict[str, list[Attribution]]:
    """The kernels of leaves and regions, the layers of one operator together, by kind.

    Of their bytes only reads are as counted: written bytes are settled for a step alone, and of a
    leaf they are the compulsory ones. A bound is that of the leaf by itself.
    """
    kernels = _column(joined, "kernel_s", "trace")
    by_kind: dict[str, list[Attribution]] = {}
    if kernels is None:
        return by_kind
    counted = {
        "launches": _by_path(_column(joined, "launches", "trace")),
        "hbm_read_bytes": _by_path(_column(joined, "hbm_read_bytes", "counters")),
        "flops_tensor": _by_path(_column(joined, "flops_tensor", "counters")),
    }
    ceilings, leaves = prediction.ceilings, kernels.leaves
    for rows in leaves.alike:
        measured = {row: value for row in rows if (value := kernels.measured[row]) is not None}
        if not measured:
            continue
        layers = len(measured)
        paths = [leaves.paths[row] or "" for row in measured]
        operators = [
            prediction.costs.operators[index]
            for index in leaves.regions.get(paths[0], (leaves.operators[rows[0]],))
            if index >= 0
        ]
        moved = sum(float(op.compulsory_bytes + op.repeated_row_bytes) for op in operators)
        flops = sum(float(ceilings.of_one(op)) for op in operators)
        bound_s = float(ceilings.floor_s(moved, flops))
        read, tensor, launches = (
            _mean(counted[name], paths, name)
            for name in ("hbm_read_bytes", "flops_tensor", "launches")
        )
        over_read = read
        if read.value is not None:
            read_at_least = sum(
                float(op.total("read_bytes") + op.repeated_row_bytes) for op in operators
            )
            if tensor.value is not None:
                useful = sum(float(flops_of(op, "matmul", "attention")) for op in operators)
                flops += tensor.value - useful
            done_s = float(ceilings.floor_s(moved - read_at_least + read.value, flops))
            over_read = Figure(value=layers * (done_s - bound_s))
        if launches.value is not None:
            launches = Figure(value=layers * launches.value)
        counterpart = kernels.counterparts[rows[0]]
        predicted = Figure(value=None, reason=counterpart.reason or "no time is predicted")
        if counterpart.value is not None and counterpart.basis == PREDICTED:
            predicted = Figure(value=layers * float(counterpart.value))
        by_kind.setdefault(leaves.kinds[rows[0]] or NO_KIND, []).append(
            attributed(
                sum(measured.values()),
                bound_s=layers * bound_s,
                over_read_s=over_read,
                launch_s=_launch_s(launches, prediction, 0.0),
                predicted_s=predicted,
            )
        )
    return by_kind


def _between(step: Attribution, leaves: Attribution) -> Attribution:
    """What a graph takes beyond the kernels of its leaves: pauses, overlap, kernels of no leaf.

    Launches, predicted and measured times are the step's less those of the leaves; no bound is.
    """
    measured = step.measured_s - leaves.measured_s
    launch = None
    if step.launch_s is not None and leaves.launch_s is not None:
        launch = step.launch_s - leaves.launch_s
    residual = measured - (launch or 0.0)
    inefficiency = None
    if step.inefficiency_s is not None and leaves.inefficiency_s is not None:
        inefficiency = residual
        residual = step.residual_s - leaves.residual_s
        inefficiency -= residual
    return Attribution(
        measured_s=measured,
        bound_s=0.0,
        over_read_s=None,
        launch_s=launch,
        inefficiency_s=inefficiency,
        residual_s=residual,
    )


def _column(joined: JoinedCase, quantity: str, run: RunName) -> JoinedColumn | None:
    """A quantity of the leaves, if the run measured any of them."""
    for column in joined.columns:
        if (column.quantity, column.run) == (quantity, run) and not column.of_step:
            return column if any(value is not None for value in column.measured) else None
    return None


def _by_path(column: JoinedColumn | None) -> dict[str | None, float | None]:
    return {} if column is None else dict(zip(column.leaves.paths, column.measured, strict=True))


def _mean(values: Mapping[str | None, float | None], paths: Sequence[str], name: str) -> Figure:
    """The mean of a counted quantity over some leaves; not known if one of them lacks it."""
    known = [value for path in paths if (value := values.get(path)) is not None]
    if len(known) < len(paths):
        return Figure(value=None, reason=f"{QUANTITIES[name].title}: not measured of these leaves")
    return Figure(value=float(sum(known)) / len(known))


def _rounded(seconds: float) -> float:
    """To a multiple of 2^-50 s: sums and differences below 8 s are then exact."""
    return round(seconds * _PER_S) / _PER_S
