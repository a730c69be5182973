"""The measured points of a calibration of leaves, each beside the operators that it ran."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from costmodel.costs.step import step_costs
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.site import expanded_paths
from costmodel.recordings.leaf_calibration import LeafCalibration, MeasuredShape
from costmodel.recordings.measured import Spread

LAYER = re.compile(r"^layers\.\d+\.")
EXPERTS, COMBINE = "moe.experts", "combine"
BEHIND_FFN = ("attention_norm", "final_norm")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Point:
    """One leaf or region of a shape: its operators with the launches of their parts, and time."""

    shape: int  # which of the file
    leaf: str  # of a region: `{ffn_norm,moe.router}`
    operators: tuple[Operator, ...]
    launches: tuple[int, ...]  # kernels that begin at each operator
    work: tuple[tuple[Part, Number], ...]  # parts with the launches that begin at them
    tokens: int
    measured_s: float


def points_of(calibration: LeafCalibration) -> list[Point]:
    """All points with a time, in the order of the file."""
    return [
        point
        for number, shape in enumerate(calibration.shapes)
        for point in _of_shape(number, shape, calibration.backend)
    ]


def _of_shape(number: int, shape: MeasuredShape, backend: str) -> Iterator[Point]:
    step = shape.workload.to_workload().step()
    costs = step_costs(shape.model, step)
    kernels = costs.kernels(backend)
    if kernels.refusal is not None:
        return
    regions = {
        path: region
        for region in kernels.regions(costs.operators)
        for path in expanded_paths(region.path)
    }
    for point in shape.points:
        reading = point.readings.get("time")
        region = regions.get(point.path)
        if reading is None or region is None:
            continue
        if not isinstance(reading.step_s, Spread):
            continue
        work = tuple(
            (part, kernels.launches(operator, part) or 0)
            for operator in region.operators
            for part in operator.parts
        )
        leaf = LAYER.sub("", point.path)
        if backend == "fused" and step.tokens > 1:
            work = _with_next_norm(leaf, work, costs.operators, step)
        yield Point(
            shape=number,
            leaf=leaf,
            operators=region.operators,
            launches=tuple(
                sum(int(kernels.launches(operator, part) or 0) for part in operator.parts)
                for operator in region.operators
            ),
            work=work,
            tokens=int(step.tokens),
            measured_s=reading.step_s.median,
        )


def _with_next_norm(
    leaf: str, work: tuple[tuple[Part, Number], ...], operators: Sequence[Operator], step: Step
) -> tuple[tuple[Part, Number], ...]:
    """The parts that a fused kernel does: the norm behind experts adds their results up."""
    if leaf == EXPERTS:
        return tuple(each for each in work if each[0].name != COMBINE)
    last = leaf == "final_norm" and step.logits == "last" and step.new_tokens > 1
    if leaf not in BEHIND_FFN or last:
        return work
    added = [
        (part, 0)
        for operator in operators
        for part in operator.parts
        if operator.leaf == EXPERTS and part.name == COMBINE
    ]
    return (*work, *added[:1])
