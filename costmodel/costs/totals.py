"""Sums over the operators of a step: parameters, FLOPs, bytes, KV cache, routing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

from costmodel.inputs.model import ModelConfig
from costmodel.layers.dtype import Dtype
from costmodel.layers.numbers import Number
from costmodel.layers.operator import (
    QUANTITIES,
    Operator,
    OperatorKind,
    Part,
    Step,
    Traffic,
    Weight,
    quantities_of,
)
from costmodel.routing.union import expected_union

NOTHING = 0
KINDS: tuple[OperatorKind, ...] = get_args(OperatorKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """Parameters stored, and parameters one token uses, by convention. Norms and biases are in.

    Active: k of E experts, every router weight, all keys and projections of a memory layer and the
    H m rows it reads. A tied embedding counts once.
    """

    total: int
    total_without_embeddings: int
    active_without_embeddings: int
    active_with_lm_head: int
    active_with_embeddings: int
    by_group: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals(Traffic):
    """Sums of the fields of `Part` over all operators, times their counts."""

    flops: Number
    compares: Number
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


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCache:
    """What a model keeps of its sequences: stored after the step, read by it, written by it.

    The KV cache grows by tokens; a recurrent layer's state has a fixed size for each sequence.
    """

    bytes_per_token: int  # all layers, while every window still holds the token
    stored_bytes: Number
    read_bytes: Number
    written_bytes: Number
    state_bytes_per_sequence: int  # all layers
    state_bytes: Number  # of the batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """Expected distinct experts and rows of a step: means over the layers that have them."""

    experts: Number | None
    rows: Number | None
    rows_union: Number | None  # over the layers of one table, summed over tables, if any is shared


def stored_weights(operators: Iterable[Operator]) -> Iterator[tuple[Weight, int]]:
    """Each parameter tensor with its number of copies; a shared one comes once."""
    seen: set[str] = set()
    for operator in operators:
        for weight in operator.weights:
            if not weight.shared:
                yield weight, operator.count
            elif weight.shared not in seen:
                seen.add(weight.shared)
                yield weight, 1


def parameter_counts(operators: Iterable[Operator]) -> ParameterCounts:
    """Counts by group and by convention."""
    operators = tuple(operators)
    by_group: dict[str, int] = {}
    for weight, copies in stored_weights(operators):
        by_group[weight.group] = by_group.get(weight.group, 0) + weight.parameters * copies
    total = sum(by_group.values())
    embedding, head = by_group.get("embedding", 0), by_group.get("lm_head", 0)
    active = _active_without_embeddings(operators)
    return ParameterCounts(
        total=total,
        total_without_embeddings=total - embedding - head,
        active_without_embeddings=active,
        active_with_lm_head=active + (head or embedding),
        active_with_embeddings=active + embedding + head,
        by_group=by_group,
    )


def _active_without_embeddings(operators: Iterable[Operator]) -> int:
    """Elements that one token uses; never more than a tensor has, however many heads read it."""
    active = 0
    shared: dict[str, int] = {}
    for operator in operators:
        for weight in operator.weights:
            if weight.group in ("embedding", "lm_head"):
                continue
            used = min(weight.active_parameters, weight.parameters) * operator.count
            if weight.shared:
                used = min(used + shared.get(weight.shared, 0), weight.parameters)
                shared[weight.shared] = used
            else:
                active += used
    return active + sum(shared.values())


def _sums(parts: Iterable[tuple[Part, int]]) -> Totals:
    sums: list[Number] = [0] * len(QUANTITIES)
    for part, count in parts:
        for index, value in enumerate(quantities_of(part)):
            if value is not NOTHING:  # most fields of a part are the integer 0
                sums[index] = sums[index] + count * value
    return Totals(**dict(zip(QUANTITIES, sums, strict=True)))


def totals(operators: Iterable[Operator]) -> Totals:
    """Sums over the whole step."""
    return _sums((part, op.count) for op in operators for part in op.parts)


def routing_totals(operators: Iterable[Operator]) -> Totals:
    """Sums over the parts that choose experts or rows."""
    return _sums((part, op.count) for op in operators for part in op.parts if part.routing)


def flops_by_kind(operators: Iterable[Operator]) -> dict[OperatorKind, Number]:
    """FLOPs of each kind of part; they sum to the total."""
    sums: dict[OperatorKind, Number] = dict.fromkeys(KINDS, 0)
    for operator in operators:
        for part in operator.parts:
            sums[part.kind] = sums[part.kind] + operator.count * part.flops
    return sums


def kv_bytes_per_token(model: ModelConfig, kv_dtype: Dtype) -> int:
    """KV-cache bytes that one token adds over all layers."""
    return sum(kind.kv_token_bytes(kv_dtype) * len(at) for kind, at in model.attention_groups)


def kept_bytes(model: ModelConfig, step: Step) -> tuple[Number, int]:
    """KV cache stored after the step, of the batch, and the fixed state of one sequence.

    Each layer keeps the tokens of a sequence, S + T, at most its window; a recurrent layer keeps a
    state whatever their number.
    """
    held = step.cached + step.new_tokens
    stored: Number = 0
    state = 0
    for mixer, at in model.attention_groups:
        tokens = step.batch * mixer.kept_tokens(held)
        stored = stored + len(at) * mixer.kv_token_bytes(step.kv_dtype) * tokens
        state += len(at) * mixer.state_bytes(model.hidden_size, step)
    return stored, state


def kv_cache(model: ModelConfig, step: Step, sums: Totals) -> KvCache:
    """Stored: B sequences of S + T tokens, each layer keeping at most its window; their states."""
    stored, state = kept_bytes(model, step)
    return KvCache(
        bytes_per_token=kv_bytes_per_token(model, step.kv_dtype),
        stored_bytes=stored,
        read_bytes=sums.kv_read_bytes,
        written_bytes=sums.kv_written_bytes,
        state_bytes_per_sequence=state,
        state_bytes=step.batch * state,
    )


def distinct(operators: Iterable[Operator]) -> Distinct:
    """Expected distinct experts and rows: means over layers, and the union over shared tables."""
    sums: dict[str, Number] = {"experts": 0, "rows": 0}
    layers = {"experts": 0, "rows": 0}
    union: Number = 0
    shared = False
    for operator in operators:
        touched = operator.touched
        if touched is None:
            continue
        sums[touched.kind] = sums[touched.kind] + operator.count * touched.distinct
        layers[touched.kind] += operator.count
        if touched.table_rows:
            shared = True
            union = union + expected_union(touched.table_rows, touched.windows, touched.distinct)
        elif touched.kind == "rows":
            union = union + operator.count * touched.distinct
    return Distinct(
        experts=sums["experts"] / layers["experts"] if layers["experts"] else None,
        rows=sums["rows"] / layers["rows"] if layers["rows"] else None,
        rows_union=union if shared else None,
    )
