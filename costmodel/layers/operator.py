"""Operators, their parts and their parameters: the words in which every layer states its cost.

An operator is the largest unit of a step that one fused kernel may do; its path is the path of the
leaf module that does it in the reference model. Parts are the finer steps inside an operator.
Every quantity is a plain number or a NumPy array (of integers, or of Python integers where a count
may pass 2^63), so that one evaluation serves a single workload or a whole grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.layers.dtype import Dtype
from costmodel.routing.popularity import Routing

if TYPE_CHECKING:  # it is written in the numbers of this file
    from costmodel.layers.kernel_shape import Shape

Number: TypeAlias = int | float | NDArray[Any]
"""An exact count or an expectation: one number, or an array of them."""
Count: TypeAlias = int | NDArray[Any]
"""An exact count: one integer, or an array of them."""

Kind: TypeAlias = Literal["matmul", "attention", "gather", "selection", "norm", "elementwise"]
Group: TypeAlias = Literal[
    "embedding",
    "lm_head",
    "attention",
    "router",
    "experts",
    "shared_experts",
    "ffn",
    "memory_keys",
    "memory_values",
    "memory_projections",
    "norm",
]

INDEX_BYTES = 8  # an int64 index: token ids, routing choices, permutation entries


def smaller(a: Number, b: Number) -> Number:
    """Elementwise minimum that keeps Python integers Python integers."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.minimum(a, b)
    return min(a, b)


def larger(a: Number, b: Number) -> Number:
    """Elementwise maximum that keeps Python integers Python integers."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.maximum(a, b)
    return max(a, b)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One forward step of B sequences with S cached and T new tokens each, as formulas see it."""

    batch: Count  # B
    new_tokens: Count  # T, per sequence
    cached: Count  # S, per sequence
    tokens: Count  # B T
    dtype: Dtype  # weights and tables
    kv_dtype: Dtype
    routing: Routing
    attention_flops: Literal["causal", "full"]
    logits: Literal["last", "all"]
    mla: Literal["absorbed", "expanded"]
    activation_bytes: int  # of one element of an activation, norm weight or bias


class Moved:
    """What must move through HBM, by category: the one place that says what is compulsory."""

    __slots__ = ()

    weight_bytes: Number
    kv_read_bytes: Number
    kv_written_bytes: Number
    row_bytes: Number
    index_bytes: Number
    io_bytes: Number

    @property
    def compulsory_bytes(self) -> Number:
        """What the part or step must move through HBM, each byte once."""
        return (
            self.weight_bytes
            + self.kv_read_bytes
            + self.kv_written_bytes
            + self.row_bytes
            + self.index_bytes
            + self.io_bytes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Moved):
    """A finer step inside an operator. Bytes are compulsory unless their name says otherwise."""

    name: str
    kind: Kind
    flops: Number = 0
    compares: Number = 0  # elements a top-k or sort looks at; not FLOPs
    weight_bytes: Number = 0  # parameters touched, other than table rows
    kv_read_bytes: Number = 0
    kv_written_bytes: Number = 0
    row_bytes: Number = 0  # memory-table rows, each distinct row once
    index_bytes: Number = 0  # permutation entries
    io_bytes: Number = 0  # the step's own input and output: token ids, logits
    activation_bytes: Number = 0  # crosses the operator's border; may live in L2
    intermediate_bytes: Number = 0  # crosses parts inside it when no kernel fuses them
    launches_torch: int = (
        0  # kernels of reference_model on an H200, 64 tokens (tests/test_launches)
    )
    launches_fused: int = 0
    routing: bool = False  # belongs to the cost of choosing experts or rows
    shape: "Shape | None" = None  # how it runs; None: elementwise, its bytes are all that counts


QUANTITIES = tuple(
    f.name for f in fields(Part) if f.name not in ("name", "kind", "routing", "shape")
)
"""The fields of a `Part` that are summed into operators and steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A parameter tensor, seen as `rows` vectors of `cols` elements (quantisation runs along them).

    `active_rows` is the share of one token: k of E experts, H m of N table rows, else all.
    `shared` names a tensor that several operators use: stored once, counted once.
    """

    name: str
    group: Group
    rows: int
    cols: int = 1
    matrix: bool = True  # norms, biases, sinks and Tucker cores are not: never quantised
    active_rows: int | None = None
    shared: str = ""

    @property
    def parameters(self) -> int:
        """Elements stored."""
        return self.rows * self.cols

    @property
    def active_parameters(self) -> int:
        """Elements that one token uses."""
        return (self.rows if self.active_rows is None else self.active_rows) * self.cols

    def row_bytes(self, step: Step) -> int:
        """Bytes of one row as stored for `step`, scales and zero points in."""
        return step.dtype.row_bytes(self.cols) if self.matrix else self.cols * step.activation_bytes

    def stored_bytes(self, step: Step) -> int:
        """Bytes of the whole tensor as stored for `step`."""
        return self.rows * self.row_bytes(step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """A tensor that is kept but not learnt: permutations, the vectors u and v."""

    name: str
    elements: int
    element_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """Expected distinct experts or table rows that a step touches in one layer."""

    kind: Literal["experts", "rows"]
    distinct: Number
    population: int
    windows: tuple[tuple[int, int], ...] = ()  # ring windows (start, length) of layers that share
    table_rows: int = 0  # rows of the shared table


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What one leaf module costs in one step; `count` layers are alike and `path` lists them."""

    path: str
    count: int
    kind: Kind
    parts: tuple[Part, ...]
    weights: tuple[Weight, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    touched: Touched | None = None
    formula: str
    source: str

    def total(self, quantity: str) -> Number:
        """The sum of one of `QUANTITIES` over the parts, for one of the `count` layers."""
        total: Number = 0
        for part in self.parts:
            total = total + getattr(part, quantity)
        return total

    @property
    def compulsory_bytes(self) -> Number:
        """What one of the `count` layers must move through HBM."""
        return sum((part.compulsory_bytes for part in self.parts), start=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a layer kind stands: the layers that share its configuration, and the model's width."""

    layers: tuple[int, ...]
    hidden_size: int  # D
    pattern: str  # "3" or "{0-2,5}"

    @classmethod
    def of(cls, layers: Sequence[int], hidden_size: int) -> "Site":
        """The site of these layers, its pattern written from their runs."""
        return cls(layers=tuple(layers), hidden_size=hidden_size, pattern=layer_pattern(layers))

    @property
    def count(self) -> int:
        """How many layers stand here."""
        return len(self.layers)

    def path(self, leaf: str) -> str:
        """The path of a leaf module of these layers: `layers.{0-2,5}.attention.core`."""
        return f"layers.{self.pattern}.{leaf}"


def layer_pattern(layers: Sequence[int]) -> str:
    """`3` for one layer, `{0-2,5}` for several: runs of consecutive layers are joined."""
    if len(layers) == 1:
        return str(layers[0])
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) + "}"


def expanded_paths(path: str) -> tuple[str, ...]:
    """The single paths behind a pattern: `layers.{0-1}.ffn.down` is two of them."""
    head, brace, rest = path.partition("{")
    if not brace:
        return (path,)
    pattern, _, tail = rest.partition("}")
    layers: list[int] = []
    for run in pattern.split(","):
        first, _, last = run.partition("-")
        layers.extend(range(int(first), int(last or first) + 1))
    return tuple(f"{head}{layer}{tail}" for layer in layers)
