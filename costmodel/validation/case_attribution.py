"""The attribution of a recorded case: of its step, and of its kernels by kind of operator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.roofline import far_bytes
from costmodel.recordings.quantities import QUANTITIES, RunName
from costmodel.recordings.recording import Case
from costmodel.validation.attribution import Attribution, attributed, total
from costmodel.validation.case_prediction import flops_of
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.error_stats import NO_KIND
from costmodel.validation.joined import JoinedCase, JoinedColumn
from costmodel.validation.pauses import PAUSES_S, empty_kernel_s
from costmodel.validation.utilisation import NO_DATASHEET, Figure, moved_bytes, step_figure

ROUNDING_S = 1e-12  # below it a difference of sums is their rounding
BETWEEN = "between kernels"  # in place of the kind of an operator


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseAttribution:
    """The attribution of a step and, of its kernels, by kind of operator; or why there is none.

    The kinds' measured times sum to the step's, `BETWEEN` (the graph less the leaves' kernels)
    among them. Their bounds sum to more than the step's where some leaves read and others compute.
    """

    step: Attribution | None
    by_kind: Mapping[str, Attribution]
    reason: str = ""


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
        if abs(launch) < ROUNDING_S:
            launch = 0.0
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
