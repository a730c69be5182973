"""The letters of an operator's formula, and their values for one model and one step.

The cost model writes its formulas in the letters of its notation (`costmodel/__init__.py`). Here
each letter gets the number that it stands for, so that a reader can check the arithmetic.
"""

import re
from dataclasses import dataclass

from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention, attended_pairs
from costmodel.layers.base import LayerKind
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Step
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from costmodel.layers.site import expanded_paths
from costmodel.layers.ultramem import UltraMem

WORD = r"[A-Za-z_]+(?:['-][A-Za-z]+)*"  # residual, QK-norm, router's
TOKEN = re.compile(rf"(\s*)(residual adds|{WORD}|\d+|\S)")  # blanks before it, and a token


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What a letter of a formula stands for; `value` is None where the model has no such thing."""

    name: str
    value: Number | None
    meaning: str


def letters(model: ModelConfig, step: Step, operator: Operator) -> tuple[Letter, ...]:
    """The letters that the operator's formula uses, in the order in which it uses them."""
    known = {letter.name: letter for letter in _known(model, step, operator)}
    used = dict.fromkeys(token for _, token in TOKEN.findall(operator.formula))
    return tuple(known[name] for name in used if name in known)


def put_in(formula: str, found: tuple[Letter, ...]) -> str:
    """The formula with numbers for its letters, and a `*` where it writes factors side by side."""
    values = {letter.name: letter.value for letter in found if letter.value is not None}
    tokens = TOKEN.findall(formula)
    written: list[str] = []
    after_factor = False
    for (blank, piece), (_, following) in zip(tokens, [*tokens[1:], ("", "")], strict=True):
        named = following == "="  # `pairs = ...` says what a letter is: it stays
        factor = piece.isdigit() or (piece in values and not named)
        opens = piece == "(" and (following.isdigit() or following in (*values, "("))
        written.append(" * " if after_factor and (factor or opens) else blank)
        written.append(f"{values[piece]}" if factor and piece in values else piece)
        after_factor = factor or piece == ")"
    return "".join(written)


def _known(model: ModelConfig, step: Step, operator: Operator) -> list[Letter]:
    """Letters of the step and the model, and then those of the layer kind, which go first."""
    path = expanded_paths(operator.path)[0]
    n = step.batch if path == "final_norm" and step.logits == "last" else step.tokens
    adds = sum(part.flops for part in operator.parts if part.name == "residual_add")
    found = [
        Letter(name="B", value=step.batch, meaning="sequences"),
        Letter(name="T", value=step.new_tokens, meaning="new tokens of a sequence"),
        Letter(name="S", value=step.cached, meaning="cached tokens of a sequence"),
        Letter(name="N", value=n, meaning="tokens that this operator sees"),
        Letter(name="D", value=model.hidden_size, meaning="hidden size"),
        Letter(name="V", value=model.vocab_size, meaning="vocabulary"),
        Letter(
            name="residual adds",
            value=adds // (n * model.hidden_size),
            meaning="adds to the residual stream that wait for this norm",
        ),
    ]
    kind = _kind(model, path)
    if kind is not None:
        found += _of_kind(kind, step, operator, path)
    return found


def _kind(model: ModelConfig, path: str) -> LayerKind | None:
    """The configuration of the layer that an operator belongs to; None outside the layers."""
    if not path.startswith("layers."):
        return None
    _, number, room = path.split(".")[:3]
    layer = int(number)
    if room == "attention":
        return model.attention_of(layer)
    if room == "memory":
        for memory in model.memory:
            if layer in {at for at, _ in memory.placement(model.num_hidden_layers)}:
                return memory
    if room in ("ffn", "moe"):
        for ffn, layers in model.ffn_groups:
            if layer in layers:
                return ffn
    return None  # a norm


def _of_kind(kind: LayerKind, step: Step, operator: Operator, path: str) -> list[Letter]:
    rows: list[tuple[str, Number | None, str]] = []
    if isinstance(kind, Attention):
        rotated = kind.head_dim if kind.rotary_dim is None else kind.rotary_dim
        rows = [
            ("H", kind.num_attention_heads, "query heads"),
            ("K", kind.num_key_value_heads, "key-value heads"),
            ("d", kind.head_dim, "head size"),
            ("W", kind.sliding_window, "attention window"),
            ("rotary_dim", rotated, "rotated elements of a head"),
            ("pairs", attended_pairs(step, kind.sliding_window), "query-key pairs of a head"),
        ]
    elif isinstance(kind, LatentAttention):
        up = kind.v_head_dim if path.endswith("v_up") else kind.qk_nope_head_dim
        query = kind.q_lora_rank
        if query is None:  # not compressed: no norm of it, and the queries of all heads at once
            head = kind.qk_nope_head_dim + kind.qk_rope_head_dim
            query = kind.num_attention_heads * head if path.endswith("qkv_down") else 0
        rows = [
            ("H", kind.num_attention_heads, "query heads"),
            ("q", query, "query compression"),
            ("c", kind.kv_lora_rank, "latent width"),
            ("r", kind.qk_rope_head_dim, "rotary head size"),
            ("p", kind.qk_nope_head_dim, "no-position head size"),
            ("v", kind.v_head_dim, "value head size"),
            ("x", up, "head size of this projection"),
            ("pairs", attended_pairs(step, None), "query-key pairs of a head"),
        ]
    elif isinstance(kind, DenseFfn):
        rows = [("F", kind.intermediate_size, "FFN width")]
    elif isinstance(kind, MoeFfn):
        rows = [
            ("E", kind.num_experts, "experts of a layer"),
            ("k", kind.num_experts_per_tok, "experts a token chooses"),
            ("I", kind.moe_intermediate_size, "expert width"),
            ("F", kind.shared_intermediate_size, "width of the shared experts"),
        ]
    elif isinstance(kind, UltraMem | ProductKey | Peer):
        rows = _of_memory(kind, operator)
    return [Letter(name=name, value=value, meaning=meaning) for name, value, meaning in rows]


def _of_memory(
    kind: UltraMem | ProductKey | Peer, operator: Operator
) -> list[tuple[str, Number | None, str]]:
    first = kind.knn
    if isinstance(kind, UltraMem):
        keys = kind.row_keys(operator.count) * kind.value_expansion
        first = kind.first_stage_topk or kind.knn
    else:
        keys = kind.num_keys
    rows: list[tuple[str, Number | None, str]] = [
        ("H", kind.num_heads, "memory heads"),
        ("n", keys, "keys per side"),
        ("m", kind.knn, "rows read per token and head"),
        ("f", min(first, keys), "keys kept per side before the grid"),
        ("Dk", kind.key_dim, "key width per side"),
    ]
    if not isinstance(kind, Peer):
        rows.append(("Dv", kind.value_dim, "value width"))
    if isinstance(kind, UltraMem):
        rows += [
            ("Dp", kind.pre_value_dim, "pre-value width"),
            ("r", kind.tucker_rank, "Tucker rank"),
            ("c", kind.tucker_cores, "Tucker cores"),
            ("t", kind.value_expansion, "value expansion"),
        ]
    return rows
