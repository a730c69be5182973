"""Readers of config.json files of DeepSeek and of families that share its router."""

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from pydantic import ConfigDict, TypeAdapter

from costmodel.inputs.hf.blocks import (
    CHOSEN,
    Blocks,
    Table,
    activation,
    dense,
    gqa,
    leave_out_mtp,
    moe,
    num_layers,
    rotated_part,
)
from costmodel.inputs.hf.dense_families import last_blocks_windows
from costmodel.inputs.hf.fields import (
    COUNT,
    COUNT_OR_NULL,
    FLAG,
    INDEX,
    INDEX_OR_NULL,
    INDICES_OR_NULL,
    NAMES_OR_NULL,
    WIDTH,
    WIDTH_OR_NULL,
    Fields,
)
from costmodel.layers.primitives import Activation

TopK: TypeAlias = Literal["greedy", "group_limited_greedy"]
_TOP_K: Final[TypeAdapter[TopK]] = TypeAdapter(TopK, config=ConfigDict(strict=True))

ROUTED = ("n_routed_experts", "num_local_experts", "num_experts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spellings:
    """The names of a family for what its router says, other spellings behind the first."""

    chosen: tuple[str, ...] = CHOSEN  # experts that a token chooses
    groups: tuple[str, ...] = ("n_group",)
    norm: tuple[str, ...] = ("norm_topk_prob",)  # whether their weights are divided by their sum


DEEPSEEK_NAMES: Final = Spellings()


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
    ffn = first_dense(fields, 1, noaux_tc(fields, shared_intermediate_size=shared_width(fields, 1)))
    leave_out_mtp(fields, "num_nextn_predict_layers", "num_mtp_layers")
    return Blocks(attention=attention, ffn=ffn)


def dots1(fields: Fields) -> Blocks:
    """dots.llm1: QK-norm of each head, DeepSeek-V3's router, dense first blocks."""
    bias = fields.optional("attention_bias", FLAG, default=False)
    windows = last_blocks_windows(fields, used=True, first=62)
    attention = gqa(
        fields,
        kv_heads=32,
        windows=windows,
        qk_norm="head",
        attention_bias=bias,
        output_bias=bias,
    )
    shared = shared_width(fields, 0)
    sparse = noaux_tc(fields, norm_topk_prob=False, shared_intermediate_size=shared)
    return Blocks(attention=attention, ffn=first_dense(fields, 0, sparse))


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
        shared_intermediate_size=shared_width(fields, 2),
        norm_topk_prob=fields.optional("norm_topk_prob", FLAG, default=False),
        n_group=groups if grouped else 1,
        topk_group=groups_kept if grouped else 1,
    )
    return Blocks(attention=_mla(fields), ffn=first_dense(fields, 0, ffn))


def deepseek_v3(fields: Fields) -> Blocks:
    """DeepSeek-V3 and Kimi-K2: MLA; corrected sigmoid scores, groups ranked by their best two."""
    shared = shared_width(fields, 1)
    sparse = noaux_tc(fields, n_group=8, topk_group=4, shared_intermediate_size=shared)
    ffn = first_dense(fields, 3, sparse)
    leave_out_mtp(fields, "num_nextn_predict_layers", "num_mtp_layers")
    return Blocks(attention=_mla(fields), ffn=ffn)


def deepseek_v32(fields: Fields) -> Blocks:
    """DeepSeek-V3.2 and GLM-5: DeepSeek-V3 whose MLA attends to what an indexer chooses."""
    blocks = deepseek_v3(fields)
    check_dense_blocks(fields, blocks.ffn)
    index: Table = {
        "index_topk": fields.required("index_topk", COUNT),
        "index_n_heads": fields.required("index_n_heads", COUNT),
        "index_head_dim": fields.required("index_head_dim", WIDTH),
    }
    layers = num_layers(fields)
    types = fields.optional("indexer_types", NAMES_OR_NULL, None)
    if fields.optional("index_topk_freq", COUNT_OR_NULL, None) not in (None, 1) and types is None:
        raise fields.refused("index_topk_freq", "needs indexer_types, which names the layers")
    types = ["full"] * layers if types is None else types[:layers]
    if len(types) < layers or not set(types) <= {"full", "shared"}:
        rule = f"is not 'full' or 'shared' for each of num_hidden_layers={layers}"
        raise fields.refused("indexer_types", rule)
    attention = [
        {**table, **index, "shared_index": kind == "shared"}
        for table, kind in zip(blocks.attention, types, strict=True)
    ]
    return replace(blocks, attention=attention)


def mimo_v2_flash(fields: Fields) -> Blocks:
    """MiMo-V2-Flash: values narrower than keys; blocks with a window have heads of their own.

    Published files say by 0 or 1 which blocks have a window and which have experts.
    """
    windowed = _flag_of_blocks(fields, "hybrid_layer_pattern")
    sparse = _flag_of_blocks(fields, "moe_layer_freq")
    window = fields.required("sliding_window", COUNT, also=("sliding_window_size",))
    plain = dense(fields, activation(fields))
    routed = noaux_tc(fields, shared_intermediate_size=shared_width(fields, 0))
    full = _mimo_attention(fields, "", "add_full_attention_sink_bias", None)
    sliding = _mimo_attention(fields, "swa_", "add_swa_attention_sink_bias", window)
    leave_out_mtp(fields, "num_nextn_predict_layers")
    return Blocks(
        attention=[sliding if own else full for own in windowed],
        ffn=[routed if own else plain for own in sparse],
    )


def _mimo_attention(fields: Fields, prefix: str, sinks: str, window: int | None) -> Table:
    """The attention whose sizes stand at keys with this prefix."""
    size = fields.required(f"{prefix}head_dim", WIDTH)
    return {
        "kind": "gqa",
        "num_attention_heads": fields.required(f"{prefix}num_attention_heads", COUNT),
        "num_key_value_heads": fields.required(f"{prefix}num_key_value_heads", COUNT),
        "head_dim": size,
        "v_head_dim": fields.required(f"{prefix}v_head_dim", WIDTH),
        "rotary_dim": rotated_part(fields, size, 1.0),
        "sliding_window": window,
        "attention_bias": fields.optional("attention_bias", FLAG, default=False),
        "sinks": fields.required(sinks, FLAG),
    }


def _flag_of_blocks(fields: Fields, key: str) -> list[bool]:
    """A list of 0 or 1 for each block."""
    flags = fields.required(key, INDICES_OR_NULL) or []
    layers = num_layers(fields)
    if len(flags) != layers or not set(flags) <= {0, 1}:
        raise fields.refused(key, f"is not a 0 or 1 for each of num_hidden_layers={layers}")
    return [flag == 1 for flag in flags]


def _mla(fields: Fields) -> list[Table]:
    return [latent_attention(fields)] * num_layers(fields)


def latent_attention(fields: Fields, query_rank: int | None = 1536) -> Table:
    """MLA by DeepSeek's keys, the same in every layer.

    `query_rank` is the width of compressed queries where the file does not hold `q_lora_rank`;
    None: queries are not compressed.
    """
    heads = fields.required("num_attention_heads", COUNT)
    if fields.optional("num_key_value_heads", COUNT_OR_NULL, None) not in (None, heads):
        rule = f"is not num_attention_heads={heads}: a latent serves all heads"
        raise fields.refused("num_key_value_heads", rule)
    rank = fields.optional("q_lora_rank", WIDTH_OR_NULL, query_rank)
    bias = fields.optional("attention_bias", FLAG, default=False)
    if bias and rank is None:
        raise fields.refused("attention_bias", "is not modelled without q_lora_rank")
    nope = fields.optional("qk_nope_head_dim", WIDTH, 128)
    rope = fields.optional("qk_rope_head_dim", WIDTH, 64)
    rotated_part(fields, rope, None)
    if fields.optional("qk_head_dim", WIDTH_OR_NULL, None) not in (None, nope + rope):
        rule = f"is not qk_nope_head_dim + qk_rope_head_dim = {nope + rope}"
        raise fields.refused("qk_head_dim", rule)
    return {
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


def noaux_tc(
    fields: Fields,
    *,
    n_group: int = 1,
    topk_group: int = 1,
    norm_topk_prob: bool = True,
    act: Activation | None = None,
    names: Spellings = DEEPSEEK_NAMES,
    **settings: object,
) -> Table:
    """Experts with the router of arXiv 2412.19437 (topk_method noaux_tc).

    Sigmoid scores with a correction bias; groups of experts are ranked by their best two.

    Args:
        fields: The file.
        n_group: The number of groups, the family's default, as the next two.
        topk_group: How many groups are kept.
        norm_topk_prob: Whether the weights of the chosen experts are divided by their sum.
        act: The experts' activation; None: that of `hidden_act`.
        names: The family's spellings.
        settings: Further fields of the layer kind.
    """
    groups = fields.optional(names.groups[0], COUNT, n_group, also=names.groups[1:])
    norm = fields.optional(names.norm[0], FLAG, norm_topk_prob, also=names.norm[1:])
    table = moe(
        fields,
        activation(fields) if act is None else act,
        *ROUTED,
        chosen=names.chosen,
        scoring="sigmoid",
        norm_topk_prob=norm,
        score_correction_bias=True,
        n_group=groups,
        topk_group=fields.optional("topk_group", COUNT, topk_group),
        group_score_experts=2 if groups > 1 else 1,
    )
    return {**table, **settings}


def shared_width(fields: Fields, default_experts: int) -> int:
    """The width of the shared experts, which run as one FFN of their summed widths."""
    shared = fields.optional("n_shared_experts", INDEX_OR_NULL, default_experts) or 0
    return shared * fields.required("moe_intermediate_size", WIDTH)


def first_dense(fields: Fields, default_dense: int, sparse: Table) -> list[Table]:
    """The FFN of each block: dense in the first `first_k_dense_replace`, sparse in the others."""
    first = fields.optional("first_k_dense_replace", INDEX, default_dense)
    plain = dense(fields, activation(fields))
    return [plain if i < first else sparse for i in range(num_layers(fields))]


def check_dense_blocks(fields: Fields, ffn: list[Table]) -> None:
    """Refuse `mlp_layer_types` that call other blocks dense than `first_k_dense_replace` does.

    The list may go on behind the last block: for layers of multi-token prediction.
    """
    stated = fields.optional("mlp_layer_types", NAMES_OR_NULL, None)
    dense_or_not = ["sparse" if table["kind"] == "moe" else "dense" for table in ffn]
    if stated is not None and stated[: len(ffn)] != dense_or_not:
        raise fields.refused("mlp_layer_types", "is not as first_k_dense_replace says")
