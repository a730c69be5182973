"""Tiny models of every kind for the tests: configurations, random parameters, comparison."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from costmodel.inputs.model import ModelConfig, Override, Shortcut
from costmodel.layers.absent import NoFfn, NoMixer
from costmodel.layers.altup import AltUp
from costmodel.layers.attention import Attention
from costmodel.layers.attention_and_mamba2 import AttentionAndMamba2
from costmodel.layers.base import MemoryKind
from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.gated_delta_net import GatedDeltaNet
from costmodel.layers.gated_residual import GatedResidual
from costmodel.layers.hyper_connections import HyperConnections
from costmodel.layers.kimi_delta_attention import KimiDeltaAttention
from costmodel.layers.laurel import Laurel
from costmodel.layers.mamba2 import Mamba2
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.msa import BlockSparseAttention
from costmodel.layers.ngram import Ngram
from costmodel.layers.ngram_embedding import NgramEmbedding
from costmodel.layers.peer import Peer
from costmodel.layers.per_layer_embedding import PerLayerEmbedding
from costmodel.layers.product_key import ProductKey
from costmodel.layers.qsa import PooledKeyAttention
from costmodel.layers.short_conv import ShortConv
from costmodel.layers.ultramem import UltraMem
from reference_model.model import ReferenceModel, build_model
from tests.reference_model.oracles import Array, Choice
from tests.steps import tiny_model

T = TypeVar("T")

NORMS = ("norm", "kv_norm", "q_norm", "k_norm", "key_norm")
BIASES = (
    *("bias", "scale", "gate_up_bias", "down_bias", "sinks", "score_correction_bias"),
    "image_correction_bias",
)
BUFFERS = ("score_correction",)  # that a controller sets


def _randomise_buffers(module: nn.Module, seed: int) -> None:
    for name, buffer in module.named_buffers():
        if name.rpartition(".")[2] in BUFFERS:
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            buffer.copy_(0.05 * torch.randn(buffer.shape, generator=generator))


def randomise(module: nn.Module, seed: int) -> None:
    """Give every parameter values that a mistake cannot hide behind: no zero bias, no flat norm.

    Each parameter has a generator of its own, named after it, so that a new one moves no other.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            leaf, _, last = name.rpartition(".")
            if last in NORMS or leaf.endswith("_norm"):
                value = 1 + 0.3 * noise
                if last in ("norm", "key_norm"):  # of memory layers: products of scores stay small
                    value = value * len(value) ** -0.4
            elif last in BIASES:
                value = 0.5 * noise
            elif last == "coefficients":  # of streams, which they would else blow up
                value = 0.2 * noise
            elif last == "cores" or leaf == "embed":
                value = noise
            else:
                value = noise / parameter.shape[-1] ** 0.5
            parameter.copy_(value)
        _randomise_buffers(module, seed)
        for child in module.modules():
            set_cores = getattr(child, "set_cores", None)
            if callable(set_cores):
                set_cores(child.cores)


def made(
    config: ModelConfig, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> ReferenceModel:
    """A model with `randomise`d parameters."""
    model = build_model(config, dtype=dtype, seed=seed)
    randomise(model, seed)
    return model


def arrays(module: nn.Module) -> dict[str, Array]:
    """Parameters and buffers as float64, a shared one under each of its names."""
    return {name: array(tensor) for name, tensor in module.state_dict().items()}


def array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy().copy()  # a fold works in place


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def ids(config: ModelConfig, batch: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, length), generator=generator)


def with_gap(truth: Callable[[int, Choice], T], least: float = 1e-5) -> T:
    """`truth` of the first seed whose choices float32 cannot change."""
    for seed in range(50):
        choice = Choice()
        expected = truth(seed, choice)
        if choice.gap > least:
            return expected
    raise AssertionError("no seed has a gap as wide")


def assert_close(got: Tensor | Array, want: Tensor | Array, tolerance: float) -> None:
    """Equal to `tolerance` of the largest number wanted."""
    a = array(got) if isinstance(got, Tensor) else got
    b = array(want) if isinstance(want, Tensor) else want
    assert a.shape == b.shape
    assert np.isfinite(a).all()
    error = float(np.abs(a - b).max()) / float(np.abs(b).max())
    assert error <= tolerance, f"differs by {error:.2e} of the largest"


GQA = Attention(num_attention_heads=4, num_key_value_heads=2, head_dim=4, qk_norm="head")
WINDOW = Attention(
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=4,
    sliding_window=4,
    rotary_dim=2,
    attention_bias=True,
    output_bias=True,
    sinks=True,
)
MLA = LatentAttention(
    num_attention_heads=2,
    kv_lora_rank=8,
    qk_nope_head_dim=6,
    qk_rope_head_dim=4,
    v_head_dim=5,
    q_lora_rank=8,
)
INDEXED = replace(MLA, index_topk=4, index_n_heads=16, index_head_dim=6)
MSA = BlockSparseAttention(
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    rotary_dim=4,
    index_n_heads=2,
    index_head_dim=5,
    index_block_size=2,
    index_topk_blocks=2,
)
QSA = PooledKeyAttention(
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    rotary_dim=4,
    output_gate=True,
    index_n_heads=16,
    index_head_dim=5,
    index_budget=4,
    index_compress_ratio=2,
)
CSA = CompressedAttention(
    num_attention_heads=4,
    head_dim=8,
    q_lora_rank=6,
    qk_rope_head_dim=4,
    o_groups=2,
    o_lora_rank=5,
    sliding_window=3,
    compress_ratio=2,
    overlapping=True,
    index_topk=2,
    index_n_heads=16,
    index_head_dim=6,
)
CSA2 = replace(  # as DeepSeek-V4.1: layers that own entries, that choose anew, that take a choice
    CSA, overlapping=False, query_norm=False, position_bias=False, keys_of_entries=True
)
REUSE = replace(CSA2, shared_entries=True, shared_index=True)
OF_TOKENS = replace(CSA2, compress_ratio=1, candidate_topk_blocks=2, candidate_block_size=2)
REINDEX = replace(OF_TOKENS, shared_entries=True)
HCA = replace(
    CSA,
    compress_ratio=3,
    overlapping=False,
    index_topk=None,
    index_n_heads=None,
    index_head_dim=None,
)
# As Gemma 4: full attention with wider heads whose keys are values; layers that read others' caches
WIDE = Attention(
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    rotary_dim=4,
    qk_norm="head",
    attention_k_eq_v=True,
    value_norm=True,
)
NARROW = replace(GQA, sliding_window=3, value_norm=True)
READS_NARROW = replace(NARROW, value_norm=False, shared_kv=True)
READS_WIDE = replace(WIDE, attention_k_eq_v=False, value_norm=False, shared_kv=True)
GDN = GatedDeltaNet(
    linear_num_key_heads=1,
    linear_num_value_heads=2,
    linear_key_head_dim=6,
    linear_value_head_dim=4,
    chunk_size=4,
)
KDA = KimiDeltaAttention(num_heads=2, head_dim=6, chunk_size=4)
MAMBA = Mamba2(mamba_n_heads=4, mamba_d_head=4, mamba_n_groups=2, mamba_d_state=8)
BOTH = AttentionAndMamba2(attention=GQA, mamba=MAMBA)
DENSE = DenseFfn(intermediate_size=16)
MOE = MoeFfn(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=8)
GROUPED_MOE = MoeFfn(
    num_experts=12,
    num_experts_per_tok=3,
    moe_intermediate_size=8,
    shared_intermediate_size=12,
    scoring="sigmoid",
    norm_topk_prob=True,
    score_correction_bias=True,
    n_group=4,
    topk_group=2,
    group_score_experts=2,
)
LATENT_MOE = MoeFfn(
    num_experts=8,
    num_experts_per_tok=3,
    moe_intermediate_size=8,
    moe_latent_size=8,
    shared_intermediate_size=12,
    gated=False,
    activation="relu2",
    scoring="sigmoid",
    norm_topk_prob=True,
)
ZERO_MOE = MoeFfn(
    num_experts=8,
    num_experts_per_tok=3,
    moe_intermediate_size=8,
    zero_expert_num=4,
    score_correction_buffer=True,
)
SQRT_MOE = MoeFfn(  # as DeepSeek-V4
    num_experts=8,
    num_experts_per_tok=3,
    moe_intermediate_size=8,
    shared_intermediate_size=12,
    scoring="sqrtsoftplus",
    norm_topk_prob=True,
    score_correction_bias=True,
    image_correction_bias=True,
)
HASH_MOE = replace(
    SQRT_MOE, score_correction_bias=False, image_correction_bias=False, hash_vocab_size=23
)
BIASED_MOE = MoeFfn(
    num_experts=4,
    num_experts_per_tok=2,
    moe_intermediate_size=8,
    activation="clamped_silu",
    scoring="softmax_of_chosen",
    router_bias=True,
    expert_bias=True,
)


def ultramem_v2(**fields: Any) -> UltraMem:  # noqa: ANN401 - any field of a memory layer
    """A shared table in ring windows that wrap, pre-values."""
    given: dict[str, Any] = {
        "knum": 4,
        "share_ratio": 1.0,
        "knn": 4,
        "key_dim": 8,
        "value_dim": 8,
        "pre_value_dim": 8,
    }
    return UltraMem(**(given | fields))


def small(*memory: MemoryKind, **fields: Any) -> ModelConfig:  # noqa: ANN401 - fields of a model
    """Four layers of D = 16 with GQA and a dense FFN, unless told otherwise."""
    given: dict[str, Any] = {
        "hidden_size": 16,
        "vocab_size": 23,
        "num_hidden_layers": 4,
        "attention": GQA,
        "ffn": DENSE,
        "memory": memory,
    }
    return tiny_model(**(given | fields))


PRODUCT_KEY = ProductKey(
    layers="1,3",
    num_keys=5,
    num_heads=2,
    knn=3,
    key_dim=6,
    value_dim=12,
    gate=True,
    output_projection=True,
)

PER_LAYER = PerLayerEmbedding(
    layers="0,2-3", hidden_size_per_layer_input=4, vocab_size_per_layer_input=20
)
NGRAM_EMBEDDING = NgramEmbedding(
    vocab_size=23, emb_neighbor_num=3, emb_split_num=2, ngram_vocab_size_ratio=3
)
NGRAM = Ngram(layers="0,2", max_ngram_size=3, num_heads=2, vocab_size_base=40, head_dim=4)

MODELS: dict[str, ModelConfig] = {
    "dense": small(),
    "windows": small(overrides=(Override(layers="0-2/2", attention=WINDOW),)),
    "all_windows": small(attention=WINDOW, tie_word_embeddings=True),
    "chunks": small(  # Llama 4
        attention=replace(GQA, attention_chunk_size=3, qk_norm="head_unweighted"),
        ffn=replace(MOE, scoring="sigmoid_of_chosen", weighted_input=True),
        overrides=(
            Override(layers="0-2/2", ffn=DENSE),
            Override(layers="3", attention=replace(GQA, rotary_dim=0, floor_scale=4)),
        ),
    ),
    "mla": small(attention=MLA),
    "indexer": small(  # two layers with one, and two that share its choice
        attention=replace(INDEXED, shared_index=True),
        overrides=(Override(layers="0-2/2", attention=INDEXED),),
    ),
    "block_sparse": small(attention=MSA, overrides=(Override(layers="0", attention=GQA),)),
    "pooled_keys": small(attention=QSA, overrides=(Override(layers="0", attention=GDN),)),
    "compressed": small(  # as DeepSeek-V4
        attention=CSA,
        overrides=(
            Override(layers="0", attention=replace(HCA, compress_ratio=None)),
            Override(layers="2", attention=HCA),
        ),
        ffn=MOE,
    ),
    "compressed_shared": small(  # as DeepSeek-V4.1
        num_hidden_layers=7,
        attention=REINDEX,
        overrides=(
            Override(layers="0", attention=replace(HCA, compress_ratio=None, query_norm=False)),
            Override(layers="1", attention=CSA2),
            Override(layers="2", attention=REUSE),
            Override(layers="3", attention=OF_TOKENS),
            Override(layers="5", attention=replace(REUSE, compress_ratio=1)),
        ),
        ffn=MOE,
    ),
    "gated_residual": small(  # as Qwen3.8
        replace(NGRAM, layers="0,2", streams=3, conv_kernel=3, per_stream=True),
        attention=GDN,
        overrides=(Override(layers="1,3", attention=QSA),),
        ffn=MOE,
        gated_residual=GatedResidual(hc_count=3, hc_lowrank=5),
    ),
    "gated_residual_alone": small(
        replace(NGRAM, layers="1", streams=2, per_stream=True),
        gated_residual=GatedResidual(hc_count=2, hc_lowrank=4),
    ),
    "hyper_connections": small(  # as DeepSeek-V4
        replace(NGRAM, layers="0,2", streams=3, per_stream=True),
        attention=WINDOW,
        overrides=(Override(layers="1,3", attention=MLA), Override(layers="0", ffn=HASH_MOE)),
        ffn=SQRT_MOE,
        hyper_connections=HyperConnections(hc_mult=3, hc_sinkhorn_iters=2),
    ),
    "single_pass": small(  # as DeepSeek-V4.1, with a table before the first block too
        replace(NGRAM, layers="0,2", streams=3, per_stream=True),
        hyper_connections=HyperConnections(hc_mult=3, hc_sinkhorn_iters=2, single_pass=True),
    ),
    "hyper_connections_alone": small(
        hyper_connections=HyperConnections(hc_mult=2), tie_word_embeddings=True
    ),
    "post_norms": small(post_norms=True, tie_word_embeddings=True),
    "norms_behind": small(block="norms_behind", logit_softcap=True),
    "shared_caches": small(
        num_hidden_layers=6,
        attention=READS_NARROW,
        overrides=(
            Override(layers="0-1", attention=NARROW),
            Override(layers="2", attention=WIDE),
            Override(layers="4", attention=READS_WIDE),
        ),
        post_norms=True,
        tie_word_embeddings=True,
    ),
    "altup": small(
        PER_LAYER,
        altup=AltUp(altup_num_inputs=3),
        laurel=Laurel(laurel_rank=4),
        post_norms=True,
        tie_word_embeddings=True,
    ),
    "altup_beside_ultramem": small(
        ultramem_v2(layers="0:2,3"), altup=AltUp(altup_num_inputs=2), ffn=MOE
    ),
    "laurel": small(laurel=Laurel(laurel_rank=4), norm="layer_bias"),
    "two_head_sizes": small(
        attention=replace(WINDOW, v_head_dim=6, num_key_value_heads=2),
        overrides=(Override(layers="0", attention=replace(GQA, v_head_dim=6)),),
    ),
    "parallel": small(
        PRODUCT_KEY, block="parallel", norm="layer", tie_word_embeddings=True, ffn=MOE
    ),
    "layer_norm": small(
        norm="layer_bias",
        attention=replace(GQA, softcap=True),
        ffn=DenseFfn(intermediate_size=12, gated=False, activation="gelu", bias=True),
    ),
    "shared_gate": small(
        ffn=replace(MOE, shared_intermediate_size=8, shared_expert_gate=True),
        attention=replace(WINDOW, softcap=True),
    ),
    "moe": small(ffn=MOE),
    "hash_routed": small(
        ffn=replace(HASH_MOE, norm_topk_prob=False, scoring="softmax_of_chosen"),
        overrides=(Override(layers="1", ffn=DENSE),),
        shortcuts=(Shortcut(layers="1", skips=1, ffn=HASH_MOE),),
    ),
    "short_conv": small(attention=ShortConv()),
    "kimi_delta_attention": small(attention=KDA, overrides=(Override(layers="3", attention=MLA),)),
    "mamba2": small(attention=MAMBA),
    "halves": small(
        attention=MAMBA,
        ffn=DenseFfn(intermediate_size=24, gated=False, activation="relu2"),
        overrides=(
            Override(layers="0", ffn=NoFfn()),
            Override(layers="1,3", attention=NoMixer()),
            Override(layers="2", attention=GQA, ffn=NoFfn()),
        ),
    ),
    "latent_moe": small(ffn=LATENT_MOE),
    "zero_experts": small(ffn=ZERO_MOE),
    "attention_and_mamba2": small(attention=BOTH),
    "longcat": small(attention=MLA, shortcuts=(Shortcut(layers="0-2/2", skips=1, ffn=ZERO_MOE),)),
    "shortcuts_beside_memory": small(
        ultramem_v2(layers="0:1,2"),
        ffn=MOE,
        shortcuts=(Shortcut(layers="0-1", skips=2, ffn=DENSE),),
        post_norms=True,
    ),
    "gated_delta_net": small(attention=GDN, overrides=(Override(layers="3", attention=GQA),)),
    "deepseek": small(attention=MLA, ffn=GROUPED_MOE, overrides=(Override(layers="0", ffn=DENSE),)),
    "gpt_oss": small(ffn=BIASED_MOE, overrides=(Override(layers="0-2/2", attention=WINDOW),)),
    "ultramem_v2": small(ultramem_v2(), tie_word_embeddings=True),
    "ultramem": small(
        ultramem_v2(
            layers="0:2,1:1,2:3",
            share_ratio=None,
            pre_value_dim=None,
            num_heads=2,
            value_expansion=2,
        )
    ),
    "memory_plus": small(PRODUCT_KEY, ffn=MOE, post_norms=True),
    "pkm_beside_ultramem": small(
        ultramem_v2(layers="0:3,2"),
        ProductKey(
            layers="1",
            num_keys=4,
            num_heads=2,
            knn=3,
            key_dim=6,
            value_dim=16,
            qk_norm=False,
            replaces_ffn=False,
        ),
    ),
    "ultramem_v2_expanded": small(ultramem_v2(value_expansion=2, query_per_rank=True)),
    "per_layer_embedding": small(PER_LAYER, tie_word_embeddings=True, post_norms=True),
    "ngram_embedding": small(NGRAM_EMBEDDING, attention=MLA),
    "both_embeddings_beside_ultramem": small(
        NGRAM_EMBEDDING, PER_LAYER, ultramem_v2(layers="0:2,3"), norm="layer_bias"
    ),
    "peer": small(Peer(layers="1-3/2", num_keys=6, num_heads=2, knn=4, key_dim=6)),
    "peer_shared_per_head": small(
        Peer(
            layers="1-3/2",
            num_keys=4,
            num_heads=2,
            knn=4,
            key_dim=6,
            shared_table=True,
            table_per_head=True,
        )
    ),
    "ngram": small(replace(NGRAM, streams=2, bias=True), ffn=MOE),
    "ngram_conv_beside_ultramem": small(
        replace(NGRAM, streams=2, conv_kernel=3, divisible_by=16), ultramem_v2(), post_norms=True
    ),
}
