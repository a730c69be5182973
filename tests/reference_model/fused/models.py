"""Small models of every kind that fused steps run, in sizes that a GPU takes too."""

from dataclasses import replace
from typing import Any

from costmodel.inputs.model import ModelConfig, Override
from costmodel.layers.attention import Attention
from costmodel.layers.base import FfnKind, MixerKind
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn

LAYERS, CONTEXT, STEPS = 2, 6, 3


def model(attention: MixerKind, ffn: FfnKind, **fields: Any) -> ModelConfig:  # noqa: ANN401
    return ModelConfig(
        name="tiny", source="test", hidden_size=128, vocab_size=96, num_hidden_layers=LAYERS,
        attention=attention, ffn=ffn, **fields,
    )  # fmt: skip


def heads(num: int, kv: int, head_dim: int = 16, **fields: Any) -> Attention:  # noqa: ANN401
    return Attention(num_attention_heads=num, num_key_value_heads=kv, head_dim=head_dim, **fields)


def latents(num: int, **fields: Any) -> LatentAttention:  # noqa: ANN401 - any field of MLA
    return LatentAttention(num_attention_heads=num, kv_lora_rank=32, qk_rope_head_dim=16, **fields)


def experts(num: int, top_k: int, **fields: Any) -> MoeFfn:  # noqa: ANN401
    return MoeFfn(num_experts=num, num_experts_per_tok=top_k, moe_intermediate_size=64, **fields)


WINDOW = heads(
    8, 2, attention_bias=True, output_bias=True, sinks=True, sliding_window=5, head_dim=32
)
MODELS = {
    "full QK-norm, softmax": model(heads(4, 4, qk_norm="full"), experts(16, 3)),
    "window, sinks, biases": model(
        heads(8, 2, 32, attention_bias=True, output_bias=True, sinks=True),
        experts(
            8,
            2,
            activation="clamped_silu",
            scoring="softmax_of_chosen",
            router_bias=True,
            expert_bias=True,
        ),
        overrides=(Override(layers="0", attention=WINDOW),),
    ),
    "odd widths, odd groups": model(
        heads(6, 3), replace(experts(24, 2, norm_topk_prob=True), moe_intermediate_size=88)
    ),
    "dense, tied": model(
        heads(8, 2), DenseFfn(intermediate_size=192, bias=True), tie_word_embeddings=True
    ),
    "shared experts, groups": model(
        heads(4, 1, 32, qk_norm="head", rotary_dim=16),
        experts(
            16,
            4,
            shared_intermediate_size=128,
            scoring="sigmoid",
            norm_topk_prob=True,
            score_correction_bias=True,
            n_group=4,
            topk_group=2,
            group_score_experts=2,
        ),
    ),
    "latents, unlike layers": model(
        latents(4, qk_nope_head_dim=24, v_head_dim=20),
        experts(16, 3, shared_intermediate_size=128),
        overrides=(Override(layers="0", ffn=DenseFfn(intermediate_size=192)),),
    ),
    "latents, compressed queries, groups": model(
        latents(
            18,
            qk_nope_head_dim=16,
            v_head_dim=24,
            q_lora_rank=40,
            attention_bias=True,
            output_bias=True,
        ),
        experts(
            16,
            4,
            shared_intermediate_size=64,
            scoring="sigmoid",
            norm_topk_prob=True,
            score_correction_bias=True,
            n_group=4,
            topk_group=2,
            group_score_experts=2,
        ),
    ),
}
