"""Small models of every kind that fused steps run, in sizes that a GPU takes too."""

from dataclasses import replace
from typing import Any

from costmodel.inputs.model import ModelConfig, Override
from costmodel.layers.attention import Attention
from costmodel.layers.base import FfnKind, MemoryKind, MixerKind
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from tests.reference_model.tiny import ultramem_v2

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


def remembers(*memory: MemoryKind, ffn: FfnKind | None = None) -> ModelConfig:
    """Memory layers in a model of dense layers, unless another FFN is given."""
    return model(heads(2, 2), ffn or DenseFfn(intermediate_size=64), memory=memory)


PRODUCT_KEY = ProductKey(
    layers="1",
    num_keys=9,
    num_heads=2,
    knn=5,
    key_dim=8,
    value_dim=24,
    gate=True,
    output_projection=True,
    replaces_ffn=False,
)
PEER = Peer(layers="0", num_keys=7, num_heads=2, knn=4, key_dim=8)
MEMORIES = {
    "memory, pre-values, ring windows": remembers(ultramem_v2(knum=7, share_ratio=0.9, knn=6)),
    "memory, heads, groups, skips": remembers(
        ultramem_v2(
            layers="0:1,1",
            knum=5,
            share_ratio=None,
            pre_value_dim=None,
            num_heads=2,
            value_expansion=2,
        )
    ),
    "memory, expanded values in one sum, ranks' queries, experts": remembers(
        ultramem_v2(value_expansion=2, query_per_rank=True, tucker_rank=3, num_heads=2),
        ffn=experts(16, 3),
    ),
    "memory+, gate, biases": remembers(replace(PRODUCT_KEY, projection_bias=True)),
    "memory+ in place of an FFN, one head": remembers(
        replace(PRODUCT_KEY, num_heads=1, replaces_ffn=True)
    ),
    "PKM that skips beside another memory": remembers(
        replace(PRODUCT_KEY, layers="0:1", value_dim=128, output_projection=False, qk_norm=False),
        ultramem_v2(layers="1", tucker_rank=1, tucker_cores=1, first_stage_topk=3),
    ),
    "PEER in place of an FFN": remembers(PEER),
    "PEER beside experts, tables of heads": remembers(
        replace(PEER, table_per_head=True, shared_keys=False, replaces_ffn=False),
        ffn=experts(16, 3),
    ),
}
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
    **MEMORIES,
}
PROMPTED = [name for name in MODELS if "window" not in name and "latents" not in name]
"""Those with kernels for whole prompts."""
