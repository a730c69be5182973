"""Readers of config.json files of dense models whose norms differ in kind or in place."""

from typing import Final

from pydantic import ConfigDict, TypeAdapter

from costmodel.inputs.hf.blocks import (
    Blocks,
    Table,
    activation,
    dense,
    gqa,
    num_layers,
    windows_but_each,
)
from costmodel.inputs.hf.dense_families import glm
from costmodel.inputs.hf.fields import COUNT, FLAG, NUMBER_OR_NULL, WINDOW_OR_NULL, Fields

NORMS_BEHIND: Final[Table] = {"block": "norms_behind"}
_PERIOD: Final[TypeAdapter[int | str | None]] = TypeAdapter(
    int | str | None, config=ConfigDict(strict=True)
)


def olmo2(fields: Fields) -> Blocks:
    """OLMo 2: norms of the sublayers' outputs alone, QK-norm over all heads together."""
    return _olmo(fields, [None] * num_layers(fields))


def olmo3(fields: Fields) -> Blocks:
    """OLMo 3: OLMo 2 with a window in three blocks of four."""
    window = fields.optional("sliding_window", WINDOW_OR_NULL, 4096)
    return _olmo(fields, windows_but_each(fields, window, 4))


def _olmo(fields: Fields, windows: list[int | None]) -> Blocks:
    bias = fields.optional("attention_bias", FLAG, default=False)
    return Blocks(
        attention=gqa(
            fields, windows=windows, qk_norm="full", attention_bias=bias, output_bias=bias
        ),
        ffn=[dense(fields, activation(fields))] * len(windows),
        model=NORMS_BEHIND,
    )


def exaone4(fields: Fields) -> Blocks:
    """EXAONE 4: norms of outputs alone; beside blocks with a window, the others rotate nothing."""
    layers = num_layers(fields)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, 4096)
    stated = fields.optional("sliding_window_pattern", _PERIOD, 4)
    if isinstance(stated, str) and not fields.holds("layer_types"):
        raise fields.refused("sliding_window_pattern", "needs layer_types beside it")
    period = stated if isinstance(stated, int) and stated > 0 else 1
    windows = windows_but_each(fields, window, 1 if window is None else period)
    return Blocks(
        attention=gqa(
            fields,
            kv_heads=32,
            windows=windows,
            unrotated=[window is not None and own is None for own in windows],
            qk_norm="head",
        ),
        ffn=[dense(fields, activation(fields))] * layers,
        model=NORMS_BEHIND,
    )


def gemma(fields: Fields) -> Blocks:
    """Gemma: heads of 256, GELU in its tanh form whatever the file calls it."""
    bias = fields.optional("attention_bias", FLAG, default=False)
    return Blocks(
        attention=gqa(
            fields,
            num_heads=16,
            kv_heads=16,
            head_dim=256,
            attention_bias=bias,
            output_bias=bias,
        ),
        ffn=[dense(fields, "gelu")] * num_layers(fields),
        tied=True,
    )


def gemma2(fields: Fields) -> Blocks:
    """Gemma 2: a window in every other block, norms on both sides, softcaps."""
    bias = fields.optional("attention_bias", FLAG, default=False)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, 4096, also=("sliding_window_size",))
    of_scores = fields.optional("attn_logit_softcapping", NUMBER_OR_NULL, 50.0)
    of_logits = fields.optional("final_logit_softcapping", NUMBER_OR_NULL, 30.0)
    act = activation(fields, "hidden_activation", "gelu_pytorch_tanh", "hidden_act")
    return Blocks(
        attention=gqa(
            fields,
            num_heads=8,
            kv_heads=4,
            head_dim=256,
            windows=windows_but_each(fields, window, 2),
            attention_bias=bias,
            output_bias=bias,
            softcap=of_scores is not None,
        ),
        ffn=[dense(fields, act)] * num_layers(fields),
        tied=True,
        model={"post_norms": True, "logit_softcap": of_logits is not None},
    )


def gemma3(fields: Fields) -> Blocks:
    """Gemma 3: five blocks with a window, then one without; norms on both sides of each sublayer.

    Published files leave out sizes that equal the defaults of the class.
    """
    bias = fields.optional("attention_bias", FLAG, default=False)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, 4096)
    period = fields.optional("sliding_window_pattern", COUNT, 6, also=("_sliding_window_pattern",))
    layers = num_layers(fields)
    windows = windows_but_each(fields, window, period)
    act = activation(fields, "hidden_activation", "gelu_pytorch_tanh", "hidden_act")
    return Blocks(
        attention=gqa(
            fields,
            num_heads=8,
            kv_heads=4,
            head_dim=256,
            windows=windows,
            qk_norm="head",
            attention_bias=bias,
            output_bias=bias,
        ),
        ffn=[dense(fields, act)] * layers,
        tied=True,
        model={"post_norms": True},
    )


def glm4(fields: Fields) -> Blocks:
    """GLM-4-0414: GLM with norms on both sides of each sublayer."""
    blocks = glm(fields)
    return Blocks(attention=blocks.attention, ffn=blocks.ffn, model={"post_norms": True})


def cohere(fields: Fields) -> Blocks:
    """Command R: attention and FFN side by side behind one LayerNorm without a bias."""
    return _cohere(fields, [None] * num_layers(fields), unrotated=None)


def cohere2(fields: Fields) -> Blocks:
    """Command R7B: Command R with a window in three blocks of four; the fourth rotates nothing."""
    window = fields.optional("sliding_window", WINDOW_OR_NULL, 4096)
    period = fields.optional("sliding_window_pattern", COUNT, 4, also=("_sliding_window_pattern",))
    windows = windows_but_each(fields, window, period)
    return _cohere(fields, windows, unrotated=[own is None for own in windows])


def _cohere(fields: Fields, windows: list[int | None], *, unrotated: list[bool] | None) -> Blocks:
    bias = fields.optional("attention_bias", FLAG, default=False)
    attention = gqa(
        fields, windows=windows, unrotated=unrotated, attention_bias=bias, output_bias=bias
    )
    return Blocks(
        attention=attention,
        ffn=[dense(fields, activation(fields))] * len(windows),
        tied=True,
        model={"norm": "layer", "block": "parallel"},
    )


def starcoder2(fields: Fields) -> Blocks:
    """StarCoder2: LayerNorm with biases, an FFN without a gate, biases of all projections."""
    layers = num_layers(fields)
    bias = fields.optional("use_bias", FLAG, default=True)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, None)
    act = activation(fields, "hidden_act", "gelu_pytorch_tanh")
    ffn = {**dense(fields, act, bias=bias), "gated": False}
    return Blocks(
        attention=gqa(
            fields,
            kv_heads=2,
            windows=[window] * layers,
            attention_bias=bias,
            output_bias=bias,
        ),
        ffn=[ffn] * layers,
        tied=True,
        model={"norm": "layer_bias"},
    )
