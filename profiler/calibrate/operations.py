"""The operations of a calibration: what each does to random operands, as the reference models do.

Every operation is one call that a reference model makes. Weights, table rows, keys, values and the
inputs of the elementwise and selecting operations come in `sets`, so that copies of the operation
can run on operands of their own; the input of a product and the queries of an attention, which in a
model were written a moment before, are shared by all copies.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from costmodel.recordings.calibration import (
    AttentionPoint,
    GemmPoint,
    GroupedPoint,
    MovePoint,
    Point,
    RowsPoint,
    TopKPoint,
)
from reference_model.moe import grouped_mm
from reference_model.sdpa import attend

DTYPE = torch.bfloat16
ELEMENT_BYTES = 2
INDEX_BYTES = 8
BAG = 32  # rows a bag
TABLE_BYTES = 2**33  # of the table that rows are read from: random rows miss L2 and its TLBs
FILL_ELEMENTS = 2**28  # drawn at once, so that no temporary is as large as the tensor

Run: TypeAlias = Callable[[], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What a point of a curve takes: seconds (median and quartiles) and kernels."""

    s: float
    q1_s: float
    q3_s: float
    kernels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(ABC):
    """One point of a curve. Its fields are those of the point's shape."""

    point_type: ClassVar[type[Point]]

    @property
    @abstractmethod
    def operand_bytes(self) -> int:
        """Bytes of one set of operands."""

    @abstractmethod
    def runs(self, sets: int, device: torch.device) -> list[Run]:
        """The operation on each of `sets` sets of random operands; results are returned."""

    def point(self, timing: Timing) -> Point:
        """The point, measured."""
        return self.point_type(**asdict(self), **asdict(timing))

    def __str__(self) -> str:
        """The shape, for messages."""
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Move(Operation):
    """y = 2 x, half of `bytes` read and half written."""

    point_type = MovePoint
    bytes: int

    @property
    def operand_bytes(self) -> int:
        """Input and output."""
        return self.bytes

    def runs(self, sets: int, device: torch.device) -> list[Run]:
        """Input and output change."""
        elements = self.bytes // 2 // ELEMENT_BYTES

        def one() -> Run:
            x, y = (
                normal(elements, device=device),
                torch.empty(elements, device=device, dtype=DTYPE),
            )
            return lambda: torch.mul(x, 2, out=y)

        return [one() for _ in range(sets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm(Operation):
    """x [m, k] times a weight [n, k]."""

    point_type = GemmPoint
    m: int
    n: int
    k: int

    @property
    def operand_bytes(self) -> int:
        """The weight."""
        return self.n * self.k * ELEMENT_BYTES

    def runs(self, sets: int, device: torch.device) -> list[Run]:
        """The weight changes."""
        x = normal(self.m, self.k, device=device)

        def one() -> Run:
            weight = normal(self.n, self.k, device=device)
            return lambda: nn.functional.linear(x, weight)

        return [one() for _ in range(sets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouped(Operation):
    """`rows` rows [k], as many for each of `groups` weights [n, k]."""

    point_type = GroupedPoint
    groups: int
    rows: int
    n: int
    k: int

    @property
    def operand_bytes(self) -> int:
        """The weights."""
        return self.groups * self.n * self.k * ELEMENT_BYTES

    def runs(self, sets: int, device: torch.device) -> list[Run]:
        """The weights change."""
        each = self.rows // self.groups
        x = normal(self.rows, self.k, device=device)
        ends = torch.arange(each, self.rows + 1, each, device=device, dtype=torch.int32)

        def one() -> Run:
            weight = normal(self.groups, self.n, self.k, device=device)
            return lambda: grouped_mm(x, weight, ends)

        return [one() for _ in range(sets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows(Operation):
    """Weighted sums of `reads` random rows of a table, `BAG` rows each."""

    point_type = RowsPoint
    reads: int
    row_bytes: int

    @property
    def operand_bytes(self) -> int:
        """The rows read, their indices and their weights."""
        return self.reads * (self.row_bytes + INDEX_BYTES + ELEMENT_BYTES)

    def runs(self, sets: int, device: torch.device) -> list[Run]:
        """The indices and weights change; the table is far larger than what all sets read in L2."""
        width = self.row_bytes // ELEMENT_BYTES
        table = normal(TABLE_BYTES // self.row_bytes, width, device=device)
        bags = (self.reads // BAG, BAG)

        def one() -> Run:
            indices = torch.randint(table.shape[0], bags, device=device)
            weights = normal(*bags, device=device)
            return lambda: nn.functional.embedding_bag(
                indices, table, per_sample_weights=weights, mode="sum"
            )

        return [one() for _ in range(sets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Operation):
    """`queries` new tokens over `keys` cached ones: one (decode), or as many (prefill, causal)."""

    point_type = AttentionPoint
    batch: int
    heads: int
    kv_heads: int
    head_dim: int
    queries: int
    keys: int

    @property
    def operand_bytes(self) -> int:
        """Keys and values."""
        return 2 * self.batch * self.kv_heads * self.keys * self.head_dim * ELEMENT_BYTES

    def runs(self, sets: int, device: torch.device) -> list[Run]:
        """Keys and values change; strides are those of the reference model's full cache."""
        b, d = self.batch, self.head_dim
        q = normal(b, self.queries, self.heads, d, device=device).transpose(1, 2)

        def one() -> Run:
            k = normal(b, self.kv_heads, self.keys, d, device=device)
            v = normal(b, self.kv_heads, self.keys, d, device=device)
            return lambda: attend(q, k, v, scale=d**-0.5)

        return [one() for _ in range(sets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK(Operation):
    """The `chosen` largest of `width` values in each of `rows` rows, sorted."""

    point_type = TopKPoint
    rows: int
    width: int
    chosen: int

    @property
    def operand_bytes(self) -> int:
        """The values."""
        return self.rows * self.width * ELEMENT_BYTES

    def runs(self, sets: int, device: torch.device) -> list[Run]:
        """The values change."""

        def one() -> Run:
            scores = normal(self.rows, self.width, device=device)
            return lambda: scores.topk(self.chosen, dim=-1).indices

        return [one() for _ in range(sets)]


def normal(*shape: int, device: torch.device) -> Tensor:
    """Random bf16: zeros would run faster and cooler."""
    made = torch.empty(*shape, device=device, dtype=DTYPE)
    for piece in made.view(-1).split(FILL_ELEMENTS):
        piece.normal_()
    return made
