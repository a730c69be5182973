"""Readers of the mixture-of-experts (MoE) families of config.json files."""

from typing import Final, Literal, TypeAlias

from pydantic import ConfigDict, TypeAdapter

from costmodel.inputs.hf.blocks import (
    Blocks,
    Table,
    activation,
    dense,
    gqa,
    moe,
    num_layers,
    rotated_part,
    typed_windows,
)
from costmodel.inputs.hf.fields import (
    COUNT,
    COUNT_OR_NULL,
    FLAG,
    INDEX,
    INDEX_OR_NULL,
    INDICES_OR_NULL,
    NUMBER,
    WIDTH,
    WIDTH_OR_NULL,
    WINDOW_OR_NULL,
    Fields,
)

TopK: TypeAlias = Literal["greedy", "group_limited_greedy"]
_TOP_K: Final[TypeAdapter[TopK]] = TypeAdapter(TopK, config=ConfigDict(strict=True))

LOCAL = ("num_local_experts", "num_experts")  # transformers writes either for any family
ROUTED = ("n_routed_experts", "num_local_experts", "num_experts")


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
    step = fields.optional("decoder_sparse_step", COUNT, 1)
    without = fields.optional("mlp_only_layers", INDICES_OR_NULL, None) or []
    act = activation(fields)
    plain = dense(fields, act)
    sparse = moe(fields, act, *LOCAL, norm_topk_prob=norm)
    return Blocks(
        attention=gqa(fields, kv_heads=4, qk_norm="head", attention_bias=bias, output_bias=bias),
        ffn=[plain if i in set(without) or (i + 1) % step else sparse for i in range(layers)],
    )


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
    _leave_out_mtp(fields, "num_mtp_modules")
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


def glm4_moe(fields: Fields) -> Blocks:
    """GLM-4.5: grouped-query attention, DeepSeek-V3's router, dense first blocks."""
    normed = fields.optional("use_qk_norm", FLAG, default=False)
    bias = fields.optional("attention_bias", FLAG, default=False)
    attention = gqa(
        fields,
        kv_heads=8,
        rotary_share=0.5,
        qk_norm="head" if normed else "none",
        attention_bias=bias,
    )
    ffn = _first_dense(fields, 1, _noaux_tc(fields, n_group=1, topk_group=1))
    _leave_out_mtp(fields, "num_nextn_predict_layers", "num_mtp_layers")
    return Blocks(attention=attention, ffn=ffn)


def deepseek_v2(fields: Fields) -> Blocks:
    """DeepSeek-V2: MLA; softmax scores, groups of experts ranked by their best one."""
    method = fields.optional("topk_method", _TOP_K, "greedy")
    grouped = method == "group_limited_greedy"
    groups = fields.optional("n_group", COUNT_OR_NULL, None)
    groups_kept = fields.optional("topk_group", COUNT_OR_NULL, None)
    if grouped and (groups is None or groups_kept is None):
        raise fields.refused("topk_method", "needs n_group and topk_group")
    ffn = moe(
        fields,
        activation(fields),
        *ROUTED,
        shared_intermediate_size=_shared_width(fields, 2),
        norm_topk_prob=fields.optional("norm_topk_prob", FLAG, default=False),
        n_group=groups if grouped else 1,
        topk_group=groups_kept if grouped else 1,
    )
    return Blocks(attention=_mla(fields), ffn=_first_dense(fields, 0, ffn))


def deepseek_v3(fields: Fields) -> Blocks:
    """DeepSeek-V3 and Kimi-K2: MLA; corrected sigmoid scores, groups ranked by their best two."""
    ffn = _first_dense(fields, 3, _noaux_tc(fields, n_group=8, topk_group=4))
    _leave_out_mtp(fields, "num_nextn_predict_layers", "num_mtp_layers")
    return Blocks(attention=_mla(fields), ffn=ffn)


def _mla(fields: Fields) -> list[Table]:
    heads = fields.required("num_attention_heads", COUNT)
    if fields.optional("num_key_value_heads", COUNT_OR_NULL, None) not in (None, heads):
        rule = f"is not num_attention_heads={heads}: a latent serves all heads"
        raise fields.refused("num_key_value_heads", rule)
    rank = fields.optional("q_lora_rank", WIDTH_OR_NULL, 1536)
    bias = fields.optional("attention_bias", FLAG, default=False)
    if bias and rank is None:
        raise fields.refused("attention_bias", "is not modelled without q_lora_rank")
    nope = fields.optional("qk_nope_head_dim", WIDTH, 128)
    rope = fields.optional("qk_rope_head_dim", WIDTH, 64)
    rotated_part(fields, rope, None)
    if fields.optional("qk_head_dim", WIDTH_OR_NULL, None) not in (None, nope + rope):
        rule = f"is not qk_nope_head_dim + qk_rope_head_dim = {nope + rope}"
        raise fields.refused("qk_head_dim", rule)
    table = {
        "kind": "mla",
        "num_attention_heads": heads,
        "q_lora_rank": rank,
        "kv_lora_rank": fields.optional("kv_lora_rank", WIDTH, 512),
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope,
        "v_head_dim": fields.optional("v_head_dim", WIDTH, 128),
        "attention_bias": bias,
        "output_bias": bias,
    }
    return [table] * num_layers(fields)


def _noaux_tc(fields: Fields, *, n_group: int, topk_group: int) -> Table:
    """Experts with the router of arXiv 2412.19437 (topk_method noaux_tc).

    Sigmoid scores with a correction bias; groups of experts are ranked by their best two.
    """
    groups = fields.optional("n_group", COUNT, n_group)
    return moe(
        fields,
        activation(fields),
        *ROUTED,
        shared_intermediate_size=_shared_width(fields, 1),
        scoring="sigmoid",
        norm_topk_prob=fields.optional("norm_topk_prob", FLAG, default=True),
        score_correction_bias=True,
        n_group=groups,
        topk_group=fields.optional("topk_group", COUNT, topk_group),
        group_score_experts=2 if groups > 1 else 1,
    )


def _shared_width(fields: Fields, default_experts: int) -> int:
    """The width of the shared experts, which run as one FFN of their summed widths."""
    shared = fields.optional("n_shared_experts", INDEX_OR_NULL, default_experts) or 0
    return shared * fields.required("moe_intermediate_size", WIDTH)


def _first_dense(fields: Fields, default_dense: int, sparse: Table) -> list[Table]:
    """The FFN of each block: dense in the first `first_k_dense_replace`, sparse in the others."""
    first = fields.optional("first_k_dense_replace", INDEX, default_dense)
    plain = dense(fields, activation(fields))
    return [plain if i < first else sparse for i in range(num_layers(fields))]


def _leave_out_mtp(fields: Fields, key: str, *also: str) -> None:
    """Note that layers of multi-token prediction, whose number is at `key`, are not costed."""
    modules = fields.optional(key, INDEX_OR_NULL, None, also=also)
    if modules:
        fields.notes.append(
            f"{fields.spelling(key, *also)}={modules}: the multi-token prediction layers are left"
            " out; a plain decode step does not run them."
        )
