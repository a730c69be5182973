"""Times of single parts, interpolated between the measured points of a calibration.

A calibration holds points: an operation of some shape (a GEMM of m x n x k, a gather of so many
rows, ...) and the time that it took, launches included. Here the points of each kind become a curve
over the shape, from which a part of any shape gets its time. The measured cost of the launches is
taken off each point first, since a backend states its own number of launches; at least
`LEAST_SHARE` of the point is left.

Attention never takes less time for more keys. Some measured points do (PyTorch splits the keys
among more blocks beyond a length, which is faster there): such neighbours share their geometric
mean, so that a longer context never looks cheaper.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from costmodel.costs.energy_fit import EnergyCoefficients, fitted
from costmodel.costs.interpolate import Line, Sheet
from costmodel.costs.leaf_times import LeafTimes
from costmodel.costs.link_times import LinkTimes, link_times
from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, Shape, TopK
from costmodel.layers.numbers import Number, larger
from costmodel.layers.operator import Part

if TYPE_CHECKING:  # reading one takes pydantic models that a prediction does not need
    from costmodel.recordings.calibration import Calibration, Point, Power

LEAVES = ".leaves"  # ends the names of calibrations with fitted leaf times
LEAST_SHARE = 0.05  # of a point, after its launches: noise must not make work free
LEAST_ROWS = 1e-9  # of an expectation that is divided by
DTYPE = "bf16"  # of all operands and caches in a calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """That times were not measured here, but scaled from those of another GPU or format."""

    source: str  # the GPU that was measured, as its calibration names it
    gpu: bool  # another GPU than this one
    formats: bool  # other formats than bf16
    spread: float  # standard deviation of ln(time), besides that of the leaves

    @property
    def lacking(self) -> str:
        """Where it was not measured, in words."""
        return " and ".join(["on this GPU"] * self.gpu + ["in these formats"] * self.formats)

    @property
    def label(self) -> str:
        """What stands beside every such time."""
        return f"transferred from {self.source}: not measured {self.lacking}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """Times of one GPU's kernels by shape, in seconds without launches; shapes may hold arrays.

    A `Line` is a time over one quantity, a `Sheet` over two: those that the comments name.
    """

    calibration: "Calibration"  # the measured points
    graph_s: float  # of a launch within a CUDA graph
    eager_s: float  # of a launch by PyTorch, on the host
    power: "Power | None"
    power_limit_w: float | None
    energy: EnergyCoefficients | None  # None: the calibration holds no steady loops
    moves: Line  # elementwise kernels: bytes moved
    gemms: Sheet  # weight elements n k; rows m
    groups: Sheet  # grouped GEMMs: weight elements of all groups; rows of one group
    rows: Sheet  # gathers of table rows: bytes of a row; rows read
    decodes: Sheet  # attention of one query: sequences x KV heads; keys x head size
    prefills: Line  # attention of many queries: multiply-adds of the scores
    choices: dict[float, Sheet]  # top-k, by log k: width; rows
    leaves: Mapping[str, LeafTimes] = field(default_factory=dict)  # fitted, by backend
    leaves_measured: str = ""  # when the last of them were
    foreign: bool = False  # measured on another GPU: times are transferred from it
    transfer: Transfer | None = None  # of times scaled to another GPU or format

    @classmethod
    def of(cls, calibration: "Calibration") -> "Curves":
        """The curves through the points of a calibration."""
        graph_s = calibration.launch.graph_s

        def work_s(point: "Point") -> float:
            return max(point.s - point.kernels * graph_s, LEAST_SHARE * point.s)

        attention = calibration.attention
        measured_k = {p.chosen for p in calibration.topk}
        return cls(
            calibration=calibration,
            graph_s=graph_s,
            eager_s=calibration.launch.eager_s,
            power=calibration.power,
            power_limit_w=calibration.machine.power_limit_w,
            energy=fitted(calibration.loops) if calibration.loops else None,
            moves=Line.through((p.bytes, work_s(p)) for p in calibration.move),
            gemms=Sheet.through((p.n * p.k, p.m, work_s(p)) for p in calibration.gemm),
            groups=Sheet.through(
                (p.groups * p.n * p.k, p.rows / p.groups, work_s(p)) for p in calibration.grouped
            ),
            rows=Sheet.through((p.row_bytes, p.reads, work_s(p)) for p in calibration.rows),
            decodes=Sheet.through(
                (
                    (p.batch * p.kv_heads, p.keys * p.head_dim, work_s(p))
                    for p in attention
                    if p.queries == 1
                ),
                rising=True,
            ),
            prefills=Line.through(
                (
                    (
                        float(multiply_adds(p.batch, p.heads, p.head_dim, p.queries, p.keys)),
                        work_s(p),
                    )
                    for p in attention
                    if p.queries > 1
                ),
                rising=True,
            ),
            choices={
                math.log(chosen): Sheet.through(
                    (p.width, p.rows, work_s(p)) for p in calibration.topk if p.chosen == chosen
                )
                for chosen in sorted(measured_k)
            },
        )

    @property
    def name(self) -> str:
        """As `--calibration` takes it."""
        return f"{self.calibration.name}{LEAVES if self.leaves else ''}"

    @property
    def measured(self) -> str:
        """When its times were measured, in ISO form; with leaves, the last of them."""
        return self.leaves_measured or self.calibration.conditions.started

    @property
    def link(self) -> LinkTimes | None:
        """Measured gathers of this GPU from host memory; None: there are none."""
        return None if self.foreign else link_times(self.calibration.hardware)

    def fetch_s(self, part: Part) -> Number:
        """Seconds in which a kernel fetches a part's rows from host memory, its launch included."""
        link = self.link
        assert link is not None, "`fetches.unpriced` comes first"
        width = part.fetched_bytes / larger(part.fetched_rows, LEAST_ROWS)
        return link.gather_s(part.fetched_rows, width, part.reach_bytes)

    def move_s(self, moved_bytes: Number, kernels: int) -> Number:
        """Seconds of elementwise kernels that move these bytes, read and written, in equal parts.

        No bytes take no time.
        """
        if not isinstance(moved_bytes, np.ndarray):
            return kernels * self.moves.at(moved_bytes / kernels) if moved_bytes else 0.0
        nothing = moved_bytes == 0
        seconds = kernels * self.moves.at(np.where(nothing, 1, moved_bytes) / kernels)
        return np.where(nothing, 0.0, seconds)

    def shape_s(self, shape: Shape) -> Number:
        """Seconds of one part of this shape.

        Top-k is measured at a few k: the one nearest in log k gives the time.
        """
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
        """Seconds of the attention core.

        One query: reading keys and values, as measured in decode. Several queries: that, or the
        multiply-adds of their scores as measured in prefill, whichever is longer.
        Leaves out: tiles beyond a window, which PyTorch's kernels compute and mask.
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
    """Multiply-adds of causal attention scores: B H d (T S + T (T + 1) / 2).

    T queries attend to S keys before them, and each to itself and the queries before it.

    Args:
        batch: B.
        heads: H.
        head_dim: d.
        queries: T.
        keys: S + T.
    """
    earlier = keys - queries
    # As floats: the largest prefill has more pairs than an int64 holds.
    t, s = (x.astype(float) if isinstance(x, np.ndarray) else x for x in (queries, earlier))
    return batch * heads * head_dim * (t * s + t * (t + 1) / 2)
