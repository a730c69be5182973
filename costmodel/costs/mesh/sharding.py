"""What one GPU of a mesh has and does: the operators of a step, divided.

The operators of a GPU are those of a model whose layers are divided over `tp`, in a step of its
group's sequences. Two things are divided over all GPUs of a stage instead, and work for the tokens
of all groups: routed experts, of which a GPU has E / ep, and memory tables. Embedding and LM head
are divided by rows of the vocabulary over `tp`.

What is not divided, every GPU of a `tp` group has and does alike (norms, routers, the search of
memory layers); groups have copies of all but experts and tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from costmodel.costs.mesh.load import with_copies
from costmodel.costs.operators import build_operators
from costmodel.costs.placement import table_operators
from costmodel.costs.storage import kind_operators
from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig, Override, Shortcut
from costmodel.layers.base import LayerKind
from costmodel.layers.formats import Group
from costmodel.layers.kernel_shape import Gemm, Grouped, Rows, Shape
from costmodel.layers.mesh import Mesh
from costmodel.layers.moe import MoeFfn
from costmodel.layers.numbers import Number
from costmodel.layers.operator import QUANTITIES, Operator, Part, Step, Weight
from costmodel.layers.touched import TableRows, Touched
from costmodel.routing.sectors import row_sectors
from costmodel.strict import explained

Kind = TypeVar("Kind", bound=LayerKind | None)

NOTHING = 0
ENDS = ("embed", "lm_head")  # divided by the rows of the vocabulary


def split_model(model: ModelConfig, mesh: Mesh) -> ModelConfig:
    """The model with what one GPU of the mesh has of each layer kind.

    Raises:
        InputError: A size does not divide, or a kind is not divided, or its part is too small.
    """
    mesh.of_tp(model.vocab_size, "vocab_size")
    try:
        return _split(model, mesh)
    except ValidationError as error:  # such as an expert of which a GPU would have two columns
        raise InputError(f"gpus={mesh.gpus}: of one GPU, {explained(error)}") from None


def _split(model: ModelConfig, mesh: Mesh) -> ModelConfig:
    mixers = [mixer for mixer, _ in model.attention_groups]
    ffns = [ffn for ffn, _ in model.ffn_groups]
    overrides = tuple(
        Override(
            layers=override.layers,
            attention=_split_if_used(override.attention, mixers, mesh),
            ffn=_split_if_used(override.ffn, ffns, mesh),
        )
        for override in model.overrides
    )
    shortcuts = tuple(
        Shortcut(layers=shortcut.layers, skips=shortcut.skips, ffn=shortcut.ffn.split(mesh))
        for shortcut in model.shortcuts
    )
    return replace(
        model,
        attention=_split_if_used(model.attention, mixers, mesh),
        ffn=_split_if_used(model.ffn, ffns, mesh),
        overrides=overrides,
        shortcuts=shortcuts,
        memory=tuple(memory.split(mesh) for memory in model.memory),
    )


def _split_if_used(kind: Kind, used: Sequence[LayerKind], mesh: Mesh) -> Kind:
    """The kind divided; as it is where no layer has it, such as a default that all override."""
    return kind.split(mesh) if kind is not None and kind in used else kind


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuOperators:
    """The operators of one GPU, and of memory layers those of a GPU that had whole tables."""

    operators: tuple[Operator, ...]
    tables: tuple[Operator, ...]


def gpu_operators(model: ModelConfig, step: Step, mesh: Mesh) -> GpuOperators:
    """The operators of one GPU: the mean over those of its stage, whatever the stage.

    Args:
        model: Divided by `split_model`.
        step: Of the sequences of one group.
        mesh: Its `tp`, `ep` and `dp`.

    Raises:
        InputError: A table does not divide.
    """
    own = build_operators(model, step)
    shared = _of_all_groups(model, step, mesh) if mesh.dp > 1 else {}
    return GpuOperators(
        operators=tuple(_divided(mine, shared.get(mine.path, mine), mesh, step) for mine in own),
        tables=tuple(mine for mine in own if _group(mine) == "memory_values"),
    )


def _of_all_groups(model: ModelConfig, step: Step, mesh: Mesh) -> dict[str, Operator]:
    """Experts and tables by path, in a step of the tokens of all groups."""
    of_all = replace(step, batch=step.batch * mesh.dp, tokens=step.tokens * mesh.dp)
    width, operators = model.hidden_size, list[Operator]()
    for ffn, layers in model.ffn_groups:
        if isinstance(ffn, MoeFfn):
            operators += kind_operators(ffn, layers, width, of_all)
    for memory in model.memory:
        blocks = tuple(block for block, _ in memory.placement(model.num_hidden_layers))
        operators += table_operators(memory, blocks, width, of_all, 0)
    return {operator.path: operator for operator in operators if _group(operator)}


def _group(operator: Operator) -> Group | None:
    """The group of weights by which all GPUs of a stage share an operator; None: they do not."""
    for weight in operator.weights:
        if weight.group in ("experts", "memory_values"):
            return weight.group
    return None


def _divided(mine: Operator, ours: Operator, mesh: Mesh, step: Step) -> Operator:
    """An operator of one GPU: of its group's tokens, or its share of that of everyone's."""
    if mine.leaf in ENDS:
        return _by_rows(mine, mesh.tp)
    group = _group(mine)
    if group is None:
        return mine
    if group == "experts":
        return with_copies(_by_rows(ours, mesh.ep), step, mesh)
    if mesh.tables == "rows":
        return _by_rows(ours, mesh.of_stage)
    return _by_width(ours, mesh.of_stage, step)


def _by_rows(operator: Operator, gpus: int) -> Operator:
    """One GPU's share of an operator whose weights are divided by rows: 1 / gpus of everything.

    Rows that do not divide are padded: the last GPU has room that it does not use.
    """
    if gpus == 1:
        return operator
    weights = tuple(replace(weight, rows=-(-weight.rows // gpus)) for weight in operator.weights)
    return replace(
        operator,
        parts=tuple(_part(part, gpus, shape=_fewer(part.shape, gpus)) for part in operator.parts),
        weights=weights,
        touched=_touched(operator.touched, gpus),
        rows=_rows(operator.rows, gpus, 1.0),
    )


def _by_width(operator: Operator, gpus: int, step: Step) -> Operator:
    """One GPU's slice of every row of a table: what is done per element is divided."""
    if gpus == 1:
        return operator
    weights = tuple(_slice(weight, gpus) for weight in operator.weights)
    sectors = [
        row_sectors(narrow.row_bytes(step)) / row_sectors(wide.row_bytes(step)) * gpus
        for narrow, wide in zip(weights, operator.weights, strict=True)
        if wide.group == "memory_values"
    ]
    parts = tuple(
        _part(part, gpus, shape=_narrower(part.shape, gpus)) if part.kind == "gather" else part
        for part in operator.parts
    )
    return replace(
        operator,
        parts=parts,
        weights=weights,
        rows=_rows(operator.rows, gpus, sum(sectors) / len(sectors)),
    )


def _slice(weight: Weight, gpus: int) -> Weight:
    if weight.group != "memory_values":
        return weight
    if weight.cols % gpus:
        raise InputError(
            f"tables='width': a row of {weight.cols} of table {shown(weight.shared or weight.name)}"
            f" does not divide over tp x dp = {gpus} GPUs; rows of tables do (tables='rows')"
        )
    return replace(weight, cols=weight.cols // gpus)


def _part(part: Part, gpus: int, *, shape: Shape | None) -> Part:
    divided: dict[str, Any] = {name: share(getattr(part, name), gpus) for name in QUANTITIES}
    return replace(part, shape=shape, **divided)


def share(quantity: Number, gpus: int) -> Number:
    """1 / gpus of it: a whole number where it is one, and nothing of nothing."""
    if quantity is NOTHING:
        return NOTHING
    if isinstance(quantity, int) and not quantity % gpus:
        return quantity // gpus
    return quantity / gpus


def _fewer(shape: Shape | None, gpus: int) -> Shape | None:
    """The shape of work on 1 / gpus of the rows of the weights."""
    match shape:
        case Gemm():
            return replace(shape, n=-(-shape.n // gpus))
        case Grouped():
            return replace(shape, groups=share(shape.groups, gpus), rows=share(shape.rows, gpus))
        case Rows():
            return replace(shape, reads=share(shape.reads, gpus))
        case _:
            return shape


def _narrower(shape: Shape | None, gpus: int) -> Shape | None:
    """The shape of work on 1 / gpus of the width of each row."""
    return replace(shape, row_bytes=shape.row_bytes / gpus) if isinstance(shape, Rows) else shape


def _touched(touched: Touched | None, gpus: int) -> Touched | None:
    """What a GPU touches of its rows or experts."""
    if touched is None or touched.kind != "experts":  # rows: of all GPUs together
        return touched
    return replace(
        touched,
        distinct=share(touched.distinct, gpus),
        population=touched.population // gpus,
    )


def _rows(rows: TableRows | None, gpus: int, sectors: float) -> TableRows | None:
    """A GPU's share of the rows read; its sectors are `sectors` times its share of them."""
    if rows is None:
        return None
    return replace(
        rows,
        read_bytes=share(rows.read_bytes, gpus),
        sector_bytes=share(rows.sector_bytes, gpus) * sectors,
    )


def of_layers(
    operators: Sequence[Operator], layers: range, *, first: bool, last: bool
) -> tuple[Operator, ...]:
    """The operators of one stage: those of its layers, and the ends that stand in it.

    Args:
        operators: Of all layers.
        layers: Of the stage.
        first: Whether the stage reads token ids.
        last: Whether it gives logits.
    """
    chosen = []
    behind = False
    for operator in operators:
        if operator.layers:
            behind = True
            kept = tuple(layer for layer in operator.layers if layer in layers)
            if kept:
                chosen.append(replace(operator, layers=kept, count=len(kept)))
        elif (behind and last) or (not behind and first):
            chosen.append(operator)
    return tuple(chosen)
