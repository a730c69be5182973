"""The schema of a calibration: measured times of one GPU's kernels over a grid of shapes.

A calibration holds the cost of a launch, the power of three loads, and six curves. A curve's point
is the time of one operation in a CUDA graph, over operands that are not in L2: median and quartiles
in seconds, launches included; `kernels` says how many kernels were launched. The shapes are a grid
of their own. None of them is a layer of a preset, since a calibration is validated on the presets.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import shown
from costmodel.inputs.files import read_json_object
from costmodel.recordings.energy_loop import EnergyLoop
from costmodel.recordings.machine import Commit, Conditions, Label, Machine
from costmodel.strict import STRICT, validated

Size: TypeAlias = Annotated[int, Field(ge=1, le=2**50)]
Seconds: TypeAlias = Annotated[float, Field(ge=1e-15, le=1e4)]
Watts: TypeAlias = Annotated[float, Field(gt=0, le=1e5)]
Rate: TypeAlias = Annotated[float, Field(gt=0, le=1e18)]
MAX_POINTS = 4096


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Launch:
    """The time that one more kernel adds to a step when the kernel has nothing to do."""

    graph_s: Seconds  # as a node of a CUDA graph
    eager_s: Seconds  # in ordinary PyTorch calls, where the host is the bottleneck


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Point:
    """The time of one operation, and the kernels that it launched."""

    s: Seconds  # median
    q1_s: Seconds
    q3_s: Seconds
    kernels: Annotated[int, Field(ge=1, le=64)]

    def __post_init__(self) -> None:
        """The median lies between the quartiles."""
        if not self.q1_s <= self.s <= self.q3_s:
            raise ValueError(f"s={self.s}: lies outside q1_s={self.q1_s} to q3_s={self.q3_s}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class MovePoint(Point):
    """An elementwise operation, y = 2 x; `bytes` are those read and those written, together."""

    bytes: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class GemmPoint(Point):
    """A matrix product in bf16: x [m, k] times a weight [n, k]."""

    m: Size
    n: Size
    k: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class GroupedPoint(Point):
    """A grouped product in bf16: `rows` rows [k], spread evenly over `groups` weights [n, k]."""

    groups: Size
    rows: Size
    n: Size
    k: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RowsPoint(Point):
    """embedding_bag: weighted sums of 32 random rows each, `reads` rows of `row_bytes` in all."""

    reads: Size
    row_bytes: Size


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class AttentionPoint(Point):
    """Causal attention: `queries` new tokens per sequence over `keys` tokens, new ones included."""

    batch: Size
    heads: Size
    kv_heads: Size
    head_dim: Size
    queries: Size
    keys: Size

    def __post_init__(self) -> None:
        """New tokens are among the keys, and query heads share KV heads in equal groups."""
        Point.__post_init__(self)
        if self.queries > self.keys:
            raise ValueError(f"queries={self.queries}: exceeds keys={self.keys}, which hold them")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads}: is no multiple of kv_heads={self.kv_heads}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TopKPoint(Point):
    """torch.topk: the `chosen` largest of `width` values in each of `rows` rows."""

    rows: Size
    width: Size
    chosen: Size

    def __post_init__(self) -> None:
        """No more values are chosen than there are."""
        Point.__post_init__(self)
        if self.chosen > self.width:
            raise ValueError(f"chosen={self.chosen}: exceeds width={self.width}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Power:
    """Mean power of the idle GPU and of two steady loops, and the rates of the loops."""

    idle_w: Watts
    copy_w: Watts
    copy_bytes_per_s: Rate  # bytes read and bytes written, together
    gemm_w: Watts
    gemm_flops_per_s: Rate

    def __post_init__(self) -> None:
        """A GPU under load draws more than an idle one."""
        for name, watts in (("copy_w", self.copy_w), ("gemm_w", self.gemm_w)):
            if watts <= self.idle_w:
                raise ValueError(f"{name}={watts}: does not exceed idle_w={self.idle_w}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Calibration:
    """One GPU's launch costs, curves and power. All operands are bf16."""

    schema_version: Literal[1]
    name: Label
    hardware: Label  # the hardware preset that was measured, such as h200
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
    loops: Annotated[tuple[EnergyLoop, ...], Field(max_length=64)] = Field(
        default=(), exclude_if=lambda loops: not loops
    )
    """Of `sparsecost calibrate --leaves loops`; energy is predicted from them where they stand."""

    def __post_init__(self) -> None:
        """Attention has a curve of decode and one of prefill; neither can replace the other."""
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
