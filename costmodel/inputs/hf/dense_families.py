"""Readers of config.json files of dense models whose sublayers have an RMSNorm of their input."""

import re
from typing import Final

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
    FLAG,
    INDEX,
    INDICES_OR_NULL,
    NUMBER_OR_NULL,
    NUMBERS_OR_NULL,
    WIDTH_OR_NULL,
    WINDOW_OR_NULL,
    Fields,
    LayerType,
)

_OF_PICTURES: Final = re.compile(r"^(anyres|im|text|video|vit)_", re.ASCII)


def llama(fields: Fields) -> Blocks:
    """Llama: one flag for biases of all four attention projections, one for those of the FFN."""
    bias = fields.optional("attention_bias", FLAG, default=False)
    ffn_bias = fields.optional("mlp_bias", FLAG, default=False)
    return Blocks(
        attention=gqa(fields, attention_bias=bias, output_bias=bias),
        ffn=[dense(fields, activation(fields), bias=ffn_bias)] * num_layers(fields),
    )


def mistral(fields: Fields) -> Blocks:
    """Mistral: a window of 4096 tokens in all blocks by default."""
    layers = num_layers(fields)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, 4096)
    return Blocks(
        attention=gqa(fields, kv_heads=8, windows=[window] * layers),
        ffn=[dense(fields, activation(fields))] * layers,
    )


def qwen2(fields: Fields) -> Blocks:
    """Qwen2 and Qwen2.5: the projections of queries, keys and values always have a bias."""
    return Blocks(
        attention=gqa(
            fields, kv_heads=32, windows=last_blocks_windows(fields), attention_bias=True
        ),
        ffn=[dense(fields, activation(fields))] * num_layers(fields),
    )


def qwen3(fields: Fields) -> Blocks:
    """Qwen3: QK-norm of each head."""
    bias = fields.optional("attention_bias", FLAG, default=False)
    return Blocks(
        attention=gqa(
            fields,
            kv_heads=32,
            head_dim=128,
            windows=last_blocks_windows(fields),
            qk_norm="head",
            attention_bias=bias,
            output_bias=bias,
        ),
        ffn=[dense(fields, activation(fields))] * num_layers(fields),
    )


def last_blocks_windows(fields: Fields, *, used: bool = False, first: int = 28) -> list[int | None]:
    """The windows of Qwen: of the blocks from `max_window_layers` on, if `use_sliding_window`.

    `used` and `first` are the family's defaults of the two.
    """
    is_used = fields.optional("use_sliding_window", FLAG, used)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, 4096)
    begin = fields.optional("max_window_layers", INDEX, first)
    used_window = window if is_used else None
    default_types: list[LayerType] = [
        "full_attention" if used_window is None or i < begin else "sliding_attention"
        for i in range(num_layers(fields))
    ]
    return typed_windows(fields, used_window, default_types)


def ministral3(fields: Fields) -> Blocks:
    """Ministral 3: Mistral without a window by default, heads of 128."""
    layers = num_layers(fields)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, None)
    return Blocks(
        attention=gqa(fields, kv_heads=8, head_dim=128, windows=[window] * layers),
        ffn=[dense(fields, activation(fields))] * layers,
    )


def phi3(fields: Fields) -> Blocks:
    """Phi-3 and Phi-4: a window in all blocks, if any; heads may be rotated in part."""
    layers = num_layers(fields)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, None)
    return Blocks(
        attention=gqa(fields, rotary_share=1.0, windows=[window] * layers),
        ffn=[dense(fields, activation(fields))] * layers,
    )


def smollm3(fields: Fields) -> Blocks:
    """SmolLM3: every fourth block rotates nothing; such blocks alone may have a window."""
    layers = num_layers(fields)
    bias = fields.optional("attention_bias", FLAG, default=False)
    ffn_bias = fields.optional("mlp_bias", FLAG, default=False)
    step = fields.optional("no_rope_layer_interval", COUNT, 4)
    rotated = fields.optional("no_rope_layers", INDICES_OR_NULL, None)
    if rotated is None:
        rotated = [int((i + 1) % step != 0) for i in range(layers)]
    if len(rotated) != layers or not set(rotated) <= {0, 1}:
        rule = f"is not a 0 or 1 (rotated) for each of num_hidden_layers={layers}"
        raise fields.refused("no_rope_layers", rule)
    stated = fields.optional("sliding_window", WINDOW_OR_NULL, None)
    window = stated if fields.optional("use_sliding_window", FLAG, default=False) else None
    types: list[LayerType] = [
        "sliding_attention" if window is not None and not turned else "full_attention"
        for turned in rotated
    ]
    return Blocks(
        attention=gqa(
            fields,
            kv_heads=4,
            windows=typed_windows(fields, window, types),
            unrotated=[not turned for turned in rotated],
            attention_bias=bias,
            output_bias=bias,
        ),
        ffn=[dense(fields, activation(fields), bias=ffn_bias)] * layers,
        tied=True,
    )


def glm(fields: Fields) -> Blocks:
    """GLM-4 as released first: biases of queries, keys and values; half of a head is rotated."""
    bias = fields.optional("attention_bias", FLAG, default=True)
    return Blocks(
        attention=gqa(fields, kv_heads=2, head_dim=128, rotary_share=0.5, attention_bias=bias),
        ffn=[dense(fields, activation(fields))] * num_layers(fields),
    )


def granite(fields: Fields) -> Blocks:
    """Granite 3: Llama with constant factors, which the matrices beside them can take in."""
    note_multipliers(fields)
    return llama(fields)


def note_multipliers(fields: Fields) -> None:
    """Read the constant factors of Granite, and note what is assumed of those that are not 1."""
    fields.optional("attention_multiplier", NUMBER_OR_NULL, None)  # in place of 1 / sqrt(d)
    note_constants(fields, "embedding_multiplier", "logits_scaling", "residual_multiplier")


def note_constants(fields: Fields, *names: str) -> None:
    """Read constant factors, single ones or one for each part, and note those that are not 1."""
    factors = {name: fields.optional(name, NUMBERS_OR_NULL, None) for name in names}
    stated = [f"{name}={value}" for name, value in factors.items() if value not in (None, 1)]
    if stated:
        fields.notes.append(
            f"{', '.join(stated)}: the matrices beside such a constant factor can take it in; it is"
            " not costed."
        )


def seed_oss(fields: Fields) -> Blocks:
    """Seed-OSS: a flag each for biases of queries, keys and values, of the output, of the FFN."""
    bias = fields.optional("attention_bias", FLAG, default=True)
    output_bias = fields.optional("attention_out_bias", FLAG, default=False)
    ffn_bias = fields.optional("mlp_bias", FLAG, default=False)
    return Blocks(
        attention=gqa(
            fields, kv_heads=8, head_dim=128, attention_bias=bias, output_bias=output_bias
        ),
        ffn=[dense(fields, activation(fields), bias=ffn_bias)] * num_layers(fields),
    )


def ernie4_5(fields: Fields) -> Blocks:
    """ERNIE 4.5, the dense ones: heads of 128, no biases."""
    return Blocks(
        attention=gqa(fields, kv_heads=2, head_dim=128),
        ffn=[dense(fields, activation(fields))] * num_layers(fields),
        tied=True,
    )


def hunyuan_v1_dense(fields: Fields) -> Blocks:
    """Hunyuan, the dense ones: QK-norm of each head, after the rotation."""
    return Blocks(
        attention=hunyuan_attention(fields),
        ffn=[dense(fields, activation(fields))] * num_layers(fields),
    )


def hunyuan_attention(fields: Fields) -> list[Table]:
    """The attention that Hunyuan's dense and sparse models share."""
    for key in fields.keys_matching(_OF_PICTURES):  # settings of towers that text models lack
        fields.optional(key, ANYTHING, None)
    bias = fields.optional("attention_bias", FLAG, default=False)
    size = fields.optional("head_dim", WIDTH_OR_NULL, None, also=("attention_head_dim",))
    return gqa(fields, head_dim=size, qk_norm="head", attention_bias=bias, output_bias=bias)
