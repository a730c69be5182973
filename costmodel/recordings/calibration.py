"""A calibration: what one GPU's launches, matrix products, gathers and choices took, measured.

Every point is the time of one operation within a CUDA graph over operands that are not in L2
(median and quartiles), its launches included; `kernels` says how many. Shapes are a grid of their
own, never those of the models that are validated.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import shown
from costmodel.inputs.files import read_json_object
from costmodel.recordings.machine import Commit, Conditions, Label, Machine
from costmodel.strict import STRICT, validated

Size: TypeAlias = Annotated[int, Field(ge=1, le=2**50)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, le=1e4)]
Watts: TypeAlias = Annotated[float, Field(gt=0, le=1e5)]
Rate: TypeAlias = Annotated[float, Field(gt=0, le=1e18)]
MAX_POINTS = 4096


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Launch:
    """What one more kernel costs when it has nothing to do."""

    graph_s: Seconds  # a node of a CUDA graph
    eager_s: Seconds  # of ordinary PyTorch calls, the host being the bottleneck


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Point:
    """The time of one operation, and the kernels it took."""

    s: Seconds  # median
    q1_s: Seconds
    q3_s: Seconds
    kernels: Annotated[int, Field(ge=1, le=64)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class MovePoint(Point):
    """An elementwise operation (y = 2 x) that reads and writes `bytes` in all."""

    bytes: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class GemmPoint(Point):
    """x [m, k] times a weight [n, k] in bf16."""

    m: Size
    n: Size
    k: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class GroupedPoint(Point):
    """`rows` rows, spread evenly over `groups` weights [n, k], in bf16."""

    groups: Size
    rows: Size
    n: Size
    k: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RowsPoint(Point):
    """Weighted sums of `reads` random rows of `row_bytes` in all, 32 rows a bag (embedding_bag)."""

    reads: Size
    row_bytes: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class AttentionPoint(Point):
    """`queries` new tokens a sequence over `keys` cached ones, themselves among them, causal."""

    batch: Size
    heads: Size
    kv_heads: Size
    head_dim: Size
    queries: Size
    keys: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TopKPoint(Point):
    """torch.topk of `chosen` of `width` values, for each of `rows` rows."""

    rows: Size
    width: Size
    chosen: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Power:
    """Mean power of steady loops, and what the loops did."""

    idle_w: Watts
    copy_w: Watts
    copy_bytes_per_s: Rate  # read and written
    gemm_w: Watts
    gemm_flops_per_s: Rate

    def __post_init__(self) -> None:
        """Work costs energy."""
        for name, watts in (("copy_w", self.copy_w), ("gemm_w", self.gemm_w)):
            if watts <= self.idle_w:
                raise ValueError(f"{name}={watts}: does not exceed idle_w={self.idle_w}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Calibration:
    """One GPU's ceilings and operator curves. Times are of bf16 operands."""

    schema_version: Literal[1]
    name: Label
    hardware: Label  # the hardware preset it speaks for, such as h200
    machine: Machine
    conditions: Conditions
    sparsecost_version: Label
    commit: Commit | None
    launch: Launch
    move: Annotated[tuple[MovePoint, ...], Field(min_length=2, max_length=MAX_POINTS)]
    gemm: Annotated[tuple[GemmPoint, ...], Field(min_length=2, max_length=MAX_POINTS)]
    grouped: Annotated[tuple[GroupedPoint, ...], Field(min_length=2, max_length=MAX_POINTS)]
    rows: Annotated[tuple[RowsPoint, ...], Field(min_length=2, max_length=MAX_POINTS)]
    attention: Annotated[tuple[AttentionPoint, ...], Field(min_length=2, max_length=MAX_POINTS)]
    topk: Annotated[tuple[TopKPoint, ...], Field(min_length=2, max_length=MAX_POINTS)]
    power: Power | None  # None: not measured

    def __post_init__(self) -> None:
        """Attention is two curves, and neither says anything of the other."""
        if len({point.queries == 1 for point in self.attention}) != 2:  # noqa: PLR2004
            raise ValueError(
                "attention: holds points of decode (queries=1) and of prefill (more), both"
            )


def load_calibration_file(path: Path) -> Calibration:
    """The calibration in a JSON file.

    Raises:
        InputError: The file is not a valid calibration: field, value and rule are named.
    """
    return validated(Calibration, read_json_object(path), where=f"calibration {shown(path.name)}")
