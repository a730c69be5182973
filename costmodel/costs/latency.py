"""The predicted time of a step: the sum over a backend's kernels, priced by a calibration.

The time of a kernel:

1. A part that has a shape (a GEMM, attention, a gather of rows, a top-k) takes what the calibration
   measured for that shape.
2. The parts without a shape are elementwise: their bytes are added up and take what moving so many
   bytes takes. These are the compulsory bytes, the activations that the operator reads and writes
   and, unless the backend keeps them on the chip, the intermediates between its parts.
3. A kernel does its parts at the same time, so it takes as long as the longest of them. A part that
   is not longer than those before it in the kernel adds nothing.
4. Each launch adds its measured cost.
5. Rows of a table in host memory are fetched over the link by a kernel of its own, and then read as
   any other rows. Where they are known in the layer alone, its part takes the fetch besides. Where
   they are known ahead, the step waits for what the work before the layer does not hide
   (`fetches.py`).

No operator takes less than its roofline bound. How far predictions are from measurements:
`sparsecost validate`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np

from costmodel.backends.step_kernels import Region, StepKernels
from costmodel.costs.energy import step_energy_j
from costmodel.costs.fetches import NO_FETCH, Fetches, fetches, unpriced
from costmodel.costs.intervals import NORMAL
from costmodel.costs.kernel_times import DTYPE, Curves, Transfer
from costmodel.costs.leaf_times import EAGER, HIDDEN, HIDDEN_SPREAD, LeafTimes, step_spread
from costmodel.costs.roofline import NEAR, NOTHING, Ceilings, FarBytes, far_bytes
from costmodel.costs.totals import Totals
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.numbers import Number, larger, smaller
from costmodel.layers.operator import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Stands in place of a number that is not known, and says why."""

    reason: str


NOT_ASKED = Unknown(reason="no calibration is applied; times are roofline bounds")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """The time of one of an operator's layers, as part of a CUDA graph."""

    seconds: Number
    parts_s: tuple[Number, ...]  # what each part adds; their sum is less if the bound is longer
    routing_s: Number  # of the parts that select experts or rows


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionTime:
    """The time of one layer of a region: of operators that kernels span, within a CUDA graph."""

    region: Region
    seconds: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """The time of a step in seconds, and its energy in joules. Numbers, or arrays over a grid."""

    operators: tuple[OperatorTime, ...]  # of an operator in a region: its share of the region
    regions: tuple[RegionTime, ...]  # only those of several operators
    graph_s: Number  # as a CUDA graph: the sum over all kernels
    eager_s: Number  # launched one by one: the host's launches or the GPU, whichever is longer
    predicted_s: Number  # `graph_s` in decode and `eager_s` in prefill, as each is usually run
    routing_s: Number  # of the parts that select experts or rows, within the graph
    energy_j: Number | Unknown  # of a step that takes `predicted_s`
    outside_s: Number = 0.0  # of the graph's kernels that belong to no operator
    hidden_s: Number = 0.0  # of operators, by others that run beside them
    fetches: Fetches = NO_FETCH  # of rows outside HBM; what is exposed is in all times above
    interval_s: tuple[Number, Number] | None = None  # of 90 %, about `predicted_s`
    graph_interval_s: tuple[Number, Number] | None = None  # the same about `graph_s`
    transfer: Transfer | None = None  # of times that were not measured on this GPU or format


def not_timed(curves: Curves | Unknown, workload: Workload) -> Unknown | None:
    """Why no time is predicted: there are no kernel times, or none for these formats."""
    measured = DTYPES[DTYPE]
    if isinstance(curves, Unknown):
        return curves
    if curves.transfer is not None:
        return None
    if workload.formats.dtypes == (measured,) and workload.kv_dtype == measured:
        return None
    return Unknown(
        reason=f"calibrations are measured in {DTYPE};"
        f" this is dtype={workload.dtype_label}, kv_dtype={workload.kv_dtype.label}"
    )


def step_time(
    curves: Curves | Unknown,
    workload: Workload,
    operators: Sequence[Operator],
    sums: Totals,
    ceilings: Ceilings,
    *,
    kernels: StepKernels,
) -> StepTime | Unknown:
    """The predicted time and energy of a step.

    As a CUDA graph: the sum over the kernels of all layers, at least the roofline bound. Eagerly:
    the host launches ahead of the GPU, so the longer of that sum and of all launches at the cost
    that they have on the host.
    With tables outside HBM, the step waits for fetches that nothing hides (`fetches`).
    Leaves out: what one operator leaves in L2 for the next, and overlap of kernels but for branches
    of a backend; of energy, what
    the link, the host's memory and a disk take.

    Args:
        curves: Kernel times of the GPU, or why there are none.
        workload: Its phase and formats.
        operators: Of the step.
        sums: Their totals.
        ceilings: Of the GPU's datasheet.
        kernels: Those of the workload's backend.

    Returns:
        `Unknown` if there are no kernel times, or none for these kernels or formats.
    """
    if isinstance(curves, Unknown):
        return curves
    backend = kernels.backend
    leaves = curves.leaves.get(backend.name)
    unmeasured = "" if leaves else backend.unpriced
    reason = kernels.refusal or unmeasured or unpriced(curves, operators)
    unknown = Unknown(reason=reason) if reason else not_timed(curves, workload)
    if unknown is not None:
        return unknown
    spread: Number | None = None
    outside: float = 0.0
    hidden: Number = 0.0
    regions: Sequence[RegionTime] = ()
    if leaves is None:
        means, regions, graph, routing = _by_kernels(curves, operators, ceilings, kernels)
    else:
        means, graph, routing, spread = _by_leaves(curves, leaves, operators, ceilings, kernels)
        outside = _outside_s(leaves, operators, kernels)
        hidden, unsure = _hidden_s(operators, means, kernels)
        graph = graph + outside - hidden
        spread = (spread**2 + (unsure / graph) ** 2) ** 0.5
        if isinstance(kernels.tokens, int):
            regions = leaf_regions(operators, means, kernels)
    fetched, far = NO_FETCH, NEAR
    if sums.fetched_bytes is not NOTHING:
        fetched = fetches(curves, operators, [time.seconds for time in means])
        far = far_bytes(sums)
        graph = graph + fetched.waited_s
    floor = ceilings.floor_s(sums.compulsory_bytes, sums.flops, far)
    graph = larger(graph, floor)  # but for rounding, and for a link that is the longest
    launches = kernels.step_launches(operators)
    assert launches is not None
    eager = larger(graph, launches * curves.eager_s)
    predicted = graph if workload.phase == "decode" else eager

    def of_90(seconds: Number) -> tuple[Number, Number] | None:
        if spread is None:
            return None
        return _interval_s(seconds, graph, spread, floor, curves.transfer)

    energy: Number | Unknown | None
    if curves.transfer is None:
        energy = step_energy_j(curves, operators, sums, kernels, predicted)
    else:
        energy = Unknown(reason=f"energy was measured on {curves.transfer.source} in {DTYPE} alone")
    return StepTime(
        operators=means,
        regions=tuple(region for region in regions if len(region.region.operators) > 1),
        graph_s=graph,
        eager_s=eager,
        predicted_s=predicted,
        routing_s=routing,
        outside_s=outside,
        hidden_s=hidden,
        energy_j=Unknown(reason="the calibration measured no power") if energy is None else energy,
        fetches=fetched,
        interval_s=of_90(predicted),
        graph_interval_s=of_90(graph),
        transfer=curves.transfer,
    )


def _by_kernels(
    curves: Curves, operators: Sequence[Operator], ceilings: Ceilings, kernels: StepKernels
) -> tuple[tuple[OperatorTime, ...], list[RegionTime], Number, Number]:
    """Times of operators and regions from curves of single kernels; the step's, and its routing."""
    times: dict[str, list[tuple[int, OperatorTime]]] = {}  # by path, with numbers of layers
    regions: list[RegionTime] = []
    graph: Number = 0.0
    routing: Number = 0.0
    for region in kernels.regions(operators):
        seconds, members = region_time(curves, region, kernels, ceilings)
        graph = graph + region.count * seconds
        regions.append(RegionTime(region=region, seconds=seconds))
        for operator, time in zip(region.operators, members, strict=True):
            routing = routing + region.count * time.routing_s
            times.setdefault(operator.path, []).append((region.count, time))
    means = tuple(_mean(times[operator.path]) for operator in operators)
    return means, regions, graph, routing


def _by_leaves(
    curves: Curves,
    leaves: LeafTimes,
    operators: Sequence[Operator],
    ceilings: Ceilings,
    kernels: StepKernels,
) -> tuple[tuple[OperatorTime, ...], Number, Number, Number]:
    """Times of operators from measured leaves; their sum, its routing, and the spread of its ln.

    An operator takes the sum over its parts, or its roofline bound if that is longer.
    """
    backend = kernels.backend
    times: list[OperatorTime] = []
    spreads: list[tuple[str, Number, Number]] = []
    graph: Number = 0.0
    routing: Number = 0.0
    begun = [
        [backend.launches(operator, part, kernels.tokens) for part in operator.parts]
        for operator in operators
    ]
    sums = [sum(launches, start=0) for launches in begun]
    corrections = leaves.corrections(operators, sums, kernels.tokens)
    for operator, launches, (factor, spread) in zip(operators, begun, corrections, strict=True):
        parts_s = [factor * s for s in leaves.parts_s(operator, launches, kernels.tokens)]
        far = NEAR
        for index, part in enumerate(operator.parts):
            if part.fetched_bytes is not NOTHING and not part.early:
                parts_s[index] = parts_s[index] + curves.fetch_s(part)
                far = FarBytes(far.link + part.link_bytes, far.disk + part.disk_bytes)
        total: Number = 0.0
        chooses: Number = 0.0
        for part, part_s in zip(operator.parts, parts_s, strict=True):
            total = total + part_s
            if part.routing:
                chooses = chooses + part_s
        floor = ceilings.floor_s(operator.compulsory_bytes, operator.total("flops"), far)
        time = OperatorTime(seconds=larger(total, floor), parts_s=tuple(parts_s), routing_s=chooses)
        times.append(time)
        spreads.append((operator.leaf, operator.count * time.seconds, spread))
        graph = graph + operator.count * time.seconds
        routing = routing + operator.count * chooses
    return tuple(times), graph, routing, step_spread(spreads, graph, leaves.step_share)


def _outside_s(leaves: LeafTimes, operators: Sequence[Operator], kernels: StepKernels) -> float:
    """The time of a step's kernels that belong to no operator, each as long as a launch.

    Source: assumed, since such a kernel moves next to nothing; by itself it was never timed.
    """
    return kernels.backend.outside_launches(operators) * leaves.parameters["elementwise.launch_s"]


def _hidden_s(
    operators: Sequence[Operator], times: Sequence[OperatorTime], kernels: StepKernels
) -> tuple[Number, Number]:
    """What branches save, since they run beside others; and its standard deviation, in seconds."""
    shorter: Number = 0.0
    seconds = {id(operator): time.seconds for operator, time in zip(operators, times, strict=True)}
    for branch in kernels.backend.branches(operators, kernels.tokens):
        own: Number = sum((seconds[id(each)] for each in branch.operators), start=0.0)
        others: Number = sum((seconds[id(each)] for each in branch.beside), start=0.0)
        shorter = shorter + branch.layers * smaller(own, others)
    return HIDDEN * shorter, HIDDEN_SPREAD * shorter


def leaf_regions(
    operators: Sequence[Operator], times: Sequence[OperatorTime], kernels: StepKernels
) -> list[RegionTime]:
    """The times of regions, each the sum over the leaves that its kernels span."""
    seconds = {operator.path: time.seconds for operator, time in zip(operators, times, strict=True)}
    return [
        RegionTime(
            region=region,
            seconds=sum((seconds[operator.path] for operator in region.operators), start=0.0),
        )
        for region in kernels.regions(operators)
    ]


def _interval_s(
    predicted: Number, graph: Number, spread: Number, floor: Number, transfer: Transfer | None
) -> tuple[Number, Number]:
    """The interval of 90 % about a predicted time, at least the roofline bound.

    Where the host's launches decide it, their spread stands in place of the kernels'. That of a
    transfer comes on top.
    """
    hosted = predicted > graph
    spread = (
        np.where(hosted, EAGER, spread)
        if isinstance(hosted, np.ndarray)
        else (EAGER if hosted else spread)
    )
    if transfer is not None:
        spread = (spread**2 + transfer.spread**2) ** 0.5
    factor: Number = (
        np.exp(NORMAL * spread.astype(float))  # counts beyond 64 bits are Python's integers
        if isinstance(spread, np.ndarray)
        else exp(NORMAL * spread)
    )
    return larger(predicted / factor, floor), predicted * factor


def region_time(
    curves: Curves, region: Region, kernels: StepKernels, ceilings: Ceilings
) -> tuple[Number, tuple[OperatorTime, ...]]:
    """The time of one layer of a region, and of each operator in it.

    The region takes the sum over its kernels, or its roofline bound if that is longer. A single
    operator takes all of that. Of several, each takes what its parts add; their sum is less than
    the region's time where the roofline bound is longer.

    Returns:
        Seconds of the region, and the times of its operators in order.
    """
    compulsory: Number = 0
    flops: Number = 0
    far = NEAR
    total: Number = 0.0
    added: list[Number] = []
    saves = kernels.backend.saves_intermediates
    for kernel in kernels.kernels(region):
        moved: Number = 0  # by parts without a shape
        longest: Number = 0.0
        launch_s = kernel.launches * curves.graph_s
        total = total + launch_s
        for index, part in enumerate(kernel.parts):
            required = part.compulsory_bytes
            compulsory, flops = compulsory + required, flops + part.flops
            if part.shape is None:
                moved = moved + required + part.activation_bytes
                if not saves:
                    moved = moved + part.intermediate_bytes
                part_s = curves.move_s(moved, kernel.launches)
            else:
                part_s = curves.shape_s(part.shape)
            before, longest = longest, larger(longest, part_s)
            fetch_s: Number = 0
            if part.fetched_bytes is not NOTHING and not part.early:
                fetch_s = curves.fetch_s(part)
                total = total + fetch_s
                far = FarBytes(far.link + part.link_bytes, far.disk + part.disk_bytes)
            added.append(longest - before + (launch_s if index == kernel.charged else 0) + fetch_s)
        total = total + longest
    seconds = larger(total, ceilings.floor_s(compulsory, flops, far))
    return seconds, tuple(_members(region, added, seconds))


def _members(region: Region, added: list[Number], seconds: Number) -> Iterator[OperatorTime]:
    """The times of a region's operators; `added` holds what each part adds, in order."""
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
    """The mean over an operator's layers, which may stand in different regions."""
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
