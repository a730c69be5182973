"""How well a step used its GPU, and what its routing cost: measured, and as predicted.

Throughput, bandwidth, FLOP rate, MBU, MFU and the cost of the leaves that only route. Each figure
is a sum or a quotient of measured numbers; where one of them is missing, so is the figure, with the
reason. The time is that of the CUDA graph, or of the eager step if no graph was measured.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

from costmodel.costs.gpu import Gpu
from costmodel.costs.latency import Unknown
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator
from costmodel.layers.site import expanded_paths, region_leaves
from costmodel.recordings.measured import (
    NOT_IN_RUN,
    Exact,
    ExactColumn,
    Missing,
    Spread,
    SpreadColumn,
)
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Case, Recording
from costmodel.validation.case_prediction import CasePrediction, counted_flops_of
from costmodel.validation.join import NO_RUN
from costmodel.validation.joined import NOT_ALONE
from costmodel.validation.machines import Gpus, device_of
from costmodel.validation.recorded_routing import recorded_distinct
from costmodel.validation.required_work import OperatorWork, operator_work, required_work

NO_DATASHEET = "not known (no hardware preset for this machine)"
NO_DIVISOR = "not known (what was measured is too small to divide by)"
NO_ROUTING = "the model routes nothing"
NO_GAP = "no gap (the kernels' own times sum to more than the graph takes)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number derived from measured ones; None if one of them is missing, with the reason."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Utilisation:
    """The figures of one measured case.

    Attributes:
        time_of: `graph_s` or `eager_s`, the time t below.
        tokens_per_s: B T / t.
        hbm_bytes_per_s: HBM bytes read and written by the step / t. A run of its own counts them.
        flops_per_s: model FLOPs (causal attention) / t.
        mbu: model bandwidth utilisation: compulsory bytes, of the experts and rows that were
            touched, / t / datasheet bandwidth.
        mfu: model FLOPs utilisation: model FLOPs / t / datasheet dense peak.
        routing_kernel_s: kernel time of the routing leaves, of which every part chooses experts
            or rows. Leaves out what leaves of experts and rows do to sort, permute and combine,
            which no measurement by leaf tells apart.
        routing_share: of the step's kernel time.
        routing_launches: kernels of the routing leaves.
        routing_hbm_bytes: HBM bytes that the routing leaves read and wrote.
        routing_flops: counted FLOPs of the routing leaves.
        leaves_read_bytes: HBM bytes read, summed over all leaves.
        leaves_over_step: `leaves_read_bytes` over the reads of the whole step.
        gap_per_kernel_s: what the graph takes beyond the sum of its kernels, / kernels. The graph
            and the kernels, traced in eager steps, come from two runs. Kernels that overlap, as
            fused ones do, leave none.
    """

    time_of: str
    tokens_per_s: Figure
    hbm_bytes_per_s: Figure
    flops_per_s: Figure
    mbu: Figure
    mfu: Figure
    routing_kernel_s: Figure
    routing_share: Figure
    routing_launches: Figure
    routing_hbm_bytes: Figure
    routing_flops: Figure
    leaves_read_bytes: Figure
    leaves_over_step: Figure
    gap_per_kernel_s: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedUtilisation:
    """Those figures of `Utilisation` that a prediction has, by the predicted time.

    Routing is that of the routing leaves, as measured: less than `StepTime.routing_s` and
    `Costs.routing`, which count the routing parts of all leaves. Its time and share are those of
    kernels, without pauses, its bytes are compulsory, its FLOPs those that a counter sees.
    None without a predicted time, or if the model routes nothing.
    """

    tokens_per_s: float | None = None
    mbu: float | None = None
    mfu: float | None = None
    routing_kernel_s: float | None = None
    routing_share: float | None = None
    routing_launches: float | None = None
    routing_hbm_bytes: float | None = None
    routing_flops: float | None = None


def predicted_utilisation(case: CasePrediction, time_of: str) -> PredictedUtilisation:
    """The figures of a prediction, for its time `graph_s` or `eager_s`."""
    routing = [operator for operator in case.costs.operators if _only_routes(operator)]
    without_time = PredictedUtilisation()
    if routing:
        without_time = PredictedUtilisation(
            routing_launches=_float_or_none(case.kernels.launches_of(routing)),
            routing_hbm_bytes=sum(op.count * float(op.compulsory_bytes) for op in routing),
            routing_flops=sum(op.count * float(counted_flops_of(op)) for op in routing),
        )
    if case.prediction is None or isinstance(case.times, Unknown):
        return without_time
    workload, totals, hardware = case.workload, case.costs.totals, case.prediction.hardware
    step_s = float(case.times.graph_s if time_of == "graph_s" else case.times.eager_s)
    routing_s = sum(op.count * float(case.operator_s[op.path]) for op in routing) or None
    peak, _ = hardware.peak_flops_per_s(workload.formats.default.name)
    return replace(
        without_time,
        tokens_per_s=workload.batch * workload.new_tokens / step_s,
        mbu=float(totals.compulsory_bytes) / step_s / hardware.hbm_bytes_per_s,
        mfu=float(totals.flops) / step_s / peak,
        routing_kernel_s=routing_s,
        routing_share=None if routing_s is None else routing_s / float(case.kernel_s),
    )


def measured_utilisation(
    recording: Recording, index: int, gpus: Gpus, work: Sequence[OperatorWork] | None = None
) -> Utilisation:
    """The figures of one case of the recording.

    `work` is the required work of its operators (`operator_work`), if a caller has it already.
    """
    case = recording.cases[index]
    workload = case.workload
    if work is None:
        work = operator_work(recording.model, workload)
    gpu = gpus.of(device_of(recording, case, "time"))
    time_of = "graph_s" if step_figure(case, "time", "graph_s").value is not None else "eager_s"
    step_s = step_figure(case, "time", time_of)
    time_run = case.runs.get("time")
    touched = recorded_distinct(recording, time_run) if time_run else {}
    required = required_work(work, touched).step
    routing_leaves = frozenset(
        path for operator in work if operator.only_routes for path in operator.paths
    )

    def routing(run: RunName, quantity: str) -> Figure:
        if not routing_leaves:
            return _none(NO_ROUTING)
        return _leaf_sum(recording, case, run, quantity, routing_leaves)

    routing_s = routing("trace", "kernel_s")
    read = step_figure(case, "counters", "hbm_read_bytes")
    leaves_read = _leaf_sum(
        recording, case, "counters", "hbm_read_bytes", frozenset(recording.paths)
    )
    return Utilisation(
        time_of=time_of,
        tokens_per_s=_figure(lambda s: workload.batch * workload.new_tokens / s, step_s),
        hbm_bytes_per_s=_figure(lambda moved, s: moved / s, moved_bytes(case), step_s),
        flops_per_s=_figure(lambda s: required.flops / s, step_s),
        mbu=_figure(lambda s, peak: required.compulsory_bytes / s / peak, step_s, _bandwidth(gpu)),
        mfu=_figure(lambda s, peak: required.flops / s / peak, step_s, _peak(gpu, workload.dtype)),
        routing_kernel_s=routing_s,
        routing_share=_figure(_ratio, routing_s, step_figure(case, "trace", "kernel_s")),
        routing_launches=routing("trace", "launches"),
        routing_hbm_bytes=_figure(
            lambda read, written: read + written,
            routing("counters", "hbm_read_bytes"),
            routing("counters", "hbm_written_bytes"),
        ),
        routing_flops=routing("time", "flops_counted"),
        leaves_read_bytes=leaves_read,
        leaves_over_step=_figure(_ratio, leaves_read, read),
        gap_per_kernel_s=_gap_per_kernel(case),
    )


def _gap_per_kernel(case: Case) -> Figure:
    gap = _figure(
        lambda graph_s, kernel_s, kernels: (graph_s - kernel_s) / kernels,
        step_figure(case, "time", "graph_s"),
        step_figure(case, "trace", "kernel_s"),
        step_figure(case, "trace", "launches"),
    )
    return _none(NO_GAP) if gap.value is not None and gap.value < 0 else gap


def _float_or_none(number: Number | None) -> float | None:
    return None if number is None else float(number)


def step_figure(case: Case, run: RunName, quantity: str) -> Figure:
    """A measured number of the whole step: the median of repeated readings, or the count."""
    if run not in case.runs:
        return _none(case.lacking.get(run, NO_RUN))
    match case.runs[run].step.get(quantity):
        case Exact(value=value):
            return Figure(value=float(value))
        case Spread(median=value):
            return Figure(value=value)
        case Missing(reason=reason):
            return _none(reason)
    return _none(NOT_IN_RUN)


def routing_paths(operators: Iterable[Operator]) -> frozenset[str]:
    """The paths of the leaves that do nothing but choose experts or rows."""
    return frozenset(
        path
        for operator in operators
        if _only_routes(operator)
        for path in expanded_paths(operator.path)
    )


def _only_routes(operator: Operator) -> bool:
    return all(part.routing for part in operator.parts)


def moved_bytes(case: Case) -> Figure:
    """HBM bytes of the step: reads and writes, or their sum where a counter gives no more."""
    read, written = (
        step_figure(case, "counters", quantity)
        for quantity in ("hbm_read_bytes", "hbm_written_bytes")
    )
    moved = _figure(lambda read, written: read + written, read, written)
    together = step_figure(case, "counters", "hbm_bytes")
    return together if moved.value is None and together.value else moved


def _leaf_sum(
    recording: Recording, case: Case, run: RunName, quantity: str, paths: frozenset[str]
) -> Figure:
    """The sum of a quantity over leaves; a leaf without a measured number adds nothing.

    None if a leaf was measured only together with others, within a region.
    """
    if run not in case.runs:
        return _none(case.lacking.get(run, NO_RUN))
    match case.runs[run].operators.get(quantity):
        case ExactColumn(values=values) | SpreadColumn(median=values):
            of_path = {
                path: value
                for path, value in zip(recording.paths, values, strict=True)
                if value is not None
            }
            for path in of_path:
                if path not in paths and not paths.isdisjoint(region_leaves(path)):
                    return _none(f"{NOT_ALONE} (a kernel spans {path})")
            measured = [value for path, value in of_path.items() if path in paths]
            return Figure(value=float(sum(measured))) if measured else _none(NOT_IN_RUN)
        case Missing(reason=reason):
            return _none(reason)
    return _none(NOT_IN_RUN)


def _bandwidth(gpu: Gpu | None) -> Figure:
    return _none(NO_DATASHEET) if gpu is None else Figure(value=gpu.hardware.hbm_bytes_per_s)


def _peak(gpu: Gpu | None, dtype: str) -> Figure:
    if gpu is None:
        return _none(NO_DATASHEET)
    return Figure(value=gpu.hardware.peak_flops_per_s(dtype)[0])


def _ratio(part: float, whole: float) -> float:
    return part / whole


def _figure(formula: Callable[..., float], *terms: Figure) -> Figure:
    """`formula` applied to the terms; missing if a term is missing or the result is not finite."""
    for term in terms:
        if term.value is None:
            return term
    try:
        value = formula(*(term.value for term in terms))
    except ZeroDivisionError:
        value = inf
    return Figure(value=value) if isfinite(value) else _none(NO_DIVISOR)


def _none(reason: str) -> Figure:
    return Figure(value=None, reason=reason)
