"""A calibration made ready: what a part of a given shape takes on the GPU that was measured.

A point is the time of an operation, launches included. The measured cost of its launches is taken
off first, since a part has launches of its own; at least `LEAST_SHARE` of the point is left.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from costmodel.costs.interpolate import Line, Sheet
from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, Shape, TopK
from costmodel.layers.numbers import Number, larger

if TYPE_CHECKING:  # reading one takes pydantic models that a prediction does not need
    from costmodel.recordings.calibration import Calibration, Point, Power

LEAST_SHARE = 0.05  # of a point, after its launches: noise must not make work free
DTYPE = "bf16"  # of all operands and caches that are measured


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """Measured times of one GPU by shape, in seconds without launches; arrays broadcast."""

    calibration: "Calibration"  # whose points these are
    graph_s: float  # of a launch within a CUDA graph
    eager_s: float  # of a launch by PyTorch
    power: "Power | None"
    power_limit_w: float | None
    moves: Line  # bytes
    gemms: Sheet  # n k, m
    groups: Sheet  # weights of all groups, rows of one
    rows: Sheet  # bytes of a row, reads
    decodes: Sheet  # sequences times KV heads, keys times head size
    prefills: Line  # multiply-adds of the scores
    choices: dict[float, Sheet]  # by log of `chosen`: width, rows

    @classmethod
    def of(cls, calibration: "Calibration") -> "Curves":
        """The curves through the points of a calibration."""
        graph_s = calibration.launch.graph_s

        def left(point: "Point") -> float:
            return max(point.s - point.kernels * graph_s, LEAST_SHARE * point.s)

        attention = calibration.attention
        by_chosen = {p.chosen for p in calibration.topk}
        return cls(
            calibration=calibration,
            graph_s=graph_s,
            eager_s=calibration.launch.eager_s,
            power=calibration.power,
            power_limit_w=calibration.machine.power_limit_w,
            moves=Line.through((p.bytes, left(p)) for p in calibration.move),
            gemms=Sheet.through((p.n * p.k, p.m, left(p)) for p in calibration.gemm),
            groups=Sheet.through(
                (p.groups * p.n * p.k, p.rows / p.groups, left(p)) for p in calibration.grouped
            ),
            rows=Sheet.through((p.row_bytes, p.reads, left(p)) for p in calibration.rows),
            decodes=Sheet.through(
                (p.batch * p.kv_heads, p.keys * p.head_dim, left(p))
                for p in attention
                if p.queries == 1
            ),
            prefills=Line.through(
                (float(multiply_adds(p.batch, p.heads, p.head_dim, p.queries, p.keys)), left(p))
                for p in attention
                if p.queries > 1
            ),
            choices={
                math.log(chosen): Sheet.through(
                    (p.width, p.rows, left(p)) for p in calibration.topk if p.chosen == chosen
                )
                for chosen in sorted(by_chosen)
            },
        )

    def move_s(self, moved_bytes: Number, kernels: int) -> Number:
        """Elementwise work of so many kernels, each of which moves its part of the bytes.

        Nothing takes no time.
        """
        if not isinstance(moved_bytes, np.ndarray):
            return kernels * self.moves.at(moved_bytes / kernels) if moved_bytes else 0.0
        nothing = moved_bytes == 0
        found = kernels * self.moves.at(np.where(nothing, 1, moved_bytes) / kernels)
        return np.where(nothing, 0.0, found)

    def shape_s(self, shape: Shape) -> Number:
        """One part of this shape."""
        if isinstance(shape, Gemm):
            return shape.calls * self.gemms.at(shape.n * shape.k, shape.m)
        if isinstance(shape, Grouped):
            touched = shape.groups * (shape.n * shape.k)
            return self.groups.at(touched, shape.rows / shape.groups)
        if isinstance(shape, Rows):
            return self.rows.at(shape.row_bytes, shape.reads)
        if isinstance(shape, TopK):
            wanted = math.log(shape.chosen)
            nearest = min(self.choices, key=lambda measured: abs(measured - wanted))
            return shape.calls * self.choices[nearest].at(shape.width, shape.rows)
        return self._attend_s(shape)

    def _attend_s(self, shape: Attend) -> Number:
        """Reading the keys as decode does; with several queries also the pairs, if that is longer.

        Leaves out: tiles beyond the window, which PyTorch's kernels compute and mask.
        """
        read = self.decodes.at(shape.batch * shape.kv_heads, shape.keys * shape.head_dim)
        t = shape.queries
        if not isinstance(t, np.ndarray) and t == 1:
            return read
        pairs = self.prefills.at(
            multiply_adds(shape.batch, shape.heads, shape.head_dim, t, shape.keys)
        )
        return larger(read, np.where(t > 1, pairs, 0.0) if isinstance(t, np.ndarray) else pairs)


def multiply_adds(
    batch: Number, heads: int, head_dim: float, queries: Number, keys: Number
) -> Number:
    """Multiply-adds of causal scores: B H d (T S + T (T + 1) / 2), S keys before T queries."""
    earlier = keys - queries
    # As floats: the largest prefill has more pairs than an int64 holds.
    t, s = (x.astype(float) if isinstance(x, np.ndarray) else x for x in (queries, earlier))
    return batch * heads * head_dim * (t * s + t * (t + 1) / 2)
