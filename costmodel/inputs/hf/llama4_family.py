"""Reader of Llama 4: chunked attention with rotation or attention to all without, MoE or dense."""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter

from costmodel.inputs.hf.blocks import Blocks, Table, activation, gqa, moe, num_layers
from costmodel.inputs.hf.fields import (
    COUNT,
    FLAG,
    INDICES_OR_NULL,
    WIDTH,
    WINDOW_OR_NULL,
    Fields,
)
from costmodel.inputs.hf.moe_families import LOCAL
from costmodel.layers.base import MAX_LAYERS

Reach: TypeAlias = Literal["chunked_attention", "full_attention"]
_STRICT: Final = ConfigDict(strict=True)
_REACHES: Final[TypeAdapter[list[Reach] | None]] = TypeAdapter(
    Annotated[list[Reach], Field(max_length=MAX_LAYERS, fail_fast=True)] | None, config=_STRICT
)
_ROTATED: Final[TypeAdapter[list[Literal[0, 1]] | None]] = TypeAdapter(
    Annotated[list[Literal[0, 1]], Field(max_length=MAX_LAYERS, fail_fast=True)] | None,
    config=_STRICT,
)
_SWITCH: Final[TypeAdapter[bool | int]] = TypeAdapter(  # the first files say 4
    bool | Annotated[int, Field(ge=0)], config=_STRICT
)


def llama4(fields: Fields) -> Blocks:
    """Llama 4: MoE in each block, or in each second one, whose weights scale what experts read."""
    layers, act = num_layers(fields), activation(fields)
    step = fields.optional("interleave_moe_layer_step", COUNT, 1)
    listed = fields.optional("moe_layers", INDICES_OR_NULL, None)
    sparse = {i for i in range(layers) if (i + 1) % step == 0} if listed is None else set(listed)
    experts = moe(
        fields,
        act,
        *LOCAL,
        width="intermediate_size",
        shared_intermediate_size=fields.required("intermediate_size", WIDTH),
        scoring="sigmoid_of_chosen",
        weighted_input=True,
    )
    width = fields.optional("intermediate_size_mlp", WIDTH, 16384)
    plain = {"kind": "dense", "intermediate_size": width, "activation": act}
    ffn = [experts if i in sparse else plain for i in range(layers)]
    return Blocks(attention=_attention(fields, layers), ffn=ffn)


def _attention(fields: Fields, layers: int) -> list[Table]:
    """Of each block; `no_rope_layers` says 1 of one that rotates, 0 of one that does not."""
    period = fields.optional("no_rope_layer_interval", COUNT, 4)
    default_rotated = [int((i + 1) % period != 0) for i in range(layers)]
    rotated = fields.optional("no_rope_layers", _ROTATED, None) or default_rotated
    if len(rotated) < layers:
        raise fields.refused("no_rope_layers", f"has less than num_hidden_layers={layers} entries")
    chunk = fields.optional("attention_chunk_size", WINDOW_OR_NULL, 8192)
    types = fields.optional("layer_types", _REACHES, None) or [
        "chunked_attention" if chunk is not None and turns else "full_attention"
        for turns in rotated[:layers]
    ]
    if len(types) != layers:
        raise fields.refused("layer_types", f"has not num_hidden_layers={layers} entries")
    if chunk is None and "chunked_attention" in types:
        raise fields.refused("layer_types", "has chunks, and attention_chunk_size is not given")
    tuned = fields.optional("attn_temperature_tuning", _SWITCH, default=True)
    scale = fields.optional("floor_scale", WINDOW_OR_NULL, 8192)
    if tuned and scale is None:
        raise fields.refused("floor_scale", "is needed for attn_temperature_tuning")
    normed = fields.optional("use_qk_norm", FLAG, default=True)
    bias = fields.optional("attention_bias", FLAG, default=False)
    blocks = gqa(
        fields,
        kv_heads=8,
        head_dim=128,
        unrotated=[not turns for turns in rotated[:layers]],
        attention_bias=bias,
        output_bias=bias,
    )
    for block, turns, reach in zip(blocks, rotated[:layers], types, strict=True):
        if reach == "chunked_attention":
            block["attention_chunk_size"] = chunk
        if turns and normed:
            block["qk_norm"] = "head_unweighted"
        if tuned and not turns:
            block["floor_scale"] = scale
    return blocks
