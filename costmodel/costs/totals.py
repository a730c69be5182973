"""Sums over the operators of a step: parameters, FLOPs, bytes, KV cache, routing.

An operator stands for `count` layers that are alike, so every sum multiplies by the count. All sums
take numbers or arrays over a grid of steps, and add in the order of the operators.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from costmodel.inputs.model import ModelConfig
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

NOTHING = 0
KINDS: tuple[OperatorKind, ...] = get_args(OperatorKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCounts:
    """Parameters stored (total), and parameters that one token uses (active).

    Papers disagree on whether the embedding and the LM head belong to the active ones, so each
    convention has its own name. Active are: k of E experts, all router weights, all keys and
    projections of a memory layer and the H m rows that a token reads, norms and biases. A table
    that serves as embedding and LM head (tied) counts once.
    """

    total: int
    total_without_embeddings: int  # nor LM head
    active_without_embeddings: int  # nor LM head
    active_with_lm_head: int
    active_with_embeddings: int  # and LM head
    by_group: dict[str, int]  # stored parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals(Traffic):
    """The work of a step: each field of `Part`, summed over all parts of all layers."""

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
    host_bytes: Number
    disk_bytes: Number
    fetched_rows: Number
    fetched_bytes: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class KvCache:
    """What a model keeps of its sequences between steps: KV cache, and states of recurrent layers.

    The KV cache grows with each token. A recurrent layer keeps a state of fixed size for each
    sequence instead.
    """

    bytes_per_token: int  # of the KV cache, all layers, while every window still holds the token
    stored_bytes: Number  # of the KV cache after the step
    read_bytes: Number  # of the KV cache by the step
    written_bytes: Number  # of the KV cache by the step
    state_bytes_per_sequence: int  # all layers
    state_bytes: Number  # of the batch
    side_cache_bytes_per_token: int = 0  # those of `bytes_per_token` that are keys of indexers


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """Experts and table rows that a step is expected to touch at least once.

    None: the model has no such layers.
    """

    experts: Number | None  # of a layer: the mean over the layers
    rows: Number | None  # of a layer: the mean over the layers
    rows_union: Number | None  # of all layers, a row of a shared table once; None: none is shared


def stored_weights(operators: Iterable[Operator]) -> Iterator[tuple[Weight, int]]:
    """Each parameter tensor with its number of copies; a shared tensor comes once, as one copy."""
    seen: set[str] = set()
    for operator in operators:
        for weight in operator.weights:
            if not weight.shared:
                yield weight, operator.count
            elif weight.shared not in seen:
                seen.add(weight.shared)
                yield weight, 1


def parameter_counts(operators: Iterable[Operator]) -> ParameterCounts:
    """The parameters of all operators, by group and by convention."""
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
    """Parameters that one token uses, of all groups but embedding and LM head.

    Heads and layers that read the same tensor use at most all of it.
    """
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
    """The sum of parts, each times its number of layers."""
    sums: list[Number] = [0] * len(QUANTITIES)
    for part, count in parts:
        for index, value in enumerate(quantities_of(part)):
            if value is not NOTHING:  # most fields of a part are the integer 0
                sums[index] = sums[index] + count * value
    return Totals(**dict(zip(QUANTITIES, sums, strict=True)))


def totals(operators: Iterable[Operator]) -> Totals:
    """The work of the whole step."""
    return _sums((part, op.count) for op in operators for part in op.parts)


def routing_totals(operators: Iterable[Operator]) -> Totals:
    """The work of the parts that select experts or table rows: the cost of routing."""
    return _sums((part, op.count) for op in operators for part in op.parts if part.routing)


def flops_by_kind(operators: Iterable[Operator]) -> dict[OperatorKind, Number]:
    """Model FLOPs by kind of part (matmul, attention, ...); they sum to the total."""
    sums: dict[OperatorKind, Number] = dict.fromkeys(KINDS, 0)
    for operator in operators:
        for part in operator.parts:
            sums[part.kind] = sums[part.kind] + operator.count * part.flops
    return sums


def kv_bytes_per_token(model: ModelConfig, step: Step, layers: range | None = None) -> int:
    """KV-cache bytes that one token of one sequence adds, over all layers or some."""
    return sum(
        mixer.kv_token_bytes(step) * _among(its_layers, layers)
        for mixer, its_layers in model.attention_groups
    )


def side_bytes_per_token(model: ModelConfig, step: Step, layers: range | None = None) -> int:
    """Those of `kv_bytes_per_token` that only choose what is attended to."""
    return sum(
        mixer.side_token_bytes(step) * _among(its_layers, layers)
        for mixer, its_layers in model.attention_groups
    )


def _among(of_kind: Sequence[int], layers: range | None) -> int:
    """How many of a kind's layers are among these; None: all are."""
    return len(of_kind) if layers is None else sum(layer in layers for layer in of_kind)


def kept_bytes(model: ModelConfig, step: Step, layers: range | None = None) -> tuple[Number, int]:
    """Bytes that all layers, or some, keep after the step.

    Each mixer keeps the S + T tokens of a sequence, at most its window unless windows are kept
    whole; a recurrent layer, or a memory layer with a state, keeps it whatever their number.

    Returns:
        KV-cache bytes of the batch, and state bytes of one sequence.
    """
    sequence_tokens = step.cached + step.new_tokens
    stored: Number = 0
    state = 0
    for mixer, its_layers in model.attention_groups:
        count = _among(its_layers, layers)
        for kept in mixer.kept(sequence_tokens, step):
            stored = stored + count * kept.each_bytes * (step.batch * kept.count)
        state += count * mixer.state_bytes(model.hidden_size, step)
    for memory in model.memory:
        blocks = [block for block, _ in memory.placement(model.num_hidden_layers)]
        state += _among(blocks, layers) * memory.state_bytes(model.hidden_size, step)
    return stored, state


def kv_cache(model: ModelConfig, step: Step, sums: Totals) -> KvCache:
    """What the model keeps of its sequences, and what the step reads and writes of the KV cache.

    Args:
        model: Its mixers say what a token takes, and which tokens they keep.
        step: B sequences of S cached and T new tokens.
        sums: The totals of the step.
    """
    stored, state = kept_bytes(model, step)
    return KvCache(
        bytes_per_token=kv_bytes_per_token(model, step),
        side_cache_bytes_per_token=side_bytes_per_token(model, step),
        stored_bytes=stored,
        read_bytes=sums.kv_read_bytes,
        written_bytes=sums.kv_written_bytes,
        state_bytes_per_sequence=state,
        state_bytes=step.batch * state,
    )


def distinct(operators: Iterable[Operator]) -> Distinct:
    """Expected distinct experts and rows: means over layers, and the union over shared tables.

    Layers that share a table may touch the same row: the union counts it once.
    """
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
            union = union + touched.union
        elif touched.kind == "rows":
            union = union + operator.count * touched.distinct
    return Distinct(
        experts=sums["experts"] / layers["experts"] if layers["experts"] else None,
        rows=sums["rows"] / layers["rows"] if layers["rows"] else None,
        rows_union=union if shared else None,
    )
