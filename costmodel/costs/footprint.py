"""What must be resident on the GPU, whether it fits, and the largest batch that does."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from costmodel.costs.totals import KvCache, stored_weights
from costmodel.layers.numbers import Number, larger
from costmodel.layers.operator import Operator, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes resident during a step, against the GPU's capacity."""

    weights_bytes: int
    buffers_bytes: int
    kv_bytes: Number
    state_bytes: Number  # fixed states of sequences
    activations_bytes: Number
    total_bytes: Number
    capacity_bytes: Number
    fits: bool | np.ndarray
    max_batch: Number  # of sequences with this context; 0 if not one fits


def footprint(
    operators: Iterable[Operator], step: Step, kv: KvCache, hidden_size: int, capacity_bytes: Number
) -> Footprint:
    """Weights, buffers and cache as stored, and the activations alive at the widest operator.

    Activations: two copies of the residual stream (2 N D), and the largest operator's tensors: what
    crosses its border, and half of what crosses between its parts (each such tensor is written
    once and read once, and moves twice its size). Without fused kernels, so an upper estimate.
    Leaves out: the CUDA context, allocator fragmentation and library workspaces.
    """
    operators = tuple(operators)
    weights, buffers = stored_bytes(operators, step)
    doubled: Number = 0  # twice the widest operator's bytes, which is a whole number
    for operator in operators:
        border: Number = 0
        io: Number = 0
        inner: Number = 0
        for part in operator.parts:
            border = border + part.activation_bytes
            io = io + part.io_bytes
            inner = inner + part.intermediate_bytes
        doubled = larger(doubled, 2 * (border + io) + inner)
    stream = 2 * step.tokens * hidden_size * step.activation_bytes
    activations = stream + (doubled + 1) // 2
    kept = kv.stored_bytes + kv.state_bytes
    total = weights + buffers + kept + activations
    # All but weights and buffers is linear in B, so the largest batch follows by division.
    doubled_per_sequence = (2 * (kept + stream) + doubled) // step.batch
    room = capacity_bytes - weights - buffers
    return Footprint(
        weights_bytes=weights,
        buffers_bytes=buffers,
        kv_bytes=kv.stored_bytes,
        state_bytes=kv.state_bytes,
        activations_bytes=activations,
        total_bytes=total,
        capacity_bytes=capacity_bytes,
        fits=total <= capacity_bytes,
        max_batch=larger(2 * room // doubled_per_sequence, 0),
    )


def stored_bytes(operators: Iterable[Operator], step: Step) -> tuple[int, int]:
    """Weights, a shared one once, and buffers: the bytes that no workload changes."""
    operators = tuple(operators)
    weights = sum(w.stored_bytes(step) * copies for w, copies in stored_weights(operators))
    buffers = sum(
        buffer.elements * buffer.element_bytes * op.count
        for op in operators
        for buffer in op.buffers
    )
    return weights, buffers
