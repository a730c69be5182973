"""What the GPUs of a mesh send each other in a step: collectives, each with a path and a count.

- Over `tp`: the partial results of a layer's output are summed (all-reduce of N D), as are the rows
  of the embedding; logits are gathered.
- Experts, with several groups: each token goes once to every GPU that has a part of one of its
  experts (dispatch), and the partial results come back (combine), both all-to-all; the GPUs of a
  group share its tokens, and gather the result. With one group all GPUs have all tokens, and the
  partial results are summed as those of a dense layer.
- Memory tables divided over their width: the groups gather indices and scores, give each other
  slices of the projected tokens, sum the partial dots with pre-values over all GPUs, and exchange
  slices of the outputs. Divided over their rows: indices, scores and projected tokens are gathered,
  and the partial sums of values are summed and scattered.
- Over `pp`: a stage sends the residual stream of its tokens to the next.

Vectors travel in the format of activations. Left out: exchanges of token ids, and of what only
sampling needs. An engine that sends tokens in 8 bits, or candidates in place of logits, exchanges
less than this: a step's bound is that of these exchanges.

Source: Megatron-LM, arXiv 1909.08053, section 3; DeepSeek-V3, arXiv 2412.19437, section 3.4; tables
over their width, UltraMemV2, arXiv 2508.18756.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

from costmodel.inputs.model import ModelConfig
from costmodel.layers.base import MemoryKind
from costmodel.layers.collective import Collective, CollectiveName, Group
from costmodel.layers.mesh import Mesh
from costmodel.layers.moe import MoeFfn
from costmodel.layers.numbers import Number
from costmodel.layers.operator import INDEX_BYTES, Operator, Step, Weight
from costmodel.layers.site import layer_pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A collective that each of `count` layers does once for each microbatch; bytes."""

    path: str  # "layers.{0-79}.attention.all_reduce"
    count: int
    collective: Collective


@dataclass(frozen=True, slots=True, kw_only=True)
class _Links:
    """The groups of GPUs that exchange something, by the GPUs of one node."""

    mesh: Mesh
    of_node: int

    def _group(self, gpus: int, stride: int = 1) -> Group:
        """GPUs that stand `stride` apart, as many of them in a node as fit."""
        most = min(gpus, max(1, self.of_node // stride))
        return Group(gpus=gpus, per_node=max(n for n in range(1, most + 1) if not gpus % n))

    @property
    def tp(self) -> Group:
        return self._group(self.mesh.tp)

    @property
    def groups(self) -> Group:
        """One GPU of each group: their ranks stand `tp` apart."""
        return self._group(self.mesh.dp, self.mesh.tp)

    @property
    def stage(self) -> Group:
        return self._group(self.mesh.of_stage)

    @property
    def stages(self) -> Group:
        """A GPU and the one that does the same in the next stage."""
        return self._group(2, self.mesh.of_stage)


def exchanges(
    model: ModelConfig,
    tables: Sequence[Operator],
    step: Step,
    mesh: Mesh,
    gpus_of_node: int,
) -> list[Exchange]:
    """All exchanges of one step, in the order in which they come.

    Args:
        model: As it is, not divided.
        tables: The operators that read memory tables, of one group and not divided.
        step: Of the sequences of one group: B T = N tokens.
        mesh: Its sizes.
        gpus_of_node: How many GPUs stand in one node: consecutive ones.
    """
    links = _Links(mesh=mesh, of_node=gpus_of_node)
    found = list(_ends(model, step, links)) if mesh.tp > 1 else []
    hidden = step.tokens * model.hidden_size * step.activation_bytes
    if mesh.tp > 1:
        for layers in _summed_mixers(model):
            found.append(_exchange(layers, "attention", "all_reduce", links.tp, hidden))
    for ffn, layers in model.ffn_groups:
        if isinstance(ffn, MoeFfn):
            found += _experts(ffn, layers, model.hidden_size, step, links)
        elif mesh.tp > 1:
            found.append(_exchange(layers, "ffn", "all_reduce", links.tp, hidden))
    if mesh.of_stage > 1:
        for memory in model.memory:
            of_memory = [operator for operator in tables if operator.layer_kind == memory]
            found += _tables(memory, of_memory, step, links)
    if mesh.pp > 1:
        stream = step.tokens * model.stream_width * step.activation_bytes
        found.append(_exchange((), "stages", "send", links.stages, stream, count=mesh.pp - 1))
    return [exchange for exchange in found if exchange.collective.group.gpus > 1]


def _summed_mixers(model: ModelConfig) -> Iterator[tuple[int, ...]]:
    """Layers whose mixer's partial results are summed by themselves.

    In a parallel block they are added to the FFN's first, and both are summed together.
    """
    fed = set(model.fed_layers) if model.block == "parallel" else set()
    for _, layers in model.attention_groups:
        alone = tuple(layer for layer in layers if layer not in fed)
        if alone:
            yield alone


def _ends(model: ModelConfig, step: Step, links: _Links) -> Iterator[Exchange]:
    """Rows of the embedding are summed, logits gathered."""
    a = step.activation_bytes
    tokens = step.batch if step.logits == "last" else step.tokens
    hidden = step.tokens * model.hidden_size * a
    yield _exchange((), "embed", "all_reduce", links.tp, hidden)
    yield _exchange((), "lm_head", "all_gather", links.tp, tokens * model.vocab_size * a)


def _experts(
    moe: MoeFfn, layers: Sequence[int], hidden_size: int, step: Step, links: _Links
) -> Iterator[Exchange]:
    """Tokens go to their experts and come back; partial results are summed."""
    mesh, a, n = links.mesh, step.activation_bytes, step.tokens
    hidden = n * hidden_size * a
    if mesh.dp == 1:
        if mesh.tp > 1:
            yield _exchange(layers, "moe", "all_reduce", links.tp, hidden)
        return
    width = moe.moe_latent_size or hidden_size
    copies = gpus_of_token(moe, mesh)
    sent = n / mesh.tp * copies * width * a
    yield _exchange(layers, "moe.dispatch", "all_to_all", links.stage, sent)
    yield _exchange(layers, "moe.combine", "all_to_all", links.stage, sent)
    if mesh.tp > 1:
        yield _exchange(layers, "moe", "all_gather", links.tp, hidden)
        if moe.shared_intermediate_size:
            yield _exchange(layers, "moe.shared", "all_reduce", links.tp, hidden)


def gpus_of_token(moe: MoeFfn, mesh: Mesh) -> float:
    """GPUs of a stage that have a part of one of a token's k experts, expected.

    ep (1 - C(E - E / ep, k) / C(E, k)) sets of experts under uniform routing, each on
    tp x dp / ep GPUs. Under another routing there are fewer, as popular experts share a GPU.
    """
    e, k, ep = moe.choices, moe.num_experts_per_tok, mesh.ep
    away = comb(e - moe.num_experts // ep, k) / comb(e, k)
    return ep * (1 - away) * mesh.gpus_of_an_expert


def _tables(
    memory: MemoryKind, operators: Sequence[Operator], step: Step, links: _Links
) -> Iterator[Exchange]:
    """Indices, scores, projected tokens, partial dots and outputs of the layers of one kind."""
    tables = [(operator, weight) for operator in operators for weight in _table(operator)]
    if not tables:
        return
    mesh, a, n = links.mesh, step.activation_bytes, step.tokens
    everyone = n * mesh.dp
    by_width = mesh.tables == "width"
    searched = set[tuple[int, ...]]()
    for operator, table in tables:
        layers, reads = operator.layers, table.active_rows or 0
        attribute = operator.leaf.partition(".")[0]
        if memory.addressed_by == "scores" and layers not in searched:
            searched.add(layers)
            listed = everyone * reads * (INDEX_BYTES + a)
            yield _exchange(layers, f"{attribute}.rows", "all_gather", links.groups, listed)
        width = table.cols
        if operator.parts[0].name == "dots":  # of projected tokens with chosen rows
            inputs = f"{attribute}.inputs"
            if by_width:
                given = n * width * a / mesh.tp
                yield _exchange(layers, inputs, "all_to_all", links.groups, given)
                dots = everyone * reads * a
                yield _exchange(layers, f"{operator.leaf}", "all_reduce", links.stage, dots)
            else:
                gathered = everyone * width * a
                yield _exchange(layers, inputs, "all_gather", links.groups, gathered)
            continue
        yield from _outputs(operator, links)


def _outputs(operator: Operator, links: _Links) -> Iterator[Exchange]:
    """What a GPU made for the tokens of all groups goes to each token's own group."""
    mesh, layers = links.mesh, operator.layers
    made = _output_bytes(operator)
    leaf = operator.leaf
    if mesh.tables == "width":
        given = made * mesh.dp / mesh.of_stage
        yield _exchange(layers, leaf, "all_to_all", links.groups, given)
        yield _exchange(layers, leaf, "all_gather", links.tp, made)
    elif mesh.dp == 1:
        yield _exchange(layers, leaf, "all_reduce", links.tp, made)
    else:
        yield _exchange(layers, leaf, "reduce_scatter", links.stage, made * mesh.dp)
        yield _exchange(layers, leaf, "all_gather", links.tp, made)


def _output_bytes(operator: Operator) -> Number:
    """Of one group's tokens: what the last part of the operator writes."""
    return sum((part.output_bytes for part in operator.parts[-1:]), start=0)


def _table(operator: Operator) -> Iterator[Weight]:
    return (weight for weight in operator.weights if weight.group == "memory_values")


def _exchange(
    layers: Sequence[int],
    leaf: str,
    name: CollectiveName,
    group: Group,
    payload: Number,
    *,
    count: int | None = None,
) -> Exchange:
    prefix = f"layers.{layer_pattern(layers)}." if layers else ""
    return Exchange(
        path=f"{prefix}{leaf}.{name}",
        count=count or len(layers) or 1,
        collective=Collective(name=name, group=group, payload_bytes=payload),
    )
