"""What a measured step achieved, under the usual names: bandwidth, FLOP rate, MBU, MFU, routing.

Each figure is a quotient or a sum of measured numbers; where one of them is missing, so is the
figure, with the reason. The time is that of the CUDA graph, or of the eager step where no graph was
measured (`time_of` says which). `expected` says the same of a prediction.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

from costmodel.costs.latency import Unknown
from costmodel.layers.operator import Operator
from costmodel.layers.site import expanded_paths
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
from costmodel.validation.bounds import Demand, demands, required_of, whole
from costmodel.validation.counterparts import COUNTED, Gpu, Gpus, Side, flops_of
from costmodel.validation.join import NO_RUN, device_of
from costmodel.validation.recorded_routing import recorded_distinct

NO_DATASHEET = "not known (no hardware preset for this machine)"
NO_DIVISOR = "not known (what was measured is too small to divide by)"
NO_ROUTING = "the model routes nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One derived number; None where `reason` says why."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Achieved:
    """The figures of one case.

    Attributes:
        time_of: `graph_s` or `eager_s`, the time t below.
        tokens_per_s: B T / t.
        hbm_bytes_per_s: HBM bytes read and written by the step / t. The bytes are of another run.
        flops_per_s: useful FLOPs (causal attention) / t.
        mbu: model bandwidth utilisation: compulsory bytes, of the experts and rows that were
            touched, / t / datasheet bandwidth.
        mfu: model FLOPs utilisation: useful FLOPs / t / datasheet dense peak.
        routing_kernel_s: kernel time of the routing leaves: those all of whose parts choose experts
            or rows. Leaves out what leaves of experts and rows do to sort, permute and combine,
            which no measurement by leaf tells apart.
        routing_share: of the step's kernel time.
        routing_launches: kernels of the routing leaves.
        routing_hbm_bytes: HBM bytes that they read and wrote.
        routing_flops: their counted FLOPs.
        leaves_read_bytes: HBM bytes read, summed over leaves.
        leaves_over_step: those over the reads of the whole step.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a predicted step would achieve: the figures of `Achieved`, by the predicted time.

    Routing is of the leaves that only choose, as the measured one is: less than
    `StepTime.routing_s` and `Costs.routing`, which count the parts of all leaves. Its time and
    share are those of a CUDA graph, its bytes compulsory, its FLOPs those that a counter sees.
    None: without a predicted time, or of a model that routes nothing.
    """

    tokens_per_s: float | None = None
    mbu: float | None = None
    mfu: float | None = None
    routing_kernel_s: float | None = None
    routing_share: float | None = None
    routing_launches: float | None = None
    routing_hbm_bytes: float | None = None
    routing_flops: float | None = None


def expected(side: Side, time_of: str) -> Expected:
    """The figures of a predicted side for the time `graph_s` or `eager_s`."""
    chosen = [operator for operator in side.costs.operators if _only_routes(operator)]
    counted = Expected()
    if chosen:
        counted = Expected(
            routing_launches=sum(op.count * side.backend.operator_launches(op) for op in chosen),
            routing_hbm_bytes=sum(op.count * float(op.compulsory_bytes) for op in chosen),
            routing_flops=sum(op.count * float(flops_of(op, *COUNTED)) for op in chosen),
        )
    if side.prediction is None or isinstance(side.times, Unknown):
        return counted
    times, work, sums = side.times, side.workload, side.costs.totals
    t = float(times.graph_s if time_of == "graph_s" else times.eager_s)
    routing_s = sum(op.count * float(side.operator_s[op.path]) for op in chosen) or None
    hardware = side.prediction.hardware
    peak, _ = hardware.peak_flops_per_s(work.dtype.name)
    return replace(
        counted,
        tokens_per_s=work.batch * work.new_tokens / t,
        mbu=float(sums.compulsory_bytes) / t / hardware.hbm_bytes_per_s,
        mfu=float(sums.flops) / t / peak,
        routing_kernel_s=routing_s,
        routing_share=None if routing_s is None else routing_s / float(times.graph_s),
    )


def achieved(
    recording: Recording, index: int, gpus: Gpus, demanded: Sequence[Demand] | None = None
) -> Achieved:
    """The figures of one case of the recording; `demanded` where it is known already."""
    case = recording.cases[index]
    work = case.workload
    if demanded is None:
        demanded = demands(recording.model, work)
    gpu = gpus.of(device_of(recording, case, "time"))
    time_of = "graph_s" if step_figure(case, "time", "graph_s").value is not None else "eager_s"
    t = step_figure(case, "time", time_of)
    timed = case.runs.get("time")
    needed = whole(required_of(demanded, recorded_distinct(recording, timed) if timed else {}))
    routing = routing_paths(demand.operator for demand in demanded)
    read, written = (
        step_figure(case, "counters", name) for name in ("hbm_read_bytes", "hbm_written_bytes")
    )

    moved = _of(lambda r, w: r + w, read, written)
    if moved.value is None and (both := step_figure(case, "counters", "hbm_bytes")).value:
        moved = both

    def routed(run: RunName, quantity: str) -> Figure:
        return _sum(recording, case, run, quantity, routing) if routing else _none(NO_ROUTING)

    kernel_s = routed("trace", "kernel_s")
    leaves_read = _sum(recording, case, "counters", "hbm_read_bytes", frozenset(recording.paths))
    return Achieved(
        time_of=time_of,
        tokens_per_s=_of(lambda t: work.batch * work.new_tokens / t, t),
        hbm_bytes_per_s=_of(lambda moved, t: moved / t, moved, t),
        flops_per_s=_of(lambda t: needed.flops / t, t),
        mbu=_of(lambda t, peak: needed.compulsory_bytes / t / peak, t, _bandwidth(gpu)),
        mfu=_of(lambda t, peak: needed.flops / t / peak, t, _peak(gpu, work.dtype)),
        routing_kernel_s=kernel_s,
        routing_share=_of(
            lambda part, all_: part / all_, kernel_s, step_figure(case, "trace", "kernel_s")
        ),
        routing_launches=routed("trace", "launches"),
        routing_hbm_bytes=_of(
            lambda r, w: r + w,
            routed("counters", "hbm_read_bytes"),
            routed("counters", "hbm_written_bytes"),
        ),
        routing_flops=routed("time", "flops_counted"),
        leaves_read_bytes=leaves_read,
        leaves_over_step=_of(lambda part, all_: part / all_, leaves_read, read),
    )


def step_figure(case: Case, run: RunName, quantity: str) -> Figure:
    """A measured number of the whole step."""
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
    """The leaves that do nothing but choose experts or rows."""
    return frozenset(
        path
        for operator in operators
        if _only_routes(operator)
        for path in expanded_paths(operator.path)
    )


def _only_routes(operator: Operator) -> bool:
    return all(part.routing for part in operator.parts)


def _sum(
    recording: Recording, case: Case, run: RunName, quantity: str, paths: frozenset[str]
) -> Figure:
    """The sum of a quantity over leaves; a leaf that has none of it adds nothing."""
    if run not in case.runs:
        return _none(case.lacking.get(run, NO_RUN))
    match case.runs[run].operators.get(quantity):
        case ExactColumn(values=values) | SpreadColumn(median=values):
            found = [
                value
                for path, value in zip(recording.paths, values, strict=True)
                if path in paths and value is not None
            ]
            return Figure(value=float(sum(found))) if found else _none(NOT_IN_RUN)
        case Missing(reason=reason):
            return _none(reason)
    return _none(NOT_IN_RUN)


def _bandwidth(gpu: Gpu | None) -> Figure:
    return _none(NO_DATASHEET) if gpu is None else Figure(value=gpu.hardware.hbm_bytes_per_s)


def _peak(gpu: Gpu | None, dtype: str) -> Figure:
    if gpu is None:
        return _none(NO_DATASHEET)
    return Figure(value=gpu.hardware.peak_flops_per_s(dtype)[0])


def _of(formula: Callable[..., float], *terms: Figure) -> Figure:
    """The formula of numbers that are all there, and not divided by next to nothing."""
    for term in terms:
        if term.value is None:
            return term
    try:
        found = formula(*(term.value for term in terms))
    except ZeroDivisionError:
        found = inf
    return Figure(value=found) if isfinite(found) else _none(NO_DIVISOR)


def _none(reason: str) -> Figure:
    return Figure(value=None, reason=reason)
