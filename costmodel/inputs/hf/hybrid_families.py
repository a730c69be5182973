"""Readers of config.json files of hybrids: recurrent mixers, and attention in some blocks."""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter

from costmodel.inputs.hf.blocks import (
    Blocks,
    Table,
    activation,
    dense,
    gqa,
    leave_out_mtp,
    moe,
    num_layers,
)
from costmodel.inputs.hf.dense_families import note_multipliers
from costmodel.inputs.hf.fields import (
    COUNT,
    FLAG,
    INDEX,
    INDICES_OR_NULL,
    NUMBER,
    TEXT_OR_NULL,
    WIDTH,
    WIDTH_OR_NULL,
    Fields,
)
from costmodel.inputs.hf.moe_families import LOCAL, some_dense
from costmodel.layers.base import MAX_LAYERS
from costmodel.layers.primitives import Activation

Full: TypeAlias = Literal["full_attention", "indexed_attention"]  # names of layers with attention
Mixer: TypeAlias = Literal["attention", "conv", "linear_attention", "mamba", Full]
_MIXERS: Final[TypeAdapter[list[Mixer] | None]] = TypeAdapter(
    Annotated[list[Mixer], Field(max_length=MAX_LAYERS, fail_fast=True)] | None,
    config=ConfigDict(strict=True),
)


def mixed(
    fields: Fields,
    attention: list[Table],
    recurrent: Table,
    names: tuple[Mixer, Mixer],
    default: list[bool] | None,
) -> list[Table]:
    """The mixer of each block.

    Args:
        fields: The file; its `layer_types` say which blocks have which mixer.
        attention: Of each block, if it has attention.
        recurrent: Of the others.
        names: What `layer_types` calls attention and the other mixer.
        default: Whether a block has attention, where the file does not say; None: it must.
    """
    types = fields.optional("layer_types", _MIXERS, None)
    if types is None:
        if default is None:
            fields.required("layer_types", _MIXERS)
            raise fields.refused("layer_types", f"does not say which blocks have {names[0]}")
        is_attention = default
    else:
        if len(types) != len(attention) or not set(types) <= set(names):
            rule = f"is not {' or '.join(names)} for each of num_hidden_layers={len(attention)}"
            raise fields.refused("layer_types", rule)
        is_attention = [name == names[0] for name in types]
    return [own if has else recurrent for own, has in zip(attention, is_attention, strict=True)]


def lfm2(fields: Fields) -> Blocks:
    """LFM2: short convolutions; the FFN's width is cut to two thirds and rounded up."""
    width = fields.required("block_ff_dim", WIDTH, also=("intermediate_size",))
    multiple = fields.optional("block_multiple_of", COUNT, 256)
    factor = fields.optional("block_ffn_dim_multiplier", NUMBER, 1.0)
    if fields.optional("block_auto_adjust_ff_dim", FLAG, default=True):
        width = -(-int(factor * int(2 * width / 3)) // multiple) * multiple
    ffn = {"kind": "dense", "intermediate_size": width, "activation": "silu"}
    tied = fields.optional("tie_embedding", FLAG, default=True)
    return Blocks(attention=_lfm2_mixers(fields), ffn=[ffn] * num_layers(fields), tied=tied)


def lfm2_moe(fields: Fields) -> Blocks:
    """LFM2 with experts: sigmoid scores with a correction bias, dense first blocks."""
    first = fields.optional("num_dense_layers", INDEX, 2)
    plain = dense(fields, "silu")
    sparse = moe(
        fields,
        "silu",
        *LOCAL,
        scoring="sigmoid",
        norm_topk_prob=fields.optional("norm_topk_prob", FLAG, default=True),
        score_correction_bias=fields.optional("use_expert_bias", FLAG, default=True),
    )
    ffn = [plain if i < first else sparse for i in range(num_layers(fields))]
    return Blocks(attention=_lfm2_mixers(fields), ffn=ffn, tied=True)


def _lfm2_mixers(fields: Fields) -> list[Table]:
    """Short convolutions of all D channels, and attention with a QK-norm of each head."""
    layers, hidden = num_layers(fields), fields.required("hidden_size", WIDTH)
    for key in ("conv_dim", "conv_dim_out", "block_dim"):
        if fields.optional(key, WIDTH_OR_NULL, None) not in (None, hidden):
            raise fields.refused(key, f"is not hidden_size={hidden}, as the convolution has it")
    conv = {
        "kind": "short_conv",
        "conv_L_cache": fields.optional("conv_L_cache", COUNT, 3),
        "conv_bias": fields.optional("conv_bias", FLAG, default=False),
    }
    listed = fields.optional("full_attn_idxs", INDICES_OR_NULL, None)
    default = None if listed is None else [i in set(listed) for i in range(layers)]
    attention = gqa(fields, kv_heads=8, qk_norm="head")
    return mixed(fields, attention, conv, ("full_attention", "conv"), default)


def qwen3_5(fields: Fields) -> Blocks:
    """Qwen3.5, the dense ones: gated delta nets, and attention with an output gate."""
    ffn = dense(fields, activation(fields))
    return Blocks(attention=qwen3_5_mixers(fields), ffn=[ffn] * num_layers(fields))


def qwen3_next(fields: Fields) -> Blocks:
    """Qwen3-Next: the blocks of Qwen3.5 with experts; a step or a list may say which are dense.

    Its files say nothing of the head of multi-token prediction that the checkpoint holds.
    """
    fields.notes.append(
        "The head of multi-token prediction, which released checkpoints hold beside the model, is"
        " left out; a plain decode step does not run it."
    )
    act, layers = activation(fields), num_layers(fields)
    ffn = some_dense(fields, dense(fields, act), gated_shared_moe(fields, act), layers)
    return Blocks(attention=qwen3_5_mixers(fields), ffn=ffn)


def qwen3_5_moe(fields: Fields) -> Blocks:
    """Qwen3.5 with experts: a gated shared expert beside the routed ones."""
    ffn = gated_shared_moe(fields, activation(fields))
    return Blocks(attention=qwen3_5_mixers(fields), ffn=[ffn] * num_layers(fields))


def gated_shared_moe(fields: Fields, act: Activation) -> Table:
    """Experts of Qwen3.5, with a gated shared expert beside them."""
    return moe(
        fields,
        act,
        *LOCAL,
        shared_intermediate_size=fields.required("shared_expert_intermediate_size", WIDTH),
        shared_expert_gate=True,
        norm_topk_prob=fields.optional("norm_topk_prob", FLAG, default=True),
    )


def qwen3_5_mixers(fields: Fields, full: Full = "full_attention") -> list[Table]:
    """Three gated delta nets to one attention, whose heads are rotated in a quarter.

    `full` is what the file calls layers with attention.
    """
    net = {
        "kind": "gated_delta_net",
        "linear_num_key_heads": fields.required("linear_num_key_heads", COUNT),
        "linear_num_value_heads": fields.required("linear_num_value_heads", COUNT),
        "linear_key_head_dim": fields.required("linear_key_head_dim", WIDTH),
        "linear_value_head_dim": fields.required("linear_value_head_dim", WIDTH),
        "linear_conv_kernel_dim": fields.required("linear_conv_kernel_dim", COUNT),
    }
    bias = fields.optional("attention_bias", FLAG, default=False)
    attention = gqa(
        fields,
        kv_heads=2,
        head_dim=256,
        rotary_share=0.25,
        qk_norm="head",
        attention_bias=bias,
        output_bias=bias,
        output_gate=True,
    )
    leave_out_mtp(fields, "mtp_num_hidden_layers", "num_nextn_predict_layers")
    period = fields.optional("full_attention_interval", COUNT, 4)
    default = [(i + 1) % period == 0 for i in range(num_layers(fields))]
    return mixed(fields, attention, net, (full, "linear_attention"), default)


def mamba2(fields: Fields, **settings: object) -> Table:
    """A Mamba-2 layer by the keys of Granite 4 and Falcon-H1; `settings` are further fields."""
    return {
        "kind": "mamba2",
        "mamba_n_heads": fields.required("mamba_n_heads", COUNT),
        "mamba_d_head": fields.required("mamba_d_head", WIDTH),
        "mamba_n_groups": fields.optional("mamba_n_groups", COUNT, 1),
        "mamba_d_state": fields.required("mamba_d_state", WIDTH),
        "mamba_d_conv": fields.required("mamba_d_conv", COUNT),
        "mamba_conv_bias": fields.optional("mamba_conv_bias", FLAG, default=True),
        "mamba_proj_bias": fields.optional("mamba_proj_bias", FLAG, default=False),
        "mamba_chunk_size": fields.optional("mamba_chunk_size", COUNT, 256),
        **settings,
    }


def granitemoehybrid(fields: Fields) -> Blocks:
    """Granite 4: Mamba-2 or attention, then experts beside a shared FFN, in every block."""
    note_multipliers(fields)
    bias = fields.optional("attention_bias", FLAG, default=False)
    positions = fields.optional("position_embedding_type", TEXT_OR_NULL, None)
    if positions not in (None, "nope", "rope"):
        raise fields.refused("position_embedding_type", "is not nope or rope")
    layers = num_layers(fields)
    attention = gqa(
        fields,
        unrotated=[positions != "rope"] * layers,
        attention_bias=bias,
        output_bias=bias,
    )
    ffn = moe(
        fields,
        activation(fields),
        *LOCAL,
        width="intermediate_size",
        scoring="softmax_of_chosen",
        shared_intermediate_size=fields.required("shared_intermediate_size", WIDTH),
    )
    mixers = mixed(fields, attention, mamba2(fields), ("attention", "mamba"), None)
    return Blocks(attention=mixers, ffn=[ffn] * layers)
