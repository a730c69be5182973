"""What memory layers of a fused step chose, against an exact choice by the kernels' own scores."""

import torch

from reference_model.fused.memory import MemoryPlan
from reference_model.fused.step import FusedStep
from reference_model.kernels import memory_oracles as oracles
from reference_model.leaf import NORM_EPS


def check_own_choice(step: FusedStep) -> None:
    """Of each shape the layer that ran last: layers share the buffers of their scores."""
    latest = {memory.parts.sizes: memory for memory in sorted(step.memories, key=place)}
    assert latest, "no layer has a memory"
    for memory in latest.values():
        check(memory)


def place(memory: MemoryPlan) -> int:
    return int(memory.prefix.split(".")[1])


def check(memory: MemoryPlan) -> None:
    """Lines, columns and rows of one layer: the best, in order, and all different."""
    sizes, weights, buffers = memory.parts.sizes, memory.parts.weights, memory.buffers
    factors = oracles.norm_factors(memory.projected, sizes, NORM_EPS)
    merged = oracles.merged(buffers.scores, weights.merge, factors)
    assert torch.equal(buffers.places.long(), oracles.best(merged, sizes.kept))
    points = oracles.best(oracles.grid(buffers.sides, weights.cores), sizes.reads)
    rows = oracles.rows_at(points, buffers.places, sizes, weights.permutation)
    assert torch.equal(buffers.rows.long(), rows)
    assert torch.equal(buffers.selected.long(), rows // sizes.expansion)
    for head in rows.view(-1, sizes.reads).tolist():
        assert len(set(head)) == sizes.reads
