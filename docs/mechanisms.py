"""The blocks of docs/mechanisms.md: each layer kind and option, what is counted and left out.

Texts are the docstrings of the kinds and of what they share; operators and numbers come from the
cost model. `OPTIONS` alone is written here, since a field has no docstring.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from types import ModuleType
from typing import Any

from costmodel import units
from costmodel.costs.operators import build_operators
from costmodel.costs.totals import stored_weights
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.base import FfnKind, LayerKind, MemoryKind, MixerKind
from costmodel.layers.operator import Operator
from docs.markdown import markdown

CONTEXT = 4096  # tokens cached in the steps of the examples
KEEPS = ("kv_token_bytes", "kept_tokens", "state_bytes")
LEFT_OUT = "Leaves out: "

OPTIONS: tuple[tuple[str, str, str], ...] = (  # kind, field, what it adds to the counts
    ("gqa", "sliding_window", "pairs, reads and cache of at most W tokens, the new one among them"),
    ("gqa", "attention_chunk_size", "pairs and reads within the token's chunk; cache of a chunk"),
    ("gqa", "floor_scale", "a multiplication of each element of a query; its factor is left out"),
    ("gqa", "qk_norm", "a norm of queries and keys, its weights if it has any; cache unchanged"),
    ("gqa", "rotary_dim", "rotation of so many elements of a head; 0: none (NoPE)"),
    ("gqa", "output_gate", "a query projection twice as wide, and a sigmoid of each element"),
    ("gqa", "sinks", "a parameter and a score a head; no cache"),
    ("gqa", "softcap", "3 FLOPs a score"),
    ("gqa", "attention_bias", "biases of queries, keys and values"),
    ("mla", "q_lora_rank", "a query projection of low rank, with a norm"),
    ("mla", "mla_use_nope", "no rotation; the cache keeps the rotary key's elements"),
    ("mla", "index_topk", "an indexer that scores all held tokens; pairs and reads of the best"),
    ("mla", "shared_index", "no indexer of its own: the choice of the last one before it"),
    (
        "compressed",
        "compress_ratio",
        "a compressor, and an entry of each m tokens beside the window",
    ),
    ("compressed", "index_topk", "an indexer that scores all entries; pairs and reads of the best"),
    ("compressed", "keys_of_entries", "keys of the indexer are projections of entries"),
    ("compressed", "shared_entries", "no compressor: reads the entries of an earlier layer"),
    ("compressed", "shared_index", "no indexer of its own: the choice of the last one before it"),
    (
        "compressed",
        "candidate_topk_blocks",
        "later indexers score the best t blocks of entries alone",
    ),
    ("moe", "shared_intermediate_size", "experts that every token runs, in all counts whole"),
    ("moe", "shared_expert_gate", "a matrix of D x 1, a sigmoid, a multiplication an element"),
    ("moe", "scoring", "another function of all scores, or of the chosen ones alone"),
    ("moe", "hash_vocab_size", "no top-k: k numbers of a table for each token id; a buffer"),
    ("moe", "weighted_input", "weights multiply what experts read: as many FLOPs"),
    ("moe", "score_correction_bias", "a parameter an expert, which is in the totals"),
    ("moe", "n_group", "a choice of groups before that of experts"),
    ("moe", "expert_bias", "biases of the touched experts"),
)


@cache
def _presets() -> Mapping[str, ModelConfig]:
    return {name: load_model(name) for name in model_names()}


def _layers_of(model: ModelConfig) -> Iterator[tuple[LayerKind, int]]:
    """The different layers of a model, and how many blocks have each."""
    for kind, layers in (*model.attention_groups, *model.ffn_groups):
        yield kind, len(layers)
    for memory in model.memory:
        yield memory, max(len(memory.placement(model.num_hidden_layers)), 1)


def _with_kind(kind: type[LayerKind]) -> dict[str, int]:
    """The presets that have a layer kind, with the number of blocks that do."""
    counts = {
        name: sum(count for layer, count in _layers_of(model) if type(layer) is kind)
        for name, model in _presets().items()
    }
    return {name: count for name, count in counts.items() if count}


def _operators(name: str, kind: type[LayerKind]) -> list[Operator]:
    """The operators of a layer of a kind in a preset that has the most, in a decode step."""
    operators = build_operators(_presets()[name], Workload(batch=1, context=CONTEXT).step())
    by_layer = [
        [operator for operator in operators if operator.layer_kind == layer]
        for layer, _ in _layers_of(_presets()[name])
        if type(layer) is kind
    ]
    return max(by_layer, key=len)


def _example(kind: type[LayerKind]) -> str:
    """The preset whose layer of this kind has the most operators; of equal ones the first."""
    return max(_with_kind(kind), key=lambda name: len(_operators(name, kind)))


def _left_out(module: ModuleType) -> list[str]:
    """What the docstrings of a layer kind, and of the functions that it calls, say to leave out."""
    known: list[str] = []
    for held in vars(module).values():
        if not getattr(held, "__module__", "").startswith("costmodel.layers"):
            continue
        methods = vars(held).values() if inspect.isclass(held) else ()
        for documented in (held, *methods):
            text = inspect.getdoc(documented) if callable(documented) else None
            known += [
                " ".join(part.split("\n\n")[0].split("Source:")[0].split())
                for part in (text or "").split(LEFT_OUT)[1:]
            ]
    return list(dict.fromkeys(known))


def _kept(kind: type[LayerKind]) -> str:
    """What the docstrings of a kind say that it keeps of a sequence."""
    own = [base for base in kind.__mro__ if base.__module__ != LayerKind.__module__]
    said = [
        " ".join((inspect.getdoc(getattr(kind, name)) or "").split("Raises:")[0].split())
        for name in KEEPS
        if any(name in vars(base) for base in own)
    ]
    return " ".join(said) or "Nothing."


def _numbers(name: str, kind: type[LayerKind]) -> str:
    """One layer of the example: parameters, FLOPs of a token, and what it keeps."""
    operators, model = _operators(name, kind), _presets()[name]
    step = Workload(batch=1, context=CONTEXT).step()
    layer = operators[0].layer_kind
    weights = sum(weight.parameters for weight, _ in stored_weights(operators))
    facts = [
        f"{weights:,} parameters",
        f"{units.flops(sum(op.total('flops') for op in operators))} a token in decode",
    ]
    if isinstance(layer, MixerKind) and layer.kv_token_bytes(step):
        facts.append(f"{layer.kv_token_bytes(step):,} bytes of KV cache a token")
    if isinstance(layer, MixerKind | MemoryKind) and layer.state_bytes(model.hidden_size, step):
        facts.append(f"{layer.state_bytes(model.hidden_size, step):,} bytes of state a sequence")
    return f"One layer of {name}: {', '.join(facts)}."


def _section(kind: type[LayerKind]) -> str:
    module = sys.modules[kind.__module__]
    presets = _with_kind(kind)
    name = _example(kind)
    lines = [
        f"### {kind.kind}",
        inspect.getdoc(module) or "",
        f"- **Keeps of a sequence**: {_kept(kind)}",
        *(f"- **Leaves out**: {text}" for text in _left_out(module)),
        f"- **Presets**: {', '.join(f'{preset} ({n})' for preset, n in presets.items())}",
        f"- **Numbers**: {_numbers(name, kind)}",
    ]
    prose = "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])
    rows = [
        (f"`{operator.leaf}`", operator.summary, f"`{operator.formula}`", operator.source)
        for operator in _operators(name, kind)
    ]
    return f"{prose}\n\n{markdown(('operator', 'does', 'FLOPs', 'source'), rows, text=4)}"


def _of_base(base: type[Any]) -> Callable[[], str]:  # a base of kinds is abstract
    def block() -> str:
        kinds: list[type[LayerKind]] = [kind for kind in base.__subclasses__() if _with_kind(kind)]
        return "\n".join(_section(kind) for kind in sorted(kinds, key=lambda kind: kind.kind))

    return block


def mechanism_options() -> str:
    """Fields that change what a layer does, with the presets that set them."""
    rows = []
    for kind_name, field, says in OPTIONS:
        having = []
        for name, model in _presets().items():
            for layer, _ in _layers_of(model):
                if layer.kind == kind_name and getattr(layer, field) != _default(layer, field):
                    having.append(name)
                    break
        rows.append((kind_name, f"`{field}`", says, ", ".join(having) or "none"))
    return markdown(("kind", "field", "counted", "presets"), rows, text=4)


def _default(layer: LayerKind, field: str) -> object:
    (found,) = (each for each in fields(layer) if each.name == field)  # type: ignore[arg-type]  # kinds are dataclasses
    return found.default


TABLES: dict[str, Callable[[], str]] = {
    "mechanisms_mixers": _of_base(MixerKind),
    "mechanisms_ffns": _of_base(FfnKind),
    "mechanisms_memories": _of_base(MemoryKind),
    "mechanism_options": mechanism_options,
}
