"""The families of config.json files that can be read, by `model_type`, and readers of dense ones.

A reader turns the keys of its family into attention and FFN layers. An absent key takes the default
of that family's configuration class in transformers 5.23 (models/*/configuration_*.py); what no key
says (biases, norms, routers) follows models/*/modeling_*.py of the same release.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from costmodel.inputs.hf import moe_families
from costmodel.inputs.hf.blocks import Blocks, activation, dense, gqa, num_layers, typed_windows
from costmodel.inputs.hf.fields import COUNT, FLAG, INDEX, WINDOW_OR_NULL, Fields, LayerType
from costmodel.inputs.hf.ignored_keys import DEEPSEEK_ROUTER, ROUTER_TRAINING


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How the files of one family are read: its reader, and what its other keys may hold."""

    read: Callable[[Fields], Blocks]
    # Keys that do not change what a step costs.
    without_cost: frozenset[str] = frozenset()
    # Keys whose cost is modelled at these values only.
    only: Mapping[str, tuple[object, ...]] = field(default_factory=dict)


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
            fields, kv_heads=32, windows=_last_blocks_windows(fields), attention_bias=True
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
            windows=_last_blocks_windows(fields),
            qk_norm="head",
            attention_bias=bias,
            output_bias=bias,
        ),
        ffn=[dense(fields, activation(fields))] * num_layers(fields),
    )


def _last_blocks_windows(fields: Fields) -> list[int | None]:
    """The windows of Qwen: of the blocks from `max_window_layers` on, if `use_sliding_window`."""
    used = fields.optional("use_sliding_window", FLAG, default=False)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, 4096)
    first = fields.optional("max_window_layers", INDEX, 28)
    used_window = window if used else None
    default_types: list[LayerType] = [
        "full_attention" if used_window is None or i < first else "sliding_attention"
        for i in range(num_layers(fields))
    ]
    return typed_windows(fields, used_window, default_types)


def gemma3(fields: Fields) -> Blocks:
    """Gemma 3: five blocks with a window, then one without; norms on both sides of each sublayer.

    Published files leave out sizes that equal the defaults of the class.
    """
    bias = fields.optional("attention_bias", FLAG, default=False)
    window = fields.optional("sliding_window", WINDOW_OR_NULL, 4096)
    period = fields.optional("sliding_window_pattern", COUNT, 6, also=("_sliding_window_pattern",))
    layers = num_layers(fields)
    windows = typed_windows(
        fields,
        window,
        ["sliding_attention" if (i + 1) % period else "full_attention" for i in range(layers)],
    )
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
        post_norms=True,
    )


_DEEPSEEK = {"ep_size": (1,), "moe_layer_freq": (1,)}
_QWEN3 = {"qkv_bias": (False, None), "use_qk_norm": (True,)}  # what its classes build anyway
_NOAUX_TC = {"scoring_func": ("sigmoid",), "topk_method": ("noaux_tc",)}
_DEEPSEEK_V3 = Family(
    read=moe_families.deepseek_v3,
    without_cost=DEEPSEEK_ROUTER | {"head_dim"},  # of no projection: a copy of qk_rope_head_dim
    only={**_DEEPSEEK, **_NOAUX_TC},
)
_GEMMA3 = Family(
    read=gemma3,
    without_cost=frozenset({"query_pre_attn_scalar", "rope_local_base_freq"}),  # scale, frequency
    only={
        "attn_logit_softcapping": (None,),
        "final_logit_softcapping": (None,),
        "use_bidirectional_attention": (False, None),
    },
)
FAMILIES: Final[dict[str, Family]] = {
    "deepseek_v2": Family(
        read=moe_families.deepseek_v2,
        without_cost=_DEEPSEEK_V3.without_cost,
        only={**_DEEPSEEK, "scoring_func": ("softmax",)},
    ),
    "deepseek_v3": _DEEPSEEK_V3,
    "gemma3": _GEMMA3,  # wraps gemma3_text and a vision tower
    "gemma3_text": _GEMMA3,
    "glm4_moe": Family(read=moe_families.glm4_moe, without_cost=DEEPSEEK_ROUTER, only=_NOAUX_TC),
    "gpt_oss": Family(
        read=moe_families.gpt_oss,
        without_cost=ROUTER_TRAINING | {"initial_context_length"},
        only={"hidden_act": ("silu",)},  # half of its clamped SwiGLU
    ),
    "kimi_k2": _DEEPSEEK_V3,
    "llama": Family(read=llama),
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
    "mistral": Family(read=mistral),
    "mixtral": Family(read=moe_families.mixtral, without_cost=ROUTER_TRAINING),
    "olmoe": Family(read=moe_families.olmoe, without_cost=ROUTER_TRAINING),
    "qwen2": Family(read=qwen2, only={"qkv_bias": (True, None)}),
    "qwen3": Family(read=qwen3, only=_QWEN3),
    "qwen3_moe": Family(
        read=moe_families.qwen3_moe,
        # Without use_sliding_window, which releases read differently, no window is in use.
        without_cost=ROUTER_TRAINING,
        only=_QWEN3,
    ),
}
