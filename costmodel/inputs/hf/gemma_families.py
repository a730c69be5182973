"""Readers of config.json files of Gemma 3n and 4: mixed head sizes, K = V, shared caches, AltUp.

Published files state every size that changes a cost; none is taken from a class's defaults.
"""

from typing import Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter

from costmodel.inputs.hf.blocks import (
    Blocks,
    Table,
    activation,
    dense,
    gqa,
    num_layers,
    typed_windows,
)
from costmodel.inputs.hf.fields import (
    ANYTHING,
    COUNT,
    COUNT_OR_NULL,
    FLAG,
    INDEX,
    NUMBER_OR_NULL,
    SHARE_OR_NULL,
    VOCABULARY,
    WIDTH,
    WINDOW_OR_NULL,
    Fields,
    LayerType,
)
from costmodel.layers.base import MAX_LAYERS, Width

_WIDTHS: Final[TypeAdapter[int | list[int]]] = TypeAdapter(
    Width | Annotated[list[Width], Field(max_length=MAX_LAYERS, fail_fast=True)],
    config=ConfigDict(strict=True),
)
ROTATED_SHARE = 0.25  # of the heads of full attention, unless the file says otherwise


def gemma4(fields: Fields) -> Blocks:
    """Gemma 4, the dense ones: full attention with wider heads, per-layer embeddings in some."""
    window = fields.required("sliding_window", WINDOW_OR_NULL)
    windows = gemma_windows(fields, window, period=6)
    shared = shared_layers(fields, windows)
    sliding, full = _gemma4_attention(fields, window)
    act = activation(fields, "hidden_activation", "gelu_pytorch_tanh")
    ffn = dense(fields, act)
    wide = fields.optional("use_double_wide_mlp", FLAG, default=False)
    doubled = {**ffn, "intermediate_size": 2 * ffn["intermediate_size"]}
    of_logits = fields.optional("final_logit_softcapping", NUMBER_OR_NULL, None)
    return Blocks(
        attention=[
            reader_of(own) if reads else own
            for own, reads in zip(
                [full if one is None else sliding for one in windows], shared, strict=True
            )
        ],
        ffn=[doubled if wide and reads else ffn for reads in shared],
        tied=True,
        model={
            "post_norms": True,
            "logit_softcap": of_logits is not None,
            "memory": per_layer_embeddings(fields),
        },
    )


def gemma3n(fields: Fields) -> Blocks:
    """Gemma 3n: AltUp, LAUREL, per-layer embeddings; the sparsity of FFNs saves no dense work."""
    window = fields.required("sliding_window", WINDOW_OR_NULL)
    windows = gemma_windows(fields, window, period=5)
    shared = shared_layers(fields, windows)
    fields.required("head_dim", WIDTH)
    fields.required("num_key_value_heads", COUNT)
    bias = fields.optional("attention_bias", FLAG, default=False)
    attention = gqa(
        fields,
        windows=windows,
        qk_norm="head",
        attention_bias=bias,
        output_bias=bias,
        attention_k_eq_v=False,
        value_norm=True,
        shared_kv=False,
    )
    act = activation(fields, "hidden_activation", "gelu_pytorch_tanh")
    widths = _widths(fields, len(windows))
    fields.optional("activation_sparsity_pattern", ANYTHING, None)
    of_logits = fields.required("final_logit_softcapping", NUMBER_OR_NULL)
    return Blocks(
        attention=[
            reader_of(own) if reads else own for own, reads in zip(attention, shared, strict=True)
        ],
        ffn=[{"kind": "dense", "intermediate_size": own, "activation": act} for own in widths],
        tied=True,
        model={
            "post_norms": True,
            "logit_softcap": of_logits is not None,
            "altup": {"altup_num_inputs": fields.required("altup_num_inputs", COUNT)},
            "laurel": {"laurel_rank": fields.required("laurel_rank", WIDTH)},
            "memory": per_layer_embeddings(fields),
        },
    )


def _widths(fields: Fields, layers: int) -> list[int]:
    """The FFN's width of each block: one for all, or a list."""
    stated = fields.required("intermediate_size", _WIDTHS)
    widths = stated if isinstance(stated, list) else [stated] * layers
    if len(widths) != layers:
        raise fields.refused("intermediate_size", f"is not of num_hidden_layers={layers} blocks")
    return widths


def gemma_windows(fields: Fields, window: int | None, *, period: int) -> list[int | None]:
    """The window of each block; without `layer_types`, all but each `period`-th have one."""
    types: list[LayerType] = [
        "full_attention" if (i + 1) % period == 0 else "sliding_attention"
        for i in range(num_layers(fields))
    ]
    return typed_windows(fields, window, types)


def shared_layers(fields: Fields, windows: list[int | None]) -> list[bool]:
    """Whether a block reads the cache of an earlier one: the last `num_kv_shared_layers` do.

    Raises:
        InputError: No block before them has a cache of a kind that they need.
    """
    shared = fields.required("num_kv_shared_layers", INDEX)
    first = len(windows) - shared
    if shared and not set(windows[first:]) <= set(windows[: max(first, 0)]):
        rule = f"leaves a kind of attention without a cache in num_hidden_layers={len(windows)}"
        raise fields.refused("num_kv_shared_layers", rule)
    return [i >= first for i in range(len(windows))]


def reader_of(attention: Table) -> Table:
    """The same attention without keys and values of its own."""
    return {**attention, "attention_k_eq_v": False, "value_norm": False, "shared_kv": True}


def _gemma4_attention(fields: Fields, window: int | None) -> tuple[Table, Table]:
    """Attention within a window, and full attention."""
    heads = fields.required("num_attention_heads", COUNT)
    groups = fields.required("num_key_value_heads", COUNT)
    keys_are_values = fields.required("attention_k_eq_v", FLAG)
    of_full = fields.optional("num_global_key_value_heads", COUNT_OR_NULL, None)
    bias = fields.optional("attention_bias", FLAG, default=False)
    sliding = {
        "kind": "gqa",
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": fields.required("head_dim", WIDTH),
        "qk_norm": "head",
        "rotary_dim": None,
        "sliding_window": window,
        "attention_bias": bias,
        "output_bias": bias,
        "attention_k_eq_v": False,
        "value_norm": True,
        "shared_kv": False,
    }
    size = fields.required("global_head_dim", WIDTH)
    full = {
        **sliding,
        "num_key_value_heads": of_full if keys_are_values and of_full is not None else groups,
        "head_dim": size,
        "rotary_dim": _rotated_part(fields, size),
        "sliding_window": None,
        "attention_k_eq_v": keys_are_values,
    }
    return sliding, full


def _rotated_part(fields: Fields, head_dim: int) -> int | None:
    """The rotated elements of a head of full attention; heads within a window are rotated whole."""
    share = ROTATED_SHARE
    for part in fields.nested("rope_parameters"):
        kind = part.prefix.rstrip(".").rpartition(".")[2]
        stated = part.optional("partial_rotary_factor", SHARE_OR_NULL, None)
        if kind == "full_attention":
            share = 1.0 if stated is None else stated
        elif stated not in (None, 1):
            raise part.refused("partial_rotary_factor", "heads within a window are rotated whole")
    rotated = 2 * int(share * head_dim // 2)
    return None if rotated == head_dim else rotated


def per_layer_embeddings(fields: Fields) -> list[Table]:
    """The memory layer of a file with per-layer embeddings; a width of 0 says that it has none."""
    width = fields.required("hidden_size_per_layer_input", INDEX)
    if not width:
        fields.optional("vocab_size_per_layer_input", VOCABULARY, None)
        return []
    return [
        {
            "kind": "per_layer_embedding",
            "layers": "all",
            "hidden_size_per_layer_input": fields.required("hidden_size_per_layer_input", WIDTH),
            "vocab_size_per_layer_input": fields.required("vocab_size_per_layer_input", VOCABULARY),
        }
    ]
