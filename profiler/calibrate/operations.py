"""The operations that a calibration times: calls of the reference models, on random operands.

Weights, table rows, keys, values, and the inputs of elementwise and selecting operations come in
`sets`, so that copies of an operation can run on different operands. The input of a product and the
queries of an attention are shared by all copies, since a model writes them a moment before.
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
BAG = 32  # rows of one weighted sum
TABLE_BYTES = 2**33  # of the table of rows: so large that random rows miss L2 and the TLBs
FILL_ELEMENTS = 2**28  # drawn at once, so that no temporary is as large as the tensor

Call: TypeAlias = Callable[[], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The time of an operation in seconds (median and quartiles), and its kernels."""

    s: float
    q1_s: float
    q3_s: float
    kernels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(ABC):
    """One point of a curve, not yet measured; its fields are the shape in `point_type`."""

    point_type: ClassVar[type[Point]]

    @property
    @abstractmethod
    def operand_bytes(self) -> int:
        """Bytes of one set of operands."""

    @abstractmethod
    def calls(self, sets: int, device: torch.device) -> list[Call]:
        """Allocate `sets` sets of random operands, and return a call of the operation on each."""

    def point(self, timing: Timing) -> Point:
        """The measured point."""
        return self.point_type(**asdict(self), **asdict(timing))

    def __str__(self) -> str:
        """The shape in words."""
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items())


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOperation(Operation):
    """y = 2 x, which reads one half of `bytes` and writes the other."""

    point_type = MovePoint
    bytes: int

    @property
    def operand_bytes(self) -> int:
        """Bytes of input and output."""
        return self.bytes

    def calls(self, sets: int, device: torch.device) -> list[Call]:
        """Calls with an input and output each."""
        elements = self.bytes // 2 // ELEMENT_BYTES

        def call_on_new_set() -> Call:
            x, y = (
                normal(elements, device=device),
                torch.empty(elements, device=device, dtype=DTYPE),
            )
            return lambda: torch.mul(x, 2, out=y)

        return [call_on_new_set() for _ in range(sets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmOperation(Operation):
    """x [m, k] times a weight [n, k]."""

    point_type = GemmPoint
    m: int
    n: int
    k: int

    @property
    def operand_bytes(self) -> int:
        """Bytes of the weight."""
        return self.n * self.k * ELEMENT_BYTES

    def calls(self, sets: int, device: torch.device) -> list[Call]:
        """Calls with a weight each."""
        x = normal(self.m, self.k, device=device)

        def call_on_new_set() -> Call:
            weight = normal(self.n, self.k, device=device)
            return lambda: nn.functional.linear(x, weight)

        return [call_on_new_set() for _ in range(sets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedOperation(Operation):
    """`rows` rows [k] times `groups` weights [n, k], the same number of rows for each weight."""

    point_type = GroupedPoint
    groups: int
    rows: int
    n: int
    k: int

    @property
    def operand_bytes(self) -> int:
        """Bytes of all weights."""
        return self.groups * self.n * self.k * ELEMENT_BYTES

    def calls(self, sets: int, device: torch.device) -> list[Call]:
        """Calls with weights each."""
        group_rows = self.rows // self.groups
        x = normal(self.rows, self.k, device=device)
        ends = torch.arange(group_rows, self.rows + 1, group_rows, device=device, dtype=torch.int32)

        def call_on_new_set() -> Call:
            weight = normal(self.groups, self.n, self.k, device=device)
            return lambda: grouped_mm(x, weight, ends)

        return [call_on_new_set() for _ in range(sets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsOperation(Operation):
    """Weighted sums of `reads` random rows of a table, `BAG` rows in each sum."""

    point_type = RowsPoint
    reads: int
    row_bytes: int

    @property
    def operand_bytes(self) -> int:
        """Bytes of the rows read, of their indices and of their weights."""
        return self.reads * (self.row_bytes + INDEX_BYTES + ELEMENT_BYTES)

    def calls(self, sets: int, device: torch.device) -> list[Call]:
        """Calls with indices and weights each, on one table that is far larger than L2."""
        width = self.row_bytes // ELEMENT_BYTES
        table = normal(TABLE_BYTES // self.row_bytes, width, device=device)
        bags = (self.reads // BAG, BAG)

        def call_on_new_set() -> Call:
            indices = torch.randint(table.shape[0], bags, device=device)
            weights = normal(*bags, device=device)
            return lambda: nn.functional.embedding_bag(
                indices, table, per_sample_weights=weights, mode="sum"
            )

        return [call_on_new_set() for _ in range(sets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionOperation(Operation):
    """`queries` new tokens over `keys` tokens: one (decode), or all `keys` (causal prefill)."""

    point_type = AttentionPoint
    batch: int
    heads: int
    kv_heads: int
    head_dim: int
    queries: int
    keys: int

    @property
    def operand_bytes(self) -> int:
        """Bytes of keys and values."""
        return 2 * self.batch * self.kv_heads * self.keys * self.head_dim * ELEMENT_BYTES

    def calls(self, sets: int, device: torch.device) -> list[Call]:
        """Calls with keys and values each, in the memory layout of the reference model's cache."""
        b, d = self.batch, self.head_dim
        q = normal(b, self.queries, self.heads, d, device=device).transpose(1, 2)

        def call_on_new_set() -> Call:
            k = normal(b, self.kv_heads, self.keys, d, device=device)
            v = normal(b, self.kv_heads, self.keys, d, device=device)
            return lambda: attend(q, k, v, scale=d**-0.5)

        return [call_on_new_set() for _ in range(sets)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopKOperation(Operation):
    """The `chosen` largest of `width` values in each of `rows` rows, sorted."""

    point_type = TopKPoint
    rows: int
    width: int
    chosen: int

    @property
    def operand_bytes(self) -> int:
        """Bytes of the values."""
        return self.rows * self.width * ELEMENT_BYTES

    def calls(self, sets: int, device: torch.device) -> list[Call]:
        """Calls with values each."""

        def call_on_new_set() -> Call:
            scores = normal(self.rows, self.width, device=device)
            return lambda: scores.topk(self.chosen, dim=-1).indices

        return [call_on_new_set() for _ in range(sets)]


def normal(*shape: int, device: torch.device) -> Tensor:
    """A random bf16 tensor: zeros would run faster and draw less power."""
    tensor = torch.empty(*shape, device=device, dtype=DTYPE)
    for piece in tensor.view(-1).split(FILL_ELEMENTS):
        piece.normal_()
    return tensor
