"""How unevenly experts and rows are loaded: the busiest GPU of a stage, copies of popular experts.

A step waits for the GPU with the most pairs of a token and an expert. Its operators' rows are so
many more than the mean's; the distinct experts that it reads are taken to be the mean's. Experts
stand on GPUs as a load balancer deals them out by popularity; under uniform routing any order is
the same. Tables divided over their width load all GPUs alike. Of those divided over their rows each
read falls on any GPU: with uniform routing the busiest has the largest of a multinomial; with
another it is not known here, and the mean stands for it.
"""

from dataclasses import replace

import numpy as np

from costmodel.layers.kernel_shape import Grouped, Rows
from costmodel.layers.mesh import Mesh
from costmodel.layers.moe import MoeFfn
from costmodel.layers.numbers import Number, larger
from costmodel.layers.operator import QUANTITIES, Operator, Part, Step
from costmodel.routing.axis import RoutingAxis
from costmodel.routing.by_population import routing_of
from costmodel.routing.max_load import expected_distinct_by_gpu, expected_max_load
from costmodel.routing.placement import Placement
from costmodel.routing.popularity import Uniform

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


def busiest_reads(operator: Operator, step: Step, mesh: Mesh) -> Number | None:
    """Expected row reads of the busiest GPU over the mean, of a table divided over its rows.

    None: the operator reads no such table, or rows are not equally popular. Of several routings
    (`RoutingAxis`) a load for each, 1 where it is not known.

    Args:
        operator: Of one GPU or of all.
        step: Of one group; every GPU reads for the tokens of all groups.
        mesh: Its tp x dp GPUs.
    """
    reads = [
        weight.active_rows or 0 for weight in operator.weights if weight.group == "memory_values"
    ]
    if not reads or mesh.tables != "rows" or mesh.of_stage == 1:
        return None
    if isinstance(step.routing, RoutingAxis):
        alone = [replace(step, routing=routing) for routing in step.routing.routings]
        loads = [busiest_reads(operator, one, mesh) for one in alone]
        tokens = np.ones(np.shape(step.tokens))
        return np.stack([tokens if load is None else load * tokens for load in loads])
    if not isinstance(routing_of(step.routing, "rows"), Uniform):
        return None
    gpus, trials = mesh.of_stage, step.tokens * mesh.dp * reads[0]
    most = expected_max_load(Uniform(), gpus, 1, trials, Placement(gpus=gpus))
    return larger(most / (trials / gpus), 1.0)


def with_busiest_load(operator: Operator, step: Step, mesh: Mesh) -> Operator:
    """The experts or rows of the busiest GPU: more work on as many weights. Others as they are."""
    load: Number | None = None
    if _has_experts(operator) and mesh.ep > 1:
        assert isinstance(operator.layer_kind, MoeFfn)
        load = busiest_load(operator.layer_kind, step, mesh)
    else:
        load = busiest_reads(operator, step, mesh)
    if load is None:
        return operator
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
    elif isinstance(shape, Rows):
        shape = replace(shape, reads=shape.reads * load)
    return replace(part, shape=shape, **changed)  # type: ignore[arg-type]  # quantities are numbers


def _with_weights(part: Part, more: Number) -> Part:
    shape = part.shape
    if isinstance(shape, Grouped):
        shape = replace(shape, groups=shape.groups * more)
    return replace(part, shape=shape, weight_bytes=part.weight_bytes * more)
