"""How unevenly experts are loaded: the busiest GPU of a stage, and copies of popular experts.

A step waits for the GPU with the most pairs of a token and an expert. Its operators' rows are so
many more than the mean's; the distinct experts that it reads are taken to be the mean's. Experts
stand on GPUs as a load balancer deals them out by popularity; under uniform routing any order is
the same. Tables divided over their width load all GPUs alike; those divided over their rows do so
nearly, as a step reads very many.
"""

from dataclasses import replace

import numpy as np

from costmodel.layers.kernel_shape import Grouped
from costmodel.layers.mesh import Mesh
from costmodel.layers.moe import MoeFfn
from costmodel.layers.numbers import Number, larger
from costmodel.layers.operator import QUANTITIES, Operator, Part, Step
from costmodel.routing.max_load import expected_distinct_by_gpu, expected_max_load
from costmodel.routing.placement import Placement

NOTHING = 0
OF_WEIGHTS = "weight_bytes"  # the rows of experts' products change nothing in it


def busiest_load(moe: MoeFfn, step: Step, mesh: Mesh) -> Number:
    """Expected pairs of the busiest set of experts over those of the mean set, at least 1.

    Args:
        moe: Its E experts.
        step: Of one group; all groups' tokens meet at the experts.
        mesh: Its `ep` sets of experts.
    """
    if mesh.ep == 1:
        return 1.0
    tokens, draws = step.tokens * mesh.dp, _draws(moe)
    most = expected_max_load(step.routing, moe.num_experts, draws, tokens, _placement(mesh))
    return larger(most / (tokens * draws / mesh.ep), 1.0)


def with_busiest_load(operator: Operator, step: Step, mesh: Mesh) -> Operator:
    """The experts of the busiest GPU: more rows for the same weights. Others as they are."""
    if mesh.ep == 1 or not isinstance(operator.layer_kind, MoeFfn) or not _has_experts(operator):
        return operator
    load = busiest_load(operator.layer_kind, step, mesh)
    return replace(operator, parts=tuple(_with_rows(part, load) for part in operator.parts))


def with_copies(operator: Operator, step: Step, mesh: Mesh) -> Operator:
    """The experts of one GPU with its share of the copies of popular ones.

    A copy takes room, and is read where a token takes it; tokens are divided among copies.

    Args:
        operator: Of one GPU, without copies.
        step: Of one group.
        mesh: Its copies.

    Raises:
        InputError: Experts and copies do not divide over the sets.
    """
    moe = operator.layer_kind
    if not mesh.redundant_experts or operator.touched is None:
        return operator
    assert isinstance(moe, MoeFfn)
    placement, touched = _placement(mesh), operator.touched
    slots = placement.slots_per_gpu(moe.num_experts)
    distinct = expected_distinct_by_gpu(
        step.routing, moe.num_experts, _draws(moe), step.tokens * mesh.dp, placement
    ).mean(axis=-1)
    if not isinstance(step.tokens, np.ndarray):
        distinct = distinct.item()
    more = distinct / touched.distinct
    return replace(
        operator,
        parts=tuple(_with_weights(part, more) for part in operator.parts),
        weights=tuple(
            replace(weight, rows=weight.rows * mesh.ep // moe.num_experts * slots)
            for weight in operator.weights
        ),
        touched=replace(touched, distinct=distinct, population=slots),
    )


def _placement(mesh: Mesh) -> Placement:
    return Placement(gpus=mesh.ep, redundant=mesh.redundant_experts, order="spread")


def _draws(moe: MoeFfn) -> int:
    """Experts that compute something for a token, of which GPUs have weights: at least one."""
    return max(1, moe.active)


def _has_experts(operator: Operator) -> bool:
    return any(weight.group == "experts" for weight in operator.weights)


def _with_rows(part: Part, load: Number) -> Part:
    changed: dict[str, Number] = {
        name: value * load
        for name in QUANTITIES
        if name != OF_WEIGHTS and (value := getattr(part, name)) is not NOTHING
    }
    shape = part.shape
    if isinstance(shape, Grouped):
        shape = replace(shape, rows=shape.rows * load)
    return replace(part, shape=shape, **changed)  # type: ignore[arg-type]  # quantities are numbers


def _with_weights(part: Part, more: Number) -> Part:
    shape = part.shape
    if isinstance(shape, Grouped):
        shape = replace(shape, groups=shape.groups * more)
    return replace(part, shape=shape, weight_bytes=part.weight_bytes * more)
