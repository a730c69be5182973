"""Attention and FFN of each block, read from the keys that most families of config.json share."""

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from pydantic import ConfigDict, TypeAdapter

from costmodel.inputs.hf.fields import (
    COUNT,
    COUNT_OR_NULL,
    INDEX_OR_NULL,
    LAYER_TYPES_OR_NULL,
    LAYERS,
    SHARE_OR_NULL,
    WIDTH,
    WIDTH_OR_NULL,
    Fields,
    LayerType,
)
from costmodel.layers.primitives import Activation

Table: TypeAlias = dict[str, Any]
"""A layer kind as a model's TOML file would hold it."""

ActivationName: TypeAlias = Literal[
    "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "silu", "swish"
]
ACTIVATIONS: Final[dict[ActivationName, Activation]] = {
    "gelu_fast": "gelu",  # three spellings of the tanh form; plain "gelu" is the erf form
    "gelu_new": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
}
_ACTIVATION: Final[TypeAdapter[ActivationName]] = TypeAdapter(
    ActivationName, config=ConfigDict(strict=True)
)


CHOSEN: Final = ("num_experts_per_tok", "experts_per_token")  # the usual names of k


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """What the reader of a family returns: attention and FFN of each block, in order."""

    attention: list[Table]
    ffn: list[Table]
    tied: bool = False  # whether the embedding is the LM head, too, when the file does not say
    model: Table = field(default_factory=dict)  # further fields of the model: norms, softcap


def num_layers(fields: Fields) -> int:
    """The number of blocks."""
    return fields.required("num_hidden_layers", LAYERS)


def gqa(
    fields: Fields,
    *,
    num_heads: int | None = None,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    rotary_share: float | None = None,
    windows: list[int | None] | None = None,
    unrotated: list[bool] | None = None,
    **settings: object,
) -> list[Table]:
    """Grouped-query attention of each block.

    Args:
        fields: The file.
        num_heads: H, the family's default; None: the file must hold it.
        kv_heads: K, the family's default; None: H.
        head_dim: d, the family's default; None: hidden_size / H.
        rotary_share: The share of a head that the family rotates by default; None: whole heads.
        windows: The attention window of each block, None for none; None: no block has one.
        unrotated: Whether a block rotates no part of its heads; None: no block is so.
        settings: Further fields of the layer kind.
    """
    if num_heads is None:
        heads = fields.required("num_attention_heads", COUNT)
    else:
        heads = fields.optional("num_attention_heads", COUNT, num_heads)
    groups = fields.optional("num_key_value_heads", COUNT_OR_NULL, kv_heads)
    size = fields.optional("head_dim", WIDTH_OR_NULL, head_dim)
    if size is None:
        hidden = fields.required("hidden_size", WIDTH)
        if hidden % heads:
            rule = f"is not a multiple of num_attention_heads={heads}, and head_dim is not given"
            raise fields.refused("hidden_size", rule)
        size = hidden // heads
    table = {
        "kind": "gqa",
        "num_attention_heads": heads,
        "num_key_value_heads": heads if groups is None else groups,
        "head_dim": size,
        "rotary_dim": rotated_part(fields, size, rotary_share),
        **settings,
    }
    by_block = [None] * num_layers(fields) if windows is None else windows
    tables = [{**table, "sliding_window": window} for window in by_block]
    for block, plain in zip(tables, unrotated or [], strict=False):
        if plain:
            block["rotary_dim"] = 0
    return tables


def rotated_part(fields: Fields, head_dim: int, default_share: float | None) -> int | None:
    """The rotated elements of a head; None: all of them.

    A file states the part as a share (at its top or in `rope_parameters`) or as `rotary_dim`.
    `default_share` is that of the family; None: the family rotates whole heads, and a file that
    states anything else is refused.
    """
    stated: dict[str, int] = {}
    sources = fields.nested("rope_parameters") + fields.nested("rope_scaling")
    for part in sources if default_share is None else [fields, *sources]:
        share = part.optional("partial_rotary_factor", SHARE_OR_NULL, None)
        if share is not None:
            stated[f"{part.prefix}partial_rotary_factor"] = int(head_dim * share)
    if default_share is not None:
        rotary_dim = fields.optional("rotary_dim", INDEX_OR_NULL, None)
        if rotary_dim is not None:
            stated["rotary_dim"] = rotary_dim
    if len(set(stated.values())) > 1:
        keys = " and ".join(f"{key} makes it {value}" for key, value in stated.items())
        raise fields.refused("head_dim", f"it is not clear how much of a head is rotated: {keys}")
    default = head_dim if default_share is None else int(head_dim * default_share)
    rotated = next(iter(stated.values()), default)
    if default_share is None and rotated != head_dim:
        rule = f"a head rotated in part is not modelled for model_type {fields.model_type!r}"
        raise fields.refused(next(iter(stated)).split(".")[0], rule)
    return None if rotated == head_dim else rotated


def typed_windows(
    fields: Fields, window: int | None, default_types: list[LayerType]
) -> list[int | None]:
    """The window of each block, by `layer_types` of the file or else by those of the family."""
    types = fields.optional("layer_types", LAYER_TYPES_OR_NULL, None)
    if types is None:
        types = default_types
    if len(types) != len(default_types):
        rule = f"has {len(types)} entries for num_hidden_layers={len(default_types)}"
        raise fields.refused("layer_types", rule)
    if window is None and "sliding_attention" in types:
        raise fields.refused("sliding_window", "gives no window to the sliding_attention layers")
    return [window if kind == "sliding_attention" else None for kind in types]


def windows_but_each(fields: Fields, window: int | None, period: int) -> list[int | None]:
    """Windows in all blocks but each `period`-th, unless the file's `layer_types` differ."""
    types: list[LayerType] = [
        "full_attention" if window is None or (i + 1) % period == 0 else "sliding_attention"
        for i in range(num_layers(fields))
    ]
    return typed_windows(fields, window, types)


def activation(
    fields: Fields, key: str = "hidden_act", default: ActivationName = "silu", *also: str
) -> Activation:
    """The activation between the projections of an FFN; `also` are other spellings of `key`."""
    return ACTIVATIONS[fields.optional(key, _ACTIVATION, default, also=also)]


def dense(fields: Fields, act: Activation, *, bias: bool = False) -> Table:
    """A gated FFN of width `intermediate_size`."""
    width = fields.required("intermediate_size", WIDTH)
    return {"kind": "dense", "intermediate_size": width, "activation": act, "bias": bias}


def moe(
    fields: Fields,
    act: Activation,
    *names: str,
    width: str = "moe_intermediate_size",
    chosen: tuple[str, ...] = CHOSEN,
    **settings: object,
) -> Table:
    """Routed experts.

    Args:
        fields: The file.
        act: The experts' activation.
        names: The family's spellings of the number of experts.
        width: The family's spelling of the width of an expert.
        chosen: Its spellings of the number of experts that a token chooses.
        settings: Further fields of the layer kind.
    """
    experts = fields.required(names[0], COUNT, also=names[1:])
    per_token = fields.required(chosen[0], COUNT, also=chosen[1:])
    if per_token > experts:
        rule = f"exceeds {fields.spelling(*names)}={experts}"
        raise fields.refused(fields.spelling(*chosen), rule)
    return {
        "kind": "moe",
        "num_experts": experts,
        "num_experts_per_tok": per_token,
        "moe_intermediate_size": fields.required(width, WIDTH),
        "activation": act,
        **settings,
    }


def leave_out_mtp(fields: Fields, key: str, *also: str) -> None:
    """Note that layers of multi-token prediction, whose number is at `key`, are not costed."""
    modules = fields.optional(key, INDEX_OR_NULL, None, also=also)
    if modules:
        fields.notes.append(
            f"{fields.spelling(key, *also)}={modules}: the multi-token prediction layers are left"
            " out; a plain decode step does not run them."
        )
