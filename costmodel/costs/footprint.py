"""The memory that a step needs on a GPU, whether it fits, and the largest batch that does."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from costmodel.costs.placement import FAR, stored_in
from costmodel.costs.totals import KvCache
from costmodel.layers.numbers import Number, larger
from costmodel.layers.operator import Operator, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Bytes resident on the GPU during a step, and the capacity of the GPU."""

    weights_bytes: int  # all experts and all table rows, but those of tables outside HBM
    buffers_bytes: int  # permutations and other tensors that are not learnt
    kv_bytes: Number  # KV cache after the step
    state_bytes: Number  # of recurrent layers
    towers_bytes: int  # of a multimodal model; no step reads them
    activations_bytes: Number
    total_bytes: Number
    capacity_bytes: Number  # of the GPU, as its driver reports it
    fits: bool | np.ndarray
    hot_rows_bytes: int = 0  # a cache of rows of tables outside HBM
    max_batch: Number  # the most sequences of this context that fit; 0 if not one does

    @property
    def kv_room_bytes(self) -> Number:
        """What the KV cache and states of sequences can have: the capacity but all that is fixed.

        Fixed are weights, buffers, towers and a cache of hot rows. Leaves out: activations, which
        depend on the batch; and what `total_bytes` leaves out.
        """
        fixed = self.weights_bytes + self.buffers_bytes + self.towers_bytes + self.hot_rows_bytes
        return larger(self.capacity_bytes - fixed, 0)

    def kv_room_tokens(self, kv: KvCache) -> Number | None:
        """How many cached tokens, of all sequences together, the room holds; None: no KV cache."""
        return self.kv_room_bytes // kv.bytes_per_token if kv.bytes_per_token else None


def footprint(
    operators: Iterable[Operator],
    step: Step,
    kv: KvCache,
    stream_width: int,
    capacity_bytes: Number,
    *,
    towers_bytes: int = 0,
) -> Footprint:
    """The bytes resident during a step, and the largest batch that fits.

    Weights, buffers, towers and cache count as stored; of tables outside HBM, a cache of their most
    popular rows, where the step has one, and no larger than they are. Activations: two copies of
    the residual stream (2 N D, or 2 N A D), and the tensors of the operator that has the most:
    those that it reads and writes, and those between its parts, each written and read once, so that
    they are half of the bytes that move. Fused kernels would need less: this is an upper estimate.
    Leaves out: the CUDA context, allocator fragmentation and workspaces of libraries.

    Args:
        operators: Of the step.
        step: B sequences of T new tokens, N = B T.
        kv: What the model keeps of its sequences.
        stream_width: D, or A D of a model with A streams.
        capacity_bytes: Of the GPU.
        towers_bytes: Of the towers that are resident beside the text model; a reference model, and
            so a recording, has none.
    """
    operators = tuple(operators)
    weights, buffers = stored_bytes(operators, step)
    hot_rows = hot_rows_bytes(operators, step)
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
    stream = 2 * step.tokens * stream_width * step.activation_bytes
    activations = stream + (doubled + 1) // 2
    kept = kv.stored_bytes + kv.state_bytes
    fixed = weights + buffers + towers_bytes + hot_rows
    total = fixed + kept + activations
    # All else is linear in B, so the largest batch follows by division.
    doubled_per_sequence = (2 * (kept + stream) + doubled) // step.batch
    room = capacity_bytes - fixed
    return Footprint(
        weights_bytes=weights,
        buffers_bytes=buffers,
        kv_bytes=kv.stored_bytes,
        state_bytes=kv.state_bytes,
        towers_bytes=towers_bytes,
        hot_rows_bytes=hot_rows,
        activations_bytes=activations,
        total_bytes=total,
        capacity_bytes=capacity_bytes,
        fits=total <= capacity_bytes,
        max_batch=larger(2 * room // doubled_per_sequence, 0),
    )


def stored_bytes(operators: Iterable[Operator], step: Step) -> tuple[int, int]:
    """Bytes in HBM of all weights, a shared one once, and of all buffers, whatever the batch."""
    operators = tuple(operators)
    weights = stored_in(operators, step, "hbm")
    buffers = sum(
        buffer.elements * buffer.element_bytes * op.count
        for op in operators
        for buffer in op.buffers
    )
    return weights, buffers


def hot_rows_bytes(operators: Iterable[Operator], step: Step) -> int:
    """Bytes of the cache of rows of tables outside HBM: as asked for, at most all of them."""
    asked = step.placement.hot_rows_bytes
    if not asked:
        return 0
    operators = tuple(operators)
    return min(asked, sum(stored_in(operators, step, place) for place in FAR))
