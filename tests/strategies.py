"""Random small models of every layer kind, random steps, and the presets."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from hypothesis import strategies as st

from costmodel import presets
from costmodel.inputs.model import Block, ModelConfig, Override, Shortcut, load_model_toml
from costmodel.inputs.tower import Tower
from costmodel.layers.absent import NoFfn, NoMixer
from costmodel.layers.altup import AltUp
from costmodel.layers.attention import Attention
from costmodel.layers.attention_and_mamba2 import AttentionAndMamba2
from costmodel.layers.base import FfnKind, MemoryKind, MixerKind
from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.gated_delta_net import GatedDeltaNet
from costmodel.layers.gated_residual import GatedResidual
from costmodel.layers.hyper_connections import HyperConnections
from costmodel.layers.kimi_delta_attention import KimiDeltaAttention
from costmodel.layers.laurel import Laurel
from costmodel.layers.mamba2 import Mamba2
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn, Scoring
from costmodel.layers.msa import BlockSparseAttention
from costmodel.layers.ngram import Ngram
from costmodel.layers.ngram_embedding import NgramEmbedding
from costmodel.layers.operator import Step
from costmodel.layers.peer import Peer
from costmodel.layers.per_layer_embedding import PerLayerEmbedding
from costmodel.layers.primitives import Activation
from costmodel.layers.product_key import ProductKey
from costmodel.layers.qsa import PooledKeyAttention
from costmodel.layers.residual_streams import ResidualStreams
from costmodel.layers.short_conv import ShortConv
from costmodel.layers.ultramem import UltraMem
from costmodel.routing.popularity import Routing, Uniform, Zipf
from tests.steps import make_step

PRESETS = {
    path.stem: load_model_toml(path)
    for path in sorted((Path(presets.__file__).parent / "models").glob("*.toml"))
}

widths = st.integers(4, 12)
flags = st.booleans()


@st.composite
def gqa(draw: st.DrawFn) -> MixerKind:
    groups, size = draw(st.integers(1, 3)), draw(widths)
    keys_are_values = draw(flags)
    reach = draw(st.sampled_from(["all", "window", "chunk"]))
    return Attention(
        v_head_dim=None if keys_are_values else draw(st.none() | widths),
        attention_k_eq_v=keys_are_values,
        value_norm=draw(flags),
        num_attention_heads=groups * draw(st.integers(1, 3)),
        num_key_value_heads=groups,
        head_dim=size,
        qk_norm=draw(st.sampled_from(["none", "head", "full", "head_unweighted"])),
        rotary_dim=draw(st.none() | st.integers(0, size)),
        sliding_window=draw(st.integers(1, 8)) if reach == "window" else None,
        attention_chunk_size=draw(st.integers(1, 8)) if reach == "chunk" else None,
        floor_scale=draw(st.none() | st.integers(1, 8)),
        attention_bias=draw(flags),
        output_bias=draw(flags),
        sinks=draw(flags),
        softcap=draw(flags),
        output_gate=draw(flags),
    )


indexed: st.SearchStrategy[MixerKind] = st.builds(
    LatentAttention,
    num_attention_heads=st.integers(1, 3),
    kv_lora_rank=widths,
    qk_nope_head_dim=widths,
    qk_rope_head_dim=st.integers(4, 8),
    v_head_dim=widths,
    q_lora_rank=widths,
    index_topk=st.integers(1, 12),
    index_n_heads=st.integers(1, 3),
    index_head_dim=st.integers(8, 12),
)
mla: st.SearchStrategy[MixerKind] = indexed | st.builds(
    LatentAttention,
    num_attention_heads=st.integers(1, 3),
    kv_lora_rank=widths,
    qk_nope_head_dim=widths,
    qk_rope_head_dim=widths,
    v_head_dim=widths,
    q_lora_rank=st.none() | widths,
    attention_bias=flags,
    output_bias=flags,
    mla_use_nope=flags,
)


@st.composite
def block_sparse(draw: st.DrawFn) -> MixerKind:
    groups, size = draw(st.integers(1, 3)), draw(widths)
    return BlockSparseAttention(
        num_attention_heads=groups * draw(st.integers(1, 3)),
        num_key_value_heads=groups,
        head_dim=size,
        qk_norm=draw(st.sampled_from(["none", "head", "full"])),
        rotary_dim=draw(st.none() | st.integers(0, size)),
        attention_bias=draw(flags),
        output_gate=draw(flags),
        index_n_heads=groups,
        index_head_dim=draw(widths),
        index_block_size=draw(st.integers(1, 4)),
        index_topk_blocks=draw(st.integers(1, 4)),
    )


@st.composite
def pooled_keys(draw: st.DrawFn) -> MixerKind:
    groups, size, ratio = draw(st.integers(1, 3)), draw(widths), draw(st.integers(1, 4))
    return PooledKeyAttention(
        num_attention_heads=groups * draw(st.integers(1, 3)),
        num_key_value_heads=groups,
        head_dim=size,
        qk_norm=draw(st.sampled_from(["none", "head", "full"])),
        rotary_dim=draw(st.none() | st.integers(0, size)),
        attention_bias=draw(flags),
        output_gate=draw(flags),
        index_n_heads=draw(st.integers(1, 3)),
        index_head_dim=draw(widths),
        index_budget=ratio * draw(st.integers(1, 4)),
        index_compress_ratio=ratio,
    )


@st.composite
def compressed(draw: st.DrawFn) -> MixerKind:
    groups, ratio = draw(st.integers(1, 3)), draw(st.none() | st.integers(1, 4))
    index: dict[str, Any] = {}
    if ratio is not None and draw(flags):
        index = {
            "index_topk": draw(st.integers(1, 5)),
            "index_n_heads": draw(st.integers(2, 3)),
            "index_head_dim": draw(widths),
            "keys_of_entries": draw(flags),
        }
        if draw(flags):
            index["candidate_topk_blocks"] = draw(st.integers(1, 3))
            index["candidate_block_size"] = draw(st.integers(1, 3))
    return CompressedAttention(
        num_attention_heads=groups * draw(st.integers(1, 3)),
        head_dim=draw(widths),
        q_lora_rank=draw(widths),
        qk_rope_head_dim=4,
        o_groups=groups,
        o_lora_rank=draw(widths),
        sliding_window=draw(st.none() | st.integers(1, 8)),
        compress_ratio=ratio,
        overlapping=ratio is not None and draw(flags),
        query_norm=draw(flags),
        position_bias=draw(flags),
        **index,
    )


short_conv: st.SearchStrategy[MixerKind] = st.builds(
    ShortConv, conv_L_cache=st.integers(2, 5), conv_bias=flags
)
chunk_sizes = st.sampled_from([2, 3, 64])


@st.composite
def gated_delta_net(draw: st.DrawFn) -> MixerKind:
    heads = draw(st.integers(1, 3))
    return GatedDeltaNet(
        linear_num_key_heads=heads,
        linear_num_value_heads=heads * draw(st.integers(1, 2)),
        linear_key_head_dim=draw(widths),
        linear_value_head_dim=draw(widths),
        linear_conv_kernel_dim=draw(st.integers(2, 5)),
        chunk_size=draw(chunk_sizes),
    )


kimi_delta_attention: st.SearchStrategy[MixerKind] = st.builds(
    KimiDeltaAttention,
    num_heads=st.integers(1, 3),
    head_dim=widths,
    short_conv_kernel_size=st.integers(2, 5),
    full_rank_gates=flags,
    chunk_size=chunk_sizes,
)


@st.composite
def mamba2(draw: st.DrawFn) -> MixerKind:
    groups = draw(st.integers(1, 2))
    return Mamba2(
        mamba_n_heads=groups * draw(st.integers(1, 3)),
        mamba_d_head=draw(widths),
        mamba_n_groups=groups,
        mamba_d_state=draw(widths),
        mamba_d_conv=draw(st.integers(2, 5)),
        mamba_conv_bias=draw(flags),
        mamba_proj_bias=draw(flags),
        mamba_rms_norm=draw(flags),
        mamba_chunk_size=draw(chunk_sizes),
    )


recurrent = short_conv | gated_delta_net() | kimi_delta_attention | mamba2()
side_by_side: st.SearchStrategy[MixerKind] = st.builds(
    AttentionAndMamba2, attention=gqa(), mamba=mamba2()
)
attentions = gqa() | block_sparse() | pooled_keys() | compressed() | mla | recurrent | side_by_side

activations = st.sampled_from(get_args(Activation))
dense: st.SearchStrategy[FfnKind] = st.builds(
    DenseFfn, intermediate_size=widths, gated=flags, activation=activations, bias=flags
)


@st.composite
def moe(draw: st.DrawFn, *, multiple_of: int = 1) -> FfnKind:
    groups, size = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kept, shared = draw(st.integers(1, groups)), draw(st.just(0) | widths)
    chosen, correction = draw(st.integers(1, kept * size)), draw(flags)
    # As many again without a computation, so that half of an even k computes.
    zero = groups * size if chosen % 2 == 0 and draw(flags) else 0
    return MoeFfn(
        num_experts=groups * size,
        num_experts_per_tok=chosen,
        zero_expert_num=zero,
        score_correction_buffer=zero > 0 and not correction,
        moe_latent_size=draw(st.none() | widths.map(lambda width: width * multiple_of)),
        moe_intermediate_size=draw(widths) * multiple_of,
        shared_intermediate_size=shared,
        shared_expert_gate=shared > 0 and draw(flags),
        gated=draw(flags),
        activation=draw(activations),
        scoring=draw(st.sampled_from(get_args(Scoring))),
        weighted_input=draw(flags),
        norm_topk_prob=draw(flags),
        score_correction_bias=correction,
        image_correction_bias=correction and draw(flags),
        n_group=groups,
        topk_group=kept,
        group_score_experts=draw(st.integers(1, size)),
        router_bias=draw(flags),
        expert_bias=draw(flags),
    )


ffns = dense | moe()


def chosen_by_ids(ffn: FfnKind, vocab_size: int) -> FfnKind:
    """The experts, chosen by a table of token ids in place of their scores; no others."""
    if not isinstance(ffn, MoeFfn):
        return ffn
    return replace(
        ffn,
        n_group=1,
        topk_group=1,
        score_correction_bias=False,
        image_correction_bias=False,
        score_correction_buffer=False,
        hash_vocab_size=vocab_size,
    )


@st.composite
def ultramem(draw: st.DrawFn, layers: str) -> MemoryKind:
    knn, cores = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return UltraMem(
        layers=layers,
        knum=draw(st.integers(3, 5)),
        share_ratio=draw(st.none() | st.sampled_from([0.5, 0.75, 1.0])),
        knn=knn,
        key_dim=draw(widths),
        value_dim=4 * cores,
        pre_value_dim=draw(st.none() | widths),
        num_heads=draw(st.integers(1, 2)),
        tucker_rank=draw(st.integers(1, 3)),
        tucker_cores=cores,
        query_per_rank=draw(flags),
        value_expansion=draw(st.integers(1, 2)),
        value_expansion_outputs=draw(st.sampled_from([None, "shared", "per_group"])),
        first_stage_topk=draw(st.none() | st.integers(2, 5)),
    )


@st.composite
def product_key(draw: st.DrawFn, layers: str, hidden: int, *, replaces: bool) -> MemoryKind:
    projected = draw(flags)
    return ProductKey(
        layers=layers,
        num_keys=draw(st.integers(2, 5)),
        num_heads=draw(st.integers(1, 3)),
        knn=draw(st.integers(1, 4)),
        key_dim=draw(widths),
        value_dim=draw(widths) if projected else hidden,
        gate=draw(flags),
        output_projection=projected,
        projection_bias=draw(flags),
        qk_norm=draw(flags),
        shared_table=draw(flags),
        replaces_ffn=replaces,
    )


@st.composite
def peer(draw: st.DrawFn, layers: str, *, replaces: bool) -> MemoryKind:
    return Peer(
        layers=layers,
        num_keys=draw(st.integers(2, 5)),
        num_heads=draw(st.integers(1, 3)),
        knn=draw(st.integers(1, 4)),
        key_dim=draw(widths),
        shared_keys=draw(flags),
        shared_table=draw(flags),
        table_per_head=draw(flags),
        query_norm=draw(flags),
        replaces_ffn=replaces,
    )


@st.composite
def per_layer_embedding(draw: st.DrawFn, layers: str) -> MemoryKind:
    return PerLayerEmbedding(
        layers=layers,
        hidden_size_per_layer_input=draw(widths),
        vocab_size_per_layer_input=draw(st.integers(2, 30)),
    )


@st.composite
def ngram_embedding(draw: st.DrawFn, hidden: int) -> MemoryKind:
    tables = [
        (n, k)
        for n in range(2, 5)
        for k in range(1, 4)
        if hidden % (k * (n - 1)) == 0 and hidden // (k * (n - 1)) >= 4
    ]
    neighbours, splits = draw(st.sampled_from(tables))
    return NgramEmbedding(
        vocab_size=draw(st.integers(2, 30)),
        emb_neighbor_num=neighbours,
        emb_split_num=splits,
        ngram_vocab_size_ratio=draw(st.integers(1, 5)),
    )


@st.composite
def ngram(draw: st.DrawFn, layers: str) -> MemoryKind:
    return Ngram(
        layers=layers,
        max_ngram_size=draw(st.integers(2, 4)),
        num_heads=draw(st.integers(1, 3)),
        vocab_size_base=draw(st.integers(2, 50)),
        divisible_by=draw(st.integers(1, 8)),
        head_dim=draw(widths),
        streams=draw(st.integers(1, 3)),
        bias=draw(flags),
        conv_kernel=draw(st.integers(0, 4)),
    )


altups = st.builds(AltUp, altup_num_inputs=st.integers(2, 4))
several_streams = st.builds(
    GatedResidual, hc_count=st.integers(2, 4), hc_lowrank=widths
) | st.builds(
    HyperConnections,
    hc_mult=st.integers(2, 4),
    hc_sinkhorn_iters=st.integers(1, 3),
    single_pass=flags,
)
laurels = st.builds(Laurel, laurel_rank=widths)
towers = st.sampled_from(
    [
        (),
        (
            Tower(name="vision tower", parameters=1001),
            Tower(name="projector", parameters=7, dtype="fp32"),
        ),
    ]
)


@st.composite
def differing(
    draw: st.DrawFn,
    last: int,
    attention: MixerKind,
    ffns: st.SearchStrategy[FfnKind],
    *,
    halves: bool,
) -> tuple[Override, ...]:
    """Layers that differ, now and then.

    Of `halves` one that is a mixer and one that is an FFN; else one layer of any kind, or the last
    one, which reads the cache of that before it.
    """
    if halves:
        return (
            Override(layers="0", attention=draw(st.none() | attentions), ffn=NoFfn()),
            Override(layers=str(last), attention=NoMixer(), ffn=draw(st.none() | ffns)),
        )
    how = draw(st.sampled_from(["none", "any", "shared"]))
    if how == "shared" and last and isinstance(attention, Attention):
        reader = replace(attention, attention_k_eq_v=False, value_norm=False, shared_kv=True)
        return (Override(layers=str(last), attention=reader),)
    if how != "any":
        return ()
    return (
        Override(
            layers=str(draw(st.integers(0, last))),
            attention=draw(st.none() | attentions),
            ffn=draw(st.none() | ffns),
        ),
    )


@st.composite
def shortcuts(
    draw: st.DrawFn,
    num_layers: int,
    overrides: tuple[Override, ...],
    own: FfnKind,
    ffns: st.SearchStrategy[FfnKind],
) -> tuple[Shortcut, ...]:
    """Now and then a second FFN, of the other kind, in a layer that no override changes."""
    changed = {override.layers for override in overrides}
    free = [layer for layer in range(num_layers) if str(layer) not in changed]
    if not free or not draw(flags):
        return ()
    layer, second = draw(st.sampled_from(free)), draw(ffns)
    if type(second) is type(own):
        return ()
    skips = draw(st.integers(0, num_layers - 1 - layer))
    return (Shortcut(layers=str(layer), skips=skips, ffn=second),)


def with_streams(model: ModelConfig, several: ResidualStreams) -> ModelConfig:
    """The model with several residual streams in place of what cannot stand beside them."""
    tables = [table for table in model.memory if isinstance(table, Ngram)]
    return replace(
        model,
        gated_residual=several if isinstance(several, GatedResidual) else None,
        hyper_connections=several if isinstance(several, HyperConnections) else None,
        memory=tuple(replace(table, streams=several.streams, per_stream=True) for table in tables),
        shortcuts=(),
        block="serial",
        norm="rms",
        post_norms=False,
        altup=None,
        laurel=None,
    )


@st.composite
def models(draw: st.DrawFn, *, multiple_of: int = 1) -> ModelConfig:
    """Up to four layers; now and then one that differs, and one or two memories.

    The widths of the model and of its experts are multiples of `multiple_of`, as kernels want them.
    """
    num_layers, hidden = draw(st.integers(1, 4)), draw(widths) * multiple_of
    ffns = dense | moe(multiple_of=multiple_of)
    last = num_layers - 1
    own, attention, vocab_size = draw(ffns), draw(attentions), draw(st.integers(2, 30))
    own = chosen_by_ids(own, vocab_size) if draw(flags) else own
    memory: list[MemoryKind] = []
    kind = draw(st.sampled_from(["none", "ultramem", "product_key", "peer", "ngram", "two"]))
    where = draw(st.sampled_from(["all", "0", str(last), f"0-{last}/2", f"0:{last}"]))
    skips = ":" in where or kind == "two"
    replaces = draw(flags) and not skips
    halves = last > 0 and not skips and draw(flags)
    overrides = draw(differing(last, attention, ffns, halves=halves))
    if kind == "ultramem":
        memory = [draw(ultramem(where))]
    elif kind == "product_key":
        memory = [draw(product_key(where, hidden, replaces=replaces))]
    elif kind == "peer":
        memory = [draw(peer(where, replaces=replaces))]
    elif kind == "ngram":
        memory = [draw(ngram(where.replace(":", "-")))]
        if draw(flags):
            memory.append(draw(ultramem(where)))
    elif kind == "two" and last:
        memory = [draw(ultramem("0:1")), draw(product_key("1", hidden, replaces=replaces))]
    embeddings = draw(st.sampled_from(["none", "none", "per_layer", "ngram", "per_layer, ngram"]))
    if "per_layer" in embeddings:
        memory.append(draw(per_layer_embedding(where.replace(":", "-"))))
    if "ngram" in embeddings:
        memory.append(draw(ngram_embedding(hidden)))
    blocks: list[Block] = ["serial"] if halves else ["serial", "parallel"]
    block = draw(st.sampled_from(blocks if memory or halves else [*blocks, "norms_behind"]))
    beside: tuple[Shortcut, ...] = ()
    if block == "serial" and not any(layer.in_place_of_ffn for layer in memory):
        beside = draw(shortcuts(num_layers, overrides, own, ffns))
    model = ModelConfig(
        name="random",
        source="hypothesis",
        hidden_size=hidden,
        vocab_size=vocab_size,
        num_hidden_layers=num_layers,
        tie_word_embeddings=draw(flags),
        attention=attention,
        ffn=own,
        overrides=overrides,
        shortcuts=beside,
        memory=tuple(memory),
        norm=draw(st.sampled_from(["rms", "layer", "layer_bias"])),
        block=block,
        post_norms=block == "serial" and draw(flags),
        altup=None if halves else draw(st.none() | altups),
        laurel=draw(st.none() | laurels) if block == "serial" and not halves else None,
        logit_softcap=draw(flags),
        towers=draw(towers),
    )
    several = None if halves else draw(st.none() | st.none() | several_streams)
    return model if several is None else with_streams(model, several)


KV_DTYPES = ["fp32", "bf16", "fp16", "fp8", "int8", "int4", "int4:32", "fp8:16", "fp8:tensor"]
DTYPES = [
    *KV_DTYPES,
    *("mxfp4", "nvfp4", "fp8:16x16", "fp8:8x24"),
    "experts=mxfp4,memory_values=fp8,embedding=int8",
    "fp8:16x16,attention=bf16,lm_head=int4:32,memory_keys=fp8",
]
ROUTINGS: list[Routing] = [Uniform(), Uniform(), Uniform(), Zipf(1.0)]


@st.composite
def steps(draw: st.DrawFn, /, **fixed: Any) -> Step:  # noqa: ANN401 - any option of `make_step`
    """A small step; options given by name stay as they are."""
    drawn: dict[str, Any] = {
        "batch": draw(st.integers(1, 5)),
        "new_tokens": draw(st.integers(1, 6)),
        "cached": draw(st.integers(0, 12)),
        "dtype": draw(st.sampled_from(DTYPES)),
        "kv_dtype": draw(st.sampled_from(KV_DTYPES)),
        "routing": draw(st.sampled_from(ROUTINGS)),
        "attention_flops": draw(st.sampled_from(["causal", "full"])),
        "logits": draw(st.sampled_from(["last", "all"])),
        "mla": draw(st.sampled_from(["absorbed", "expanded"])),
        "window_cache": draw(st.sampled_from(["window", "whole"])),
    }
    if (drawn | fixed)["mla"] == "expanded":
        drawn["mla_cache"] = draw(st.sampled_from(["latent", "expanded"]))
    return make_step(**(drawn | fixed))
