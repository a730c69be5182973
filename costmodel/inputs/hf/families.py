"""The families of config.json files that can be read, by `model_type`.

A reader turns the keys of its family into attention and FFN layers. An absent key takes the default
of that family's configuration class in transformers 5.24 (models/*/configuration_*.py); what no key
says (biases, norms, routers) follows models/*/modeling_*.py of the same release.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from costmodel.inputs.hf import (
    deepseek_families,
    deepseek_v4_families,
    dense_families,
    gemma_families,
    hybrid_families,
    kimi_family,
    llama4_family,
    longcat_families,
    mamba_families,
    moe_families,
    norm_families,
    sparse_families,
)
from costmodel.inputs.hf.blocks import Blocks
from costmodel.inputs.hf.fields import Fields
from costmodel.inputs.hf.ignored_keys import DEEPSEEK_ROUTER, ROUTER_TRAINING


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How the files of one family are read: its reader, and what its other keys may hold."""

    read: Callable[[Fields], Blocks]
    # Keys that do not change what a step costs.
    without_cost: frozenset[str] = frozenset()
    # Keys whose cost is modelled at these values only.
    only: Mapping[str, tuple[object, ...]] = field(default_factory=dict)


_SLICES = frozenset({"pretraining_tp"})  # slices of projections, which these classes do not make
_DEEPSEEK = {"ep_size": (1,), "moe_layer_freq": (1,)}
_QWEN3 = {"qkv_bias": (False, None), "use_qk_norm": (True,)}  # what its classes build anyway
_NOAUX_TC = {"scoring_func": ("sigmoid",), "topk_method": ("noaux_tc",)}
_DEEPSEEK_V3 = Family(
    read=deepseek_families.deepseek_v3,
    without_cost=DEEPSEEK_ROUTER | {"head_dim"},  # of no projection: a copy of qk_rope_head_dim
    only={**_DEEPSEEK, **_NOAUX_TC},
)
_DEEPSEEK_V32 = Family(
    read=deepseek_families.deepseek_v32,
    without_cost=_DEEPSEEK_V3.without_cost
    | {"index_share_for_mtp_iteration", "index_skip_topk_offset", "indexer_rope_interleave"},
    only={**_DEEPSEEK_V3.only, "index_topk_pattern": (None,)},
)
_DEEPSEEK_V4 = Family(
    read=deepseek_v4_families.deepseek_v4,
    # Where activations are clamped; small constants; a frequency of rotations.
    without_cost=DEEPSEEK_ROUTER | {"compress_rope_theta", "hc_eps", "swiglu_limit"},
    only={
        "num_key_value_heads": (1,),
        "scoring_func": ("sqrtsoftplus",),
        "topk_method": ("noaux_tc",),
    },
)
_DEEPSEEK_V41 = Family(
    read=deepseek_v4_families.deepseek_v41,
    # Besides: draft layers, which are left out; how token ids are normalised before they are
    # hashed; a factor of the scores.
    without_cost=_DEEPSEEK_V4.without_cost
    | {"dspark_block_size", "dspark_markov_rank", "dspark_n_routed_experts"}
    | {"dspark_noise_token_id", "dspark_num_experts_per_tok", "dspark_target_layer_ids"}
    | {"engram_compressed_vocab_size", "engram_pad_id", "engram_pad_token_id", "gate_temp"},
    only={**_DEEPSEEK_V4.only, "first_k_dense_replace": (0,)},
)
_MINIMAX_M3 = Family(
    read=sparse_families.minimax_m3,
    # Norms multiply by 1 + weight; a factor of the router weights.
    without_cost=ROUTER_TRAINING | {"routed_scaling_factor", "use_gemma_norm"},
    only={
        "attention_output_gate": (False,),
        "hidden_act": ("silu", "swigluoai"),
        "n_shared_experts": (1,),
        "qk_norm_type": ("per_head",),
        "scoring_func": ("sigmoid",),
        "use_qk_norm": (True,),
    },
)
_CAUSAL = {"use_bidirectional_attention": (False, None)}
_GEMMA3 = Family(
    read=norm_families.gemma3,
    without_cost=frozenset({"query_pre_attn_scalar", "rope_local_base_freq"}),  # scale, frequency
    only=_CAUSAL,
)
_GEMMA3N = Family(
    read=gemma_families.gemma3n,
    # Which stream a block computes, the clamp of coefficients, a frequency.
    without_cost=frozenset({"altup_active_idx", "altup_coef_clip", "rope_local_base_freq"}),
    only={"altup_correct_scale": (True,)},
)
_GEMMA4 = Family(
    read=gemma_families.gemma4,
    only={
        "enable_moe_block": (False, None),
        "expert_intermediate_size": (None,),
        "top_k_experts": (None,),
        "use_bidirectional_attention": ("vision", None),  # text is causal in both
    },
)
_COHERE_WITHOUT_COST = frozenset(  # a constant factor; the period of windows again; many GPUs
    {"layer_switch", "logit_scale", "use_parallel_embedding"}
)
_COHERE = {
    "order_of_interleaved_layers": ("local_attn_first",),
    "position_embedding_type": ("rope_gptj",),
    "use_embedding_sharing": (True,),  # tie_word_embeddings says it, too
    "use_gated_activation": (True,),
    "use_parallel_block": (True,),
}
_HUNYUAN = {  # parts of Tencent's own code that transformers' classes do not have
    "add_classification_head": (False,),
    "norm_type": ("hf_rms", "rms"),
    "position_embedding_xdrope": (False,),
    "use_cla": (False,),
    "use_mla": (False,),
    "use_qk_norm": (True,),  # built in any case
    "use_rotary_pos_emb": (True,),
}
_HUNYUAN_WITHOUT_COST = _SLICES | {
    "cla_share_factor",
    "class_num",
    "dense_list",
    "eod_token_id",
    "kv_lora_rank",
    "mask_init_id",
    "num_media_embeds",
    "org_vocab_size",
    "pool_type",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "xdrope_section",
}
_HUNYUAN_MOE = {
    "group_limited_greedy": (False,),
    "moe_drop_tokens": (False,),
    "moe_layer_num_skipped": (0,),
    "moe_random_routing_dropped_token": (False,),
    "norm_topk_prob": (True,),
    "use_mixed_mlp_moe": (True,),  # the shared expert
}

_QWEN3_5 = {  # built in any case; states of gated delta nets are kept in float32
    "attn_output_gate": (True,),
    "mamba_ssm_dtype": ("float32",),
}
_LFM2_WITHOUT_COST = frozenset(  # initialisation; other names of heads, positions and epsilons
    {
        "block_mlp_init_scale",
        "block_norm_eps",
        "block_out_init_scale",
        "block_use_xavier_init",
        "conv_use_xavier_init",
        "num_heads",
        "theta",
    }
)
_LFM2 = {"block_use_swiglu": (True,), "use_pos_enc": (True,)}

_NEMOTRON = {
    "mamba_hidden_act": ("silu",),
    "mamba_proj_bias": (False, None),
    "mamba_ssm_cache_dtype": ("float32", None),  # of the states
    "residual_in_fp32": (False, None),  # twice the bytes of the residual stream
}
_NEMOTRON_WITHOUT_COST = frozenset(
    {
        "expand",  # the inner width follows from the heads
        "mamba_dt_init_floor",
        "mamba_dt_limit",
        "mamba_dt_max",
        "mamba_dt_min",
        "moe_shared_expert_overlap",  # when it runs
        "mtp_hybrid_override_pattern",  # of layers that are left out
        "mtp_layers_block_type",
        "num_logits_to_keep",  # the workload's --logits says which
        "rescale_prenorm_residual",  # of the initialisation, as those of time steps
        "time_step_floor",
        "time_step_limit",
        "time_step_max",
        "time_step_min",
        "time_step_rank",
        "use_mamba_kernels",
    }
)

_FALCON_WITHOUT_COST = frozenset(
    {
        "attn_layer_indices",  # every layer has attention
        "mamba_expand",  # the inner width follows from the heads
        "mamba_norm_before_gate",  # the same work in another order
        "mlp_expansion_factor",  # intermediate_size holds
        "num_logits_to_keep",
        "time_step_floor",
        "time_step_limit",
        "time_step_max",
        "time_step_min",
    }
)

_LONGCAT = {"attention_method": ("MLA",), "zero_expert_type": ("identity",)}
_LONGCAT_WITHOUT_COST = frozenset(
    {
        "head_dim",  # of no projection
        "mla_scale_kv_lora",  # constants of the latents
        "mla_scale_q_lora",
        "routed_scaling_factor",
    }
)
_QWEN4_EXP = Family(
    read=sparse_families.qwen4_exp,
    # Which factors hash n-grams; in how many files a table lies.
    without_cost=ROUTER_TRAINING | {"seed", "split_ngram_parts"},
    only={
        **_QWEN3_5,
        "attention_bias": (False,),
        "indexer_kv_heads": (1,),
        "output_gate_type": (None, "silu"),
    },
)
_KIMI_LINEAR = {  # some are parts of Kimi K3, whose text model says kimi_linear, too
    "attention_bias": (False,),
    "attn_res_block_size": (0,),
    "mla_use_nope": (True,),  # no code of the family rotates
    "mla_use_output_gate": (False,),
    "moe_layer_freq": (1,),
    "moe_router_activation_func": ("sigmoid",),
    "topk_method": ("noaux_tc",),
    "use_grouped_topk": (True,),
}

FAMILIES: Final[dict[str, Family]] = {
    "cohere": Family(read=norm_families.cohere, without_cost=_COHERE_WITHOUT_COST, only=_COHERE),
    "cohere2": Family(read=norm_families.cohere2, without_cost=_COHERE_WITHOUT_COST, only=_COHERE),
    "deepseek_v2": Family(
        read=deepseek_families.deepseek_v2,
        without_cost=_DEEPSEEK_V3.without_cost,
        only={**_DEEPSEEK, "scoring_func": ("softmax",)},
    ),
    "deepseek_v3": _DEEPSEEK_V3,
    "deepseek_v32": _DEEPSEEK_V32,
    "deepseek_v4": _DEEPSEEK_V4,
    "deepseek_v41_text": _DEEPSEEK_V41,  # within deepseek_v41
    "dots1": Family(
        read=deepseek_families.dots1,
        without_cost=DEEPSEEK_ROUTER | _SLICES,
        only={**_DEEPSEEK, "scoring_func": ("noaux_tc", "sigmoid"), "topk_method": ("noaux_tc",)},
    ),
    "ernie4_5": Family(read=dense_families.ernie4_5),
    "ernie4_5_moe": Family(
        read=moe_families.ernie4_5_moe,
        without_cost=ROUTER_TRAINING | {"moe_capacity", "moe_norm_min"},
        only={"moe_gate": ("topk",), "moe_use_aux_free": (True,)},
    ),
    "exaone4": Family(read=norm_families.exaone4),
    "falcon_h1": Family(
        read=mamba_families.falcon_h1,
        without_cost=_FALCON_WITHOUT_COST,
        only={"mamba_use_mlp": (True,), "projectors_bias": (False,)},
    ),
    "flex_olmo": Family(read=moe_families.flex_olmo, without_cost=ROUTER_TRAINING),
    "gemma": Family(
        read=norm_families.gemma,
        only={
            "hidden_act": ("gelu", "gelu_pytorch_tanh"),
            "hidden_activation": ("gelu_pytorch_tanh", None),
            **_CAUSAL,
        },
    ),
    "gemma2": Family(
        read=norm_families.gemma2,
        without_cost=frozenset({"query_pre_attn_scalar"}),
        only=_CAUSAL,
    ),
    "gemma3": _GEMMA3,  # wraps gemma3_text and a vision tower
    "gemma3_text": _GEMMA3,
    "gemma3n": _GEMMA3N,  # wraps gemma3n_text and towers
    "gemma3n_text": _GEMMA3N,
    "gemma4": _GEMMA4,  # wraps gemma4_text and towers
    "gemma4_text": _GEMMA4,
    "glm": Family(read=dense_families.glm),
    "glm4": Family(read=norm_families.glm4),
    "glm_moe_dsa": _DEEPSEEK_V32,
    "glm4_moe": Family(
        read=deepseek_families.glm4_moe, without_cost=DEEPSEEK_ROUTER, only=_NOAUX_TC
    ),
    "gpt_oss": Family(
        read=moe_families.gpt_oss,
        without_cost=ROUTER_TRAINING | {"initial_context_length"},
        only={"hidden_act": ("silu",)},  # half of its clamped SwiGLU
    ),
    "granite": Family(read=dense_families.granite),
    "granitemoe": Family(read=moe_families.granitemoe, without_cost=ROUTER_TRAINING),
    "granitemoehybrid": Family(
        read=hybrid_families.granitemoehybrid,
        # The inner width follows from the heads; a bound of step sizes, the rest is training.
        without_cost=ROUTER_TRAINING | {"init_method", "mamba_expand", "time_step_limit"},
        only={"normalization_function": ("rmsnorm",)},
    ),
    "hunyuan_v1_dense": Family(
        read=dense_families.hunyuan_v1_dense, without_cost=_HUNYUAN_WITHOUT_COST, only=_HUNYUAN
    ),
    "hunyuan_v1_moe": Family(
        read=moe_families.hunyuan_v1_moe,
        without_cost=ROUTER_TRAINING | _HUNYUAN_WITHOUT_COST | {"routed_scaling_factor"},
        only={**_HUNYUAN, **_HUNYUAN_MOE},
    ),
    "kimi_k2": _DEEPSEEK_V3,
    "kimi_linear": Family(
        read=kimi_family.kimi_linear,
        # Factors of an activation that is refused itself.
        without_cost=_DEEPSEEK_V3.without_cost
        | {"activation_situ_beta", "activation_situ_linear_beta"},
        only=_KIMI_LINEAR,
    ),
    "lfm2": Family(read=hybrid_families.lfm2, without_cost=_LFM2_WITHOUT_COST, only=_LFM2),
    "lfm2_moe": Family(
        read=hybrid_families.lfm2_moe,
        without_cost=_LFM2_WITHOUT_COST | {"routed_scaling_factor"},
        only=_LFM2,
    ),
    "llama": Family(read=dense_families.llama),
    "llama4_text": Family(
        read=llama4_family.llama4,
        # The strength of a factor of queries; what a quantisation tool noted.
        without_cost=ROUTER_TRAINING | {"attn_scale", "for_llm_compressor"},
    ),
    "longcat_flash": Family(
        read=longcat_families.longcat_flash,
        without_cost=_LONGCAT_WITHOUT_COST,
        only=_LONGCAT,
    ),
    "longcat_flash_ngram": Family(
        read=longcat_families.longcat_flash_ngram,
        without_cost=_LONGCAT_WITHOUT_COST,
        only=_LONGCAT,
    ),
    "mimo_v2_flash": Family(
        read=deepseek_families.mimo_v2_flash,
        # A constant factor of the values, frequencies, and a chunk that no code reads.
        without_cost=DEEPSEEK_ROUTER
        | {"attention_chunk_size", "attention_value_scale", "layernorm_epsilon", "swa_rope_theta"},
        only={**_NOAUX_TC, "hybrid_block_size": (None,)},
    ),
    "minimax_m2": Family(
        read=moe_families.minimax_m2,
        # Keys of MiniMax-Text-01; no block here has such an FFN (the shared one has width 0).
        without_cost=ROUTER_TRAINING | {"mlp_intermediate_size", "shared_moe_mode"},
        only={
            "layernorm_full_attention_alpha": (1.0, 1),
            "layernorm_full_attention_beta": (1.0, 1),
            "layernorm_linear_attention_alpha": (1.0, 1),
            "layernorm_linear_attention_beta": (1.0, 1),
            "layernorm_mlp_alpha": (1.0, 1),
            "layernorm_mlp_beta": (1.0, 1),
            "postnorm": (False,),
            "qk_norm_type": ("per_layer",),
            "scoring_func": ("sigmoid",),
        },
    ),
    "minimax_m3": _MINIMAX_M3,
    "minimax_m3_vl": _MINIMAX_M3,  # wraps minimax_m3_vl_text and a vision tower
    "minimax_m3_vl_text": _MINIMAX_M3,
    "ministral3": Family(read=dense_families.ministral3),
    "mistral": Family(read=dense_families.mistral),
    "mixtral": Family(read=moe_families.mixtral, without_cost=ROUTER_TRAINING),
    "nemotron_h": Family(
        read=mamba_families.nemotron_h,
        without_cost=DEEPSEEK_ROUTER | _NEMOTRON_WITHOUT_COST,
        only=_NEMOTRON,
    ),
    "olmo2": Family(read=norm_families.olmo2),
    "olmo3": Family(read=norm_families.olmo3),
    "olmoe": Family(read=moe_families.olmoe, without_cost=ROUTER_TRAINING),
    "phi3": Family(
        read=dense_families.phi3,
        without_cost=frozenset({"interpolate_factor"}),  # of the rotation
        only={"full_attn_mod": (1,)},
    ),
    "qwen2": Family(read=dense_families.qwen2, only={"qkv_bias": (True, None)}),
    # Where use_sliding_window must be false, releases read it differently.
    "qwen2_moe": Family(read=moe_families.qwen2_moe, without_cost=ROUTER_TRAINING),
    "qwen3": Family(read=dense_families.qwen3, only=_QWEN3),
    "qwen3_5_moe_text": Family(
        read=hybrid_families.qwen3_5_moe,
        without_cost=ROUTER_TRAINING | {"mtp_use_dedicated_embeddings"},
        only=_QWEN3_5,
    ),
    "qwen3_5_text": Family(
        read=hybrid_families.qwen3_5,
        without_cost=frozenset({"mtp_use_dedicated_embeddings"}),
        only=_QWEN3_5,
    ),
    "qwen3_moe": Family(read=moe_families.qwen3_moe, without_cost=ROUTER_TRAINING, only=_QWEN3),
    "qwen3_next": Family(
        read=hybrid_families.qwen3_next, without_cost=ROUTER_TRAINING, only=_QWEN3_5
    ),
    "qwen4_exp": _QWEN4_EXP,  # wraps qwen4_exp_text and a vision tower
    "qwen4_exp_text": _QWEN4_EXP,
    "seed_oss": Family(read=dense_families.seed_oss, without_cost=_SLICES),
    "smollm3": Family(read=dense_families.smollm3, without_cost=_SLICES),
    "starcoder2": Family(
        read=norm_families.starcoder2,
        without_cost=frozenset(
            {
                "activation_function",  # of older code; hidden_act holds
                "attention_softmax_in_fp32",
                "inference_runner",
                "layer_norm_epsilon",
                "scale_attention_softmax_in_fp32",
            }
        ),
        only={
            "mlp_type": ("default",),
            "norm_type": ("layer_norm",),
            "scale_attn_weights": (True,),
        },
    ),
}
