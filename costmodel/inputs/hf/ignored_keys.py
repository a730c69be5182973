"""Keys of config.json files that do not change what a step costs, grouped by the reason.

`ONE_VALUE` holds keys of a family that does not read them, with the values at which they say
nothing: whatever a key switches on elsewhere is off.
"""

BOOKKEEPING = frozenset(
    {
        "_attn_implementation",  # the workload's --backend says whose kernels run
        "_attn_implementation_autoset",
        "_attn_implementation_internal",
        "_commit_hash",
        "_flash_attn_2_enabled",
        "_name_or_path",  # read for the model's name
        "attn_implementation",
        "auto_map",
        "base_model_ep_plan",  # one GPU
        "base_model_pp_plan",
        "base_model_tp_plan",
        "configuration_class",
        "custom_pipelines",
        "dtype",  # read for the format of what is not quantised, in a quantised checkpoint
        "model_max_length",
        "model_type",
        "name_or_path",
        "tokenizer_class",
        "tokenizer_model_max_length",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_bfloat16",
        "use_cache",  # a step is costed with its cache
        "use_flash_attention_2",
        "use_flash_attn",
    }
)

TOKEN_IDS = frozenset(
    {
        "begin_suppress_tokens",
        "bos_token_id",
        "cls_token_id",
        "decoder_start_token_id",
        "eos_token_id",
        "eot_token_id",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "mask_token_id",
        "pad_token_id",
        "sep_token_id",
        "suppress_tokens",
        "unk_token_id",
    }
)

TRAINING = frozenset(  # dropout, initialisation and losses play no part in inference
    {
        "attention_dropout",
        "attention_probs_dropout_prob",
        "attn_pdrop",
        "classifier_dropout",
        "dropout",
        "embd_pdrop",
        "embedding_dropout",
        "ffn_dropout",
        "gradient_checkpointing",
        "hidden_dropout",
        "hidden_dropout_prob",
        "initializer_factor",
        "initializer_range",
        "mlp_dropout",
        "resid_pdrop",
        "residual_dropout",
    }
)

POSITIONS = frozenset(  # they set the frequencies of the rotation and the trained length
    {
        "max_position_embeddings",
        "max_seq_len",
        "max_sequence_length",
        "max_window_layers",  # of no use without a window, which is refused where it is not read
        "original_max_position_embeddings",
        "rope_interleave",
        "rope_interleaved",
        "rope_scaling",
        "rope_theta",
        "rope_type",
        "rotary_base",
        "seq_length",
        "use_dynamic_ntk",
    }
)

CONSTANTS = frozenset(  # one scalar operation a row, which no formula counts
    {"layer_norm_eps", "norm_eps", "norm_epsilon", "rms_norm_eps"}
)

GENERATION = frozenset(  # defaults of generate() and of pipelines that old versions wrote out
    {
        "bad_words_ids",
        "cache_implementation",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "id2label",
        "is_decoder",
        "label2id",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "prefix",
        "problem_type",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict",
        "return_dict_in_generate",
        "task_specific_params",
        "temperature",
        "tf_legacy_loss",
        "top_k",
        "top_p",
        "torchscript",
        "typical_p",
    }
)

WITHOUT_COST = BOOKKEEPING | TOKEN_IDS | TRAINING | POSITIONS | CONSTANTS | GENERATION

# Router losses and jitter belong to training; logits of the router exist whether returned or not.
ROUTER_TRAINING = frozenset({"output_router_logits", "router_aux_loss_coef", "router_jitter_noise"})

# DeepSeek's names of the same, and the constant factor folded into the experts' weighted sum.
DEEPSEEK_ROUTER = frozenset(
    {"aux_loss_alpha", "output_router_logits", "routed_scaling_factor", "seq_aux"}
)

_OFF = (False, None)
_NONE = (0, None)

ONE_VALUE: dict[str, tuple[object, ...]] = {
    "add_cross_attention": (False,),
    "attention_bias": _OFF,
    "attention_out_bias": _OFF,
    "attn_logit_softcapping": (None,),
    "bias": _OFF,
    "chunk_size_feed_forward": (0,),
    "clip_qkv": (None,),
    "cross_attention_hidden_size": (None,),
    "final_logit_softcapping": (None,),
    "is_encoder_decoder": (False,),
    "is_llama_config": (True,),  # SmolLM says so of itself
    "lm_head_bias": _OFF,
    "logits_soft_cap": (None,),
    "mlp_bias": _OFF,
    "mlp_only_layers": ([], None),
    "moe_intermediate_size": _NONE,
    "n_routed_experts": _NONE,
    "n_shared_experts": _NONE,
    "no_bias": (True,),
    "num_experts": _NONE,
    "num_experts_per_tok": _NONE,
    "num_local_experts": _NONE,
    "num_mtp_modules": _NONE,
    "num_nextn_predict_layers": _NONE,
    "num_shared_experts": _NONE,
    "parallel_attn": _OFF,
    "partial_rotary_factor": (1.0, 1, None),
    "pretraining_tp": (1, None),  # slices of projections, which current releases do not make
    "pruned_heads": ({}, None),
    "qk_layernorm": _OFF,
    "qk_norm": _OFF,
    "qkv_bias": _OFF,
    "rotary_pct": (1.0, 1, None),
    "shared_expert_intermediate_size": _NONE,
    "shared_intermediate_size": _NONE,
    "sliding_window": (None,),
    "sliding_window_pattern": (None,),
    "tie_encoder_decoder": (False,),
    "use_bias": _OFF,
    "use_mrope": _OFF,
    "use_parallel_residual": _OFF,
    "use_qk_norm": _OFF,
    "use_qkv_bias": _OFF,
    "use_sliding_window": _OFF,
}
