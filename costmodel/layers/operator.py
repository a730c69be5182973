"""Operators, their parts and their parameters: the words in which every layer states its work.

An operator is the largest unit of a step that one fused kernel may do; its path is the path of the
leaf module that does it in the reference model. Parts are the finer steps inside an operator. What
stands here is work, whoever does it; which kernels do it: `costmodel/backends`.
Every quantity is a plain number or a NumPy array (of integers, or of Python integers where a count
may pass 2^63), so that one evaluation serves a single workload or a whole grid.
"""

from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, TypeAlias

from costmodel.layers.dtype import Dtype
from costmodel.layers.formats import Formats, Group
from costmodel.layers.numbers import Count, Number
from costmodel.layers.placement import IN_HBM, Place, Placement
from costmodel.layers.touched import TableRows, Touched
from costmodel.routing.popularity import Routing

if TYPE_CHECKING:  # these are written in the words of this file
    from costmodel.layers.base import LayerKind
    from costmodel.layers.kernel_shape import Shape

OperatorKind: TypeAlias = Literal[
    "matmul", "attention", "recurrence", "gather", "selection", "norm", "elementwise"
]
TABLES: frozenset[Group] = frozenset({"embedding", "memory_values"})  # read by rows
INDEX_BYTES = 8  # an int64 index: token ids, routing choices, permutation entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One forward step of B sequences with S cached and T new tokens each, as formulas see it."""

    batch: Count  # B
    new_tokens: Count  # T, per sequence
    cached: Count  # S, per sequence
    tokens: Count  # B T
    formats: Formats  # of weights and tables
    kv_dtype: Dtype
    routing: Routing
    attention_flops: Literal["causal", "full"]
    logits: Literal["last", "all"]
    mla: Literal["absorbed", "expanded"]
    mla_cache: Literal["latent", "expanded"]
    window_cache: Literal["window", "whole"]
    activation_bytes: int  # of one element of an activation, norm weight or bias
    placement: Placement = IN_HBM  # of tables that are read by rows


def causal(step: Step) -> Step:
    """The step with the pairs that attention needs, whatever convention counts its FLOPs."""
    return replace(step, attention_flops="causal")


class Traffic:
    """Bytes by category, and the sums of them that have a name: what is compulsory stands here."""

    __slots__ = ()

    weight_bytes: Number
    kv_read_bytes: Number
    kv_written_bytes: Number
    state_read_bytes: Number
    state_written_bytes: Number
    row_bytes: Number
    index_bytes: Number
    io_read_bytes: Number
    io_written_bytes: Number
    input_bytes: Number
    output_bytes: Number
    inner_input_bytes: Number
    inner_output_bytes: Number
    host_bytes: Number
    disk_bytes: Number
    fetched_bytes: Number

    @property
    def read_bytes(self) -> Number:
        """Compulsory bytes that are read from HBM, each once."""
        return (
            self.weight_bytes
            + self.kv_read_bytes
            + self.state_read_bytes
            + self.row_bytes
            + self.index_bytes
            + self.io_read_bytes
        )

    @property
    def written_bytes(self) -> Number:
        """Compulsory bytes that are written to HBM, each once."""
        return self.kv_written_bytes + self.state_written_bytes + self.io_written_bytes

    @property
    def compulsory_bytes(self) -> Number:
        """What the part or step must move through HBM, each byte once."""
        return (
            self.weight_bytes
            + self.kv_read_bytes
            + self.kv_written_bytes
            + (self.state_read_bytes + self.state_written_bytes)
            + self.row_bytes
            + self.index_bytes
            + (self.io_read_bytes + self.io_written_bytes)
        )

    @property
    def link_bytes(self) -> Number:
        """Compulsory bytes over the link between host and GPU: rows of host memory and of disk."""
        return self.host_bytes + self.disk_bytes

    @property
    def io_bytes(self) -> Number:
        """The step's own input and output: token ids and logits."""
        return self.io_read_bytes + self.io_written_bytes

    @property
    def state_bytes(self) -> Number:
        """Fixed states of sequences, read and written."""
        return self.state_read_bytes + self.state_written_bytes

    @property
    def activation_bytes(self) -> Number:
        """Activations that cross the operator's border, in and out; they may live in L2."""
        return self.input_bytes + self.output_bytes

    @property
    def intermediate_bytes(self) -> Number:
        """Activations that pass between parts of the operator, in and out of each part."""
        return self.inner_input_bytes + self.inner_output_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Traffic):
    """A finer step inside an operator: its work, whatever kernel does it.

    Bytes are compulsory, and of HBM, but for those of activations and for `host_bytes`,
    `disk_bytes` and `fetched_*` (costs/placement.py): `input_bytes` and `output_bytes` cross the
    operator's border, `inner_input_bytes` and `inner_output_bytes` pass between its parts, where a
    kernel that does both parts saves them.
    """

    name: str
    kind: OperatorKind
    flops: Number = 0
    compares: Number = 0  # elements a top-k or sort looks at; not FLOPs
    weight_bytes: Number = 0  # parameters touched, other than table rows
    kv_read_bytes: Number = 0
    kv_written_bytes: Number = 0
    state_read_bytes: Number = 0  # fixed state of sequences, whatever the context
    state_written_bytes: Number = 0
    row_bytes: Number = 0  # memory-table rows, each distinct one once: costs/table_rows.py
    index_bytes: Number = 0  # permutation entries
    io_read_bytes: Number = 0  # the step's own input: token ids
    io_written_bytes: Number = 0  # the step's own output: logits
    input_bytes: Number = 0
    output_bytes: Number = 0
    inner_input_bytes: Number = 0
    inner_output_bytes: Number = 0
    host_bytes: Number = 0  # rows of tables in host memory, each distinct one once
    disk_bytes: Number = 0  # the same of tables on disk
    fetched_rows: Number = 0  # that this layer reads of tables outside HBM: costs/placement.py
    fetched_bytes: Number = 0  # of these rows, whatever other layers of the table read
    reach_bytes: int = 0  # of the rows of a table among which those are
    operations: int = 1  # like operations in it (residual adds); 0: an epilogue of the part before
    routing: bool = False  # belongs to the cost of choosing experts or rows
    early: bool = False  # its rows are known before the step, and so may be fetched ahead
    shape: "Shape | None" = None  # of the work; None: elementwise, its bytes are all that counts


QUANTITIES = tuple(
    field.name
    for field in fields(Part)
    if field.name not in ("name", "kind", "reach_bytes", "operations", "routing", "early", "shape")
)
"""The fields of a `Part` that are summed into operators and steps."""

quantities_of = attrgetter(*QUANTITIES)
"""The values of `QUANTITIES` of a part, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A parameter tensor, seen as `rows` vectors of `cols` elements (quantisation runs along them).

    `active_rows` is the share of one token: k of E experts, H m of N table rows, else all.
    `shared` names a tensor that several operators use: stored once, counted once.
    A checkpoint may hold the tensor as several matrices, each with scales of its own:
    `matrix_rows` are the rows of one series of them, which repeats (gate and up, of each expert).
    """

    name: str
    group: Group
    rows: int
    cols: int = 1
    matrix: bool = True  # norms, biases, sinks and Tucker cores are not: never quantised
    active_rows: int | None = None
    shared: str = ""
    leaf: str = ""  # whose format it has; none: that of its group
    matrix_rows: tuple[int, ...] = ()  # none: one matrix of all rows
    dtype: Dtype | None = None  # its format, where layers differ in that; else the step's
    place: Place = "hbm"  # where it stands

    @property
    def parameters(self) -> int:
        """Elements stored."""
        return self.rows * self.cols

    @property
    def active_parameters(self) -> int:
        """Elements that one token uses."""
        return (self.rows if self.active_rows is None else self.active_rows) * self.cols

    def stored_as(self, step: Step) -> Dtype:
        """The format of a matrix or table as stored for `step`."""
        return self.dtype or step.formats.of(self.group, self.leaf)

    def row_bytes(self, step: Step) -> int:
        """Bytes of one row as stored for `step`, scales and zero points of its groups in."""
        if not self.matrix:
            return self.cols * step.activation_bytes
        return self.stored_as(step).row_bytes(self.cols)

    def series_bytes(self, step: Step) -> int:
        """Bytes of one series of matrices (of one expert) as stored for `step`."""
        return self._bytes(sum(self.matrix_rows) or self.rows, step)

    def stored_bytes(self, step: Step) -> int:
        """Bytes of the whole tensor as stored for `step`."""
        return self._bytes(self.rows, step)

    def _bytes(self, rows: int, step: Step) -> int:
        """Bytes of so many rows: of a whole number of series of matrices.

        A table that is read by rows has scales along its rows, those of a format with blocks too,
        and keeps nothing once.
        """
        if not self.matrix:
            return rows * self.cols * step.activation_bytes
        dtype = self.dtype or step.formats.of(self.group, self.leaf)
        if dtype.by_rows or self.group in TABLES:
            return rows * dtype.row_bytes(self.cols)
        matrix_rows = self.matrix_rows or (rows,)
        return (rows // sum(matrix_rows)) * sum(
            dtype.matrix_bytes(matrix, self.cols) for matrix in matrix_rows
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """A tensor that is kept but not learnt: permutations, the vectors u and v."""

    name: str
    elements: int
    element_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What one leaf module does in one step; `count` layers are alike and `path` lists them."""

    path: str  # "layers.{0-2,5}.moe.router"
    leaf: str  # the path within a layer: "moe.router"
    layers: tuple[int, ...] = ()  # none: it stands beside the blocks
    layer_kind: "LayerKind | None" = None  # whose operator it is; None for norms and both ends
    count: int
    kind: OperatorKind
    parts: tuple[Part, ...]
    weights: tuple[Weight, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    touched: Touched | None = None
    computes_in: Dtype | None = None  # the format of its products; None: the step's default
    rows: TableRows | None = None  # of one layer; None: it reads no memory table
    summary: str = ""  # what it does, in one sentence
    formula: str  # of its FLOPs in one layer: costmodel/layers/letters.py
    source: str

    def total(self, quantity: str) -> Number:
        """The sum over the parts, for one of the `count` layers.

        Args:
            quantity: One of `QUANTITIES`, or a sum of them that `Traffic` names.
        """
        total: Number = 0
        for part in self.parts:
            total = total + getattr(part, quantity)
        return total

    @property
    def compulsory_bytes(self) -> Number:
        """What one of the `count` layers must move through HBM."""
        return sum((part.compulsory_bytes for part in self.parts), start=0)

    @property
    def row_read_bytes(self) -> Number:
        """Distinct table rows that one of the `count` layers reads, whatever other layers read."""
        return 0 if self.rows is None else self.rows.read_bytes

    @property
    def repeated_row_bytes(self) -> Number:
        """Rows that one layer reads and other layers of its table are charged with."""
        return 0 if self.rows is None else self.rows.read_bytes - self.total("row_bytes")
