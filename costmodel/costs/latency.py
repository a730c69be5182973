"""The predicted time: what measured curves give for each kernel of a backend, and its launches.

A kernel takes as long as its longest member: a part with a shape takes what the curve of that shape
says; the bytes of parts without one add up (compulsory, at the operator's border and, unless the
backend saves them, between parts) and take what moving them takes. Each launch is added at its
measured cost. A part that another one of its kernel outlasts adds nothing.

An operator never takes less than its roofline bound. No accuracy is claimed: see
`sparsecost validate`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from costmodel.backends import BACKENDS
from costmodel.backends.base import Backend, Region
from costmodel.costs.energy import energy_j
from costmodel.costs.kernel_times import DTYPE, Curves
from costmodel.costs.roofline import Ceilings
from costmodel.costs.totals import Totals
from costmodel.inputs.workload import Workload
from costmodel.layers.numbers import Number, larger
from costmodel.layers.operator import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Why a number is not known."""

    reason: str


NOT_ASKED = Unknown(reason="no calibration is applied; times are floors")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """One of an operator's layers, as part of a CUDA graph."""

    seconds: Number
    parts_s: tuple[Number, ...]  # sum to less where the roofline bound is longer
    routing_s: Number  # of the parts that choose experts or rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionTime:
    """One layer of operators that kernels span, as part of a CUDA graph."""

    region: Region
    seconds: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """One step, in seconds, and its energy in joules. Numbers, or arrays over a grid."""

    operators: tuple[OperatorTime, ...]  # of an operator in a region: its share of the region
    regions: tuple[RegionTime, ...]  # those of several operators
    graph_s: Number  # as a CUDA graph: the sum over operators and regions
    eager_s: Number  # launched one by one: the host or the GPU, whichever takes longer
    predicted_s: Number  # decode as a graph, prefill eagerly: how each is usually run
    routing_s: Number  # as part of the graph
    energy_j: Number | Unknown  # of a step that takes `predicted_s`


def step_time(
    curves: Curves | Unknown,
    workload: Workload,
    operators: Sequence[Operator],
    sums: Totals,
    ceilings: Ceilings,
) -> StepTime | Unknown:
    """The predicted time and energy of a step on the GPU of these curves and datasheet peaks.

    As a graph: the sum over kernels and layers. Eagerly: the host launches ahead of the GPU, so
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
    backend = BACKENDS[workload.backend]
    times: dict[str, list[tuple[int, OperatorTime]]] = {}  # by path, with numbers of layers
    regions: list[RegionTime] = []
    graph: Number = 0.0
    routing: Number = 0.0
    for region in backend.regions(operators):
        seconds, members = region_time(curves, region, backend, ceilings)
        graph = graph + region.count * seconds
        if len(region.operators) > 1:
            regions.append(RegionTime(region=region, seconds=seconds))
        for operator, time in zip(region.operators, members, strict=True):
            routing = routing + region.count * time.routing_s
            times.setdefault(operator.path, []).append((region.count, time))
    graph = larger(graph, ceilings.floor_s(sums.compulsory_bytes, sums.flops))  # but for rounding
    eager = larger(graph, backend.total_launches(operators) * curves.eager_s)
    predicted = graph if workload.phase == "decode" else eager
    moved = sums.compulsory_bytes + sums.activation_bytes
    if not backend.saves_intermediates:
        moved = moved + sums.intermediate_bytes
    return StepTime(
        operators=tuple(_mean(times[operator.path]) for operator in operators),
        regions=tuple(regions),
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


def region_time(
    curves: Curves, region: Region, backend: Backend, ceilings: Ceilings
) -> tuple[Number, tuple[OperatorTime, ...]]:
    """One layer of a region, and of each of its operators, in seconds.

    The region takes the sum over its kernels, or its roofline bound if that is longer. Its only
    operator takes the same; of several, each takes what its parts add, which may sum to less.
    """
    compulsory: Number = 0
    flops: Number = 0
    total: Number = 0.0
    added: list[Number] = []
    for kernel in backend.kernels(region):
        moved: Number = 0  # by parts without a shape
        longest: Number = 0.0
        launch_s = kernel.launches * curves.graph_s
        total = total + launch_s
        for index, part in enumerate(kernel.parts):
            required = part.compulsory_bytes
            compulsory, flops = compulsory + required, flops + part.flops
            if part.shape is None:
                moved = moved + required + part.activation_bytes
                if not backend.saves_intermediates:
                    moved = moved + part.intermediate_bytes
                part_s = curves.move_s(moved, kernel.launches)
            else:
                part_s = curves.shape_s(part.shape)
            before, longest = longest, larger(longest, part_s)
            added.append(longest - before + (launch_s if index == kernel.charged else 0))
        total = total + longest
    seconds = larger(total, ceilings.floor_s(compulsory, flops))
    return seconds, tuple(_members(region, added, seconds))


def _members(region: Region, added: list[Number], seconds: Number) -> Iterator[OperatorTime]:
    """The times of the region's operators from what each part, in order, adds."""
    first = 0
    for operator in region.operators:
        parts_s = tuple(added[first : first + len(operator.parts)])
        first += len(operator.parts)
        routing: Number = 0.0
        share: Number = 0.0
        for part, part_s in zip(operator.parts, parts_s, strict=True):
            share = share + part_s
            if part.routing:
                routing = routing + part_s
        yield OperatorTime(
            seconds=seconds if len(region.operators) == 1 else share,
            parts_s=parts_s,
            routing_s=routing,
        )


def _mean(times: list[tuple[int, OperatorTime]]) -> OperatorTime:
    """The mean layer of an operator whose layers stand in different regions."""
    if len(times) == 1:
        return times[0][1]
    layers = sum(count for count, _ in times)

    def mean(numbers: Iterable[Number]) -> Number:
        total: Number = 0.0
        for (count, _), number in zip(times, numbers, strict=True):
            total = total + count * number
        return total / layers

    return OperatorTime(
        seconds=mean(time.seconds for _, time in times),
        parts_s=tuple(map(mean, zip(*(time.parts_s for _, time in times), strict=True))),
        routing_s=mean(time.routing_s for _, time in times),
    )
