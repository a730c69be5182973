"""The predicted time: what measured curves give for each part of a step, and its launches.

A part with a shape takes what the curve of that shape says; one without takes what moving its bytes
(compulsory, at the operator's border and, unless a kernel fuses them away, between parts) takes.
Each of a part's launches is added at its measured cost.

A part without launches of its own runs inside the launch before it (or the operator's first one):
the bytes of parts without a shape add up there, and the launch takes as long as its longest member.
Such a part costs what it makes that launch longer, often nothing.

An operator never takes less than its floor. No accuracy is claimed: see `sparsecost validate`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from costmodel.costs.energy import energy_j
from costmodel.costs.kernel_times import DTYPE, Curves
from costmodel.costs.roofline import floor_s
from costmodel.costs.totals import Totals
from costmodel.inputs.workload import Backend, Workload
from costmodel.layers.operator import Number, Operator, larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Why a number is not known."""

    reason: str


NOT_ASKED = Unknown(reason="no calibration is applied; times are floors")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """One of an operator's layers, as part of a CUDA graph."""

    seconds: Number
    parts_s: tuple[Number, ...]  # sum to less where the floor is longer
    routing_s: Number  # of the parts that choose experts or rows


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """One step, in seconds, and its energy in joules. Numbers, or arrays over a grid."""

    operators: tuple[OperatorTime, ...]
    graph_s: Number  # as a CUDA graph: the sum over the operators
    eager_s: Number  # launched one by one: the host or the GPU, whichever takes longer
    predicted_s: Number  # decode as a graph, prefill eagerly: how each is usually run
    routing_s: Number  # as part of the graph
    energy_j: Number | Unknown  # of a step that takes `predicted_s`


def step_time(
    curves: Curves | Unknown,
    workload: Workload,
    operators: Iterable[Operator],
    sums: Totals,
    *,
    hbm_bytes_per_s: float,
    peak_flops_per_s: float,
) -> StepTime | Unknown:
    """The predicted time and energy of a step on the GPU of these curves and datasheet peaks.

    As a graph: the sum over operators and layers. Eagerly: the host launches ahead of the GPU, so
    the longer of that sum and of all launches at their eager cost. Leaves out: what one operator
    leaves in L2 for the next, and overlap of kernels.
    """
    if isinstance(curves, Unknown):
        return curves
    formats = workload.dtype.label, workload.kv_dtype.label
    if formats != (DTYPE, DTYPE):
        return Unknown(
            reason=f"calibrations are measured in {DTYPE};"
            f" this is dtype={formats[0]}, kv_dtype={formats[1]}"
        )
    peaks = hbm_bytes_per_s, peak_flops_per_s
    each: list[OperatorTime] = []
    graph: Number = 0.0
    routing: Number = 0.0
    for operator in operators:
        time = operator_time(curves, operator, workload.backend, *peaks)
        graph = graph + operator.count * time.seconds
        routing = routing + operator.count * time.routing_s
        each.append(time)
    graph = larger(graph, floor_s(sums.compulsory_bytes, sums.flops, *peaks))  # but for rounding
    launches: Number = getattr(sums, f"launches_{workload.backend}")
    eager = larger(graph, launches * curves.eager_s)
    predicted = graph if workload.phase == "decode" else eager
    moved = sums.compulsory_bytes + sums.activation_bytes
    if workload.backend == "torch":
        moved = moved + sums.intermediate_bytes
    return StepTime(
        operators=tuple(each),
        graph_s=graph,
        eager_s=eager,
        predicted_s=predicted,
        routing_s=routing,
        energy_j=Unknown(reason="the calibration measured no power")
        if curves.power is None
        else energy_j(
            curves.power,
            curves.power_limit_w,
            seconds=predicted,
            moved_bytes=moved,
            flops=sums.flops,
        ),
    )


def operator_time(
    curves: Curves,
    operator: Operator,
    backend: Backend,
    hbm_bytes_per_s: float,
    peak_flops_per_s: float,
) -> OperatorTime:
    """One of the operator's layers: the sum over its launches, or its floor if that is longer."""
    torch = backend == "torch"
    compulsory: Number = 0
    flops: Number = 0
    total: Number = 0.0
    routing: Number = 0.0
    parts_s: list[Number] = []
    kernels, launched = 1, False
    moved: Number = 0  # in the launch at hand, by parts without a shape
    longest: Number = 0.0  # member of the launch at hand
    for part in operator.parts:
        launches = part.launches_torch if torch else part.launches_fused
        if launches:
            if launched:
                total = total + longest
                moved, longest = 0, 0.0
            kernels, launched = launches, True
        required = part.compulsory_bytes
        compulsory, flops = compulsory + required, flops + part.flops
        if part.shape is None:
            moved = moved + required + part.activation_bytes
            if torch:
                moved = moved + part.intermediate_bytes
            own = curves.move_s(moved, kernels)
        else:
            own = curves.shape_s(part.shape)
        before, longest = longest, larger(longest, own)
        added = longest - before + launches * curves.graph_s
        total = total + launches * curves.graph_s
        parts_s.append(added)
        if part.routing:
            routing = routing + added
    floor = floor_s(compulsory, flops, hbm_bytes_per_s, peak_flops_per_s)
    return OperatorTime(
        seconds=larger(total + longest, floor), parts_s=tuple(parts_s), routing_s=routing
    )
