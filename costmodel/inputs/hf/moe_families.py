"""Readers of the mixture-of-experts (MoE) families of config.json files, but for DeepSeek's kin."""

from typing import Annotated, Final

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
    typed_windows,
)
from costmodel.inputs.hf.dense_families import hunyuan_attention, note_multipliers
from costmodel.inputs.hf.fields import (
    COUNT,
    FLAG,
    INDEX,
    INDEX_OR_NULL,
    INDICES_OR_NULL,
    NUMBER,
    WIDTH,
    WINDOW_OR_NULL,
    Fields,
)
from costmodel.inputs.hf.norm_families import NORMS_BEHIND
from costmodel.layers.base import MAX_LAYERS, Count

LOCAL = ("num_local_experts", "num_experts")  # transformers writes either for any family
_LAST: Final[TypeAdapter[int]] = TypeAdapter(  # -1: the last block
    Annotated[int, Field(ge=-1, le=MAX_LAYERS)], config=ConfigDict(strict=True)
)
_COUNTS: Final[TypeAdapter[int | list[int]]] = TypeAdapter(
    Count | Annotated[list[Count], Field(max_length=MAX_LAYERS, fail_fast=True)],
    config=ConfigDict(strict=True),
)


def mixtral(fields: Fields) -> Blocks:
    """Mixtral: experts of width `intermediate_size`; the k router weights are made to sum to 1."""
    window = fields.optional("sliding_window", WINDOW_OR_NULL, None)
    layers = num_layers(fields)
    act = activation(fields)
    ffn = moe(fields, act, *LOCAL, width="intermediate_size", norm_topk_prob=True)
    return Blocks(attention=gqa(fields, kv_heads=8, windows=[window] * layers), ffn=[ffn] * layers)


def olmoe(fields: Fields) -> Blocks:
    """OLMoE: QK-norm over all heads together."""
    bias = fields.optional("attention_bias", FLAG, default=False)
    norm = fields.optional("norm_topk_prob", FLAG, default=False)
    ffn = moe(fields, activation(fields), *LOCAL, width="intermediate_size", norm_topk_prob=norm)
    attention = gqa(fields, qk_norm="full", attention_bias=bias, output_bias=bias)
    return Blocks(attention=attention, ffn=[ffn] * num_layers(fields))


def qwen3_moe(fields: Fields) -> Blocks:
    """Qwen3-MoE: QK-norm of each head; a step or a list says which blocks have a dense FFN."""
    fields.optional("sliding_window", WINDOW_OR_NULL, None)  # not in use: see families.py
    layers = num_layers(fields)
    bias = fields.optional("attention_bias", FLAG, default=False)
    norm = fields.optional("norm_topk_prob", FLAG, default=False)
    act = activation(fields)
    sparse = moe(fields, act, *LOCAL, norm_topk_prob=norm)
    return Blocks(
        attention=gqa(fields, kv_heads=4, qk_norm="head", attention_bias=bias, output_bias=bias),
        ffn=some_dense(fields, dense(fields, act), sparse, layers),
    )


def qwen2_moe(fields: Fields) -> Blocks:
    """Qwen1.5-MoE and Qwen2-MoE: a gated shared expert beside the routed ones."""
    fields.optional("sliding_window", WINDOW_OR_NULL, None)  # not in use: see families.py
    layers = num_layers(fields)
    act = activation(fields)
    sparse = moe(
        fields,
        act,
        *LOCAL,
        shared_intermediate_size=fields.optional("shared_expert_intermediate_size", WIDTH, 5632),
        shared_expert_gate=True,
        norm_topk_prob=fields.optional("norm_topk_prob", FLAG, default=False),
    )
    bias = fields.optional("qkv_bias", FLAG, default=True)
    return Blocks(
        attention=gqa(fields, kv_heads=16, attention_bias=bias),
        ffn=some_dense(fields, dense(fields, act), sparse, layers),
    )


def some_dense(fields: Fields, plain: Table, sparse: Table, layers: int) -> list[Table]:
    """The FFN of each block of Qwen: a step or a list says which are dense."""
    step = fields.optional("decoder_sparse_step", COUNT, 1)
    without = fields.optional("mlp_only_layers", INDICES_OR_NULL, None) or []
    return [plain if i in set(without) or (i + 1) % step else sparse for i in range(layers)]


def flex_olmo(fields: Fields) -> Blocks:
    """FlexOlmo: OLMoE's experts, with norms of the sublayers' outputs alone."""
    blocks = olmoe(fields)
    return Blocks(attention=blocks.attention, ffn=blocks.ffn, model=NORMS_BEHIND)


def granitemoe(fields: Fields) -> Blocks:
    """Granite 3 MoE: softmax over the k chosen; constant factors as in Granite."""
    note_multipliers(fields)
    bias = fields.optional("attention_bias", FLAG, default=False)
    ffn = moe(
        fields, activation(fields), *LOCAL, width="intermediate_size", scoring="softmax_of_chosen"
    )
    return Blocks(
        attention=gqa(fields, attention_bias=bias, output_bias=bias),
        ffn=[ffn] * num_layers(fields),
    )


def ernie4_5_moe(fields: Fields) -> Blocks:
    """ERNIE 4.5: softmax scores with a correction bias; dense first (and last) blocks."""
    layers = num_layers(fields)
    act = activation(fields)
    names = ("moe_num_experts", *LOCAL)
    shared = fields.optional("moe_num_shared_experts", INDEX_OR_NULL, 2) or 0
    first = fields.optional("moe_layer_start_index", INDEX, 1)
    last = fields.optional("moe_layer_end_index", _LAST, -1)
    step = fields.optional("moe_layer_interval", COUNT, 1)
    leave_out_mtp(fields, "num_nextn_predict_layers")
    sparse = moe(
        fields,
        act,
        *names,
        chosen=("moe_k", "num_experts_per_tok"),
        shared_intermediate_size=shared * fields.required("moe_intermediate_size", WIDTH),
        norm_topk_prob=True,
        score_correction_bias=True,
    )
    end = layers - 1 if last == -1 else last
    plain = dense(fields, act)
    return Blocks(
        attention=gqa(fields, kv_heads=4),
        ffn=[sparse if first <= i <= end and (i + 1) % step == 0 else plain for i in range(layers)],
        tied=True,
    )


def hunyuan_v1_moe(fields: Fields) -> Blocks:
    """Hunyuan-A13B: QK-norm of each head; a shared expert as wide as each routed one."""
    layers = num_layers(fields)
    width = fields.required("intermediate_size", WIDTH)
    for key, only in (("moe_intermediate_size", width), ("num_shared_expert", 1)):
        if set(_by_block(fields, key, only)) != {only}:
            raise fields.refused(key, f"is not {only} in each block, as transformers has it")
    chosen = _by_block(fields, "moe_topk", 1)
    if len(chosen) not in (1, layers) or len(set(chosen)) > 1:
        raise fields.refused("moe_topk", f"differs among blocks, or is not of {layers} blocks")
    ffn = {
        "kind": "moe",
        "num_experts": fields.required("num_experts", COUNT),
        "num_experts_per_tok": chosen[0],
        "moe_intermediate_size": width,
        "shared_intermediate_size": width,
        "activation": activation(fields),
        "norm_topk_prob": True,
    }
    return Blocks(attention=hunyuan_attention(fields), ffn=[ffn] * layers)


def _by_block(fields: Fields, key: str, default: int) -> list[int]:
    """A number of each block: one for all, or a list."""
    stated = fields.optional(key, _COUNTS, default)
    return (stated or [default]) if isinstance(stated, list) else [stated]


def gpt_oss(fields: Fields) -> Blocks:
    """gpt-oss: a window in every other block, sinks, biases, softmax over the k chosen."""
    fields.optional("swiglu_limit", NUMBER, None)  # where to clamp and how steep: no cost
    fields.optional("swiglu_alpha", NUMBER, None)
    layers = num_layers(fields)
    bias = fields.optional("attention_bias", FLAG, default=True)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, 128)
    windows = typed_windows(
        fields,
        window,
        ["full_attention" if i % 2 else "sliding_attention" for i in range(layers)],
    )
    ffn = moe(
        fields,
        "clamped_silu",
        *LOCAL,
        width="intermediate_size",
        scoring="softmax_of_chosen",
        router_bias=True,
        expert_bias=True,
    )
    attention = gqa(
        fields,
        kv_heads=8,
        head_dim=64,
        windows=windows,
        attention_bias=bias,
        output_bias=bias,
        sinks=True,
    )
    return Blocks(attention=attention, ffn=[ffn] * layers)


def minimax_m2(fields: Fields) -> Blocks:
    """MiniMax-M2: QK-norm over all heads ("per_layer"), partly rotated heads, sigmoid scores."""
    layers = num_layers(fields)
    kinds = fields.optional("attn_type_list", INDICES_OR_NULL, None)
    if kinds is not None and (len(kinds) != layers or set(kinds) != {1}):
        rule = f"is not 1 (softmax attention) for each of num_hidden_layers={layers}"
        raise fields.refused("attn_type_list", rule)
    normed = fields.optional("use_qk_norm", FLAG, default=True)
    corrected = fields.optional("use_routing_bias", FLAG, default=True)
    fields.optional("use_mtp", FLAG, default=False)
    fields.optional("mtp_transformer_layers", INDEX_OR_NULL, None)
    leave_out_mtp(fields, "num_mtp_modules")
    ffn = moe(
        fields,
        activation(fields),
        *LOCAL,
        width="intermediate_size",
        scoring="sigmoid",
        norm_topk_prob=True,
        score_correction_bias=corrected,
    )
    attention = gqa(
        fields,
        kv_heads=8,
        head_dim=128,
        rotary_share=1.0,
        qk_norm="full" if normed else "none",
    )
    return Blocks(attention=attention, ffn=[ffn] * layers)
