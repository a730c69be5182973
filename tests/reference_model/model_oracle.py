"""The whole model in float64, one sequence, no cache: every block over all positions at once.

    x = embed;  each block: x += attention(norm x);  z = norm x;  x += ffn(z);  x += memory(z)

A memory layer placed at a:b reads z of block a and joins the stream after block b. Per-layer and
n-gram embeddings stand at the input; the former join the stream at the end of their blocks.
With AltUp the stream is several vectors, of which x is the first.
A layer of hashed n-grams reads x at the head of its block and joins it there.
"""

from dataclasses import dataclass, field

import numpy as np

from costmodel.inputs.model import ModelConfig
from costmodel.layers.absent import NoMixer
from costmodel.layers.attention import Attention
from costmodel.layers.base import FfnKind, MemoryKind, MixerKind
from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.msa import BlockSparseAttention
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from costmodel.layers.qsa import PooledKeyAttention
from costmodel.layers.ultramem import UltraMem
from tests.reference_model import (
    altup_oracle,
    block_oracles,
    compressed_oracle,
    embedding_oracles,
    gated_oracle,
    hyper_oracle,
    memory_oracles,
    mixer_oracles,
    ngram_oracle,
    oracles,
)
from tests.reference_model.oracles import Array, Choice, Weights, layer_norm, rms_norm, under


@dataclass(kw_only=True)
class Truth:
    """What the model must give for one sequence."""

    logits: Array  # [T, V]
    choice: Choice
    streams: list[Array] = field(default_factory=list)  # after each block, [T, D]


def _attention(
    config: MixerKind, weights: Weights, x: Array, before: list[oracles.Layer], choice: Choice
) -> Array:
    """`before` are the earlier layers of attention that have keys of their own."""
    if isinstance(config, LatentAttention):
        if config.index_topk is not None and not config.shared_index:
            before.append((config, weights, x))
        indexed = [layer for layer in before if isinstance(layer[0], LatentAttention)]
        chosen = oracles.indexed(*indexed[-1], choice) if config.index_topk is not None else None
        return oracles.latent_attention(config, weights, x, chosen)
    if isinstance(config, BlockSparseAttention | PooledKeyAttention):
        return block_oracles.indexed_attention(config, weights, x)
    if isinstance(config, CompressedAttention):
        mixed = compressed_oracle.compressed_attention(config, weights, x, before)
        before.append((config, weights, x))
        return mixed
    if isinstance(config, Attention) and config.shared_kv:
        alike = [layer for layer in before if layer[0].sliding_window == config.sliding_window]
        return oracles.attention(config, weights, x, alike[-1])
    if isinstance(config, Attention):
        before.append((config, weights, x))
        return oracles.attention(config, weights, x)
    return mixer_oracles.mixer(config, weights, x)


def _ffn(config: FfnKind, weights: Weights, x: Array, choice: Choice, ids: list[int]) -> Array:
    """Tokens [T, D], of these ids, to [T, D]."""
    if isinstance(config, MoeFfn):
        own = under(weights, "moe")
        pairs = zip(x, ids, strict=True)
        return np.array([oracles.moe(config, own, token, choice, i) for token, i in pairs])
    assert isinstance(config, DenseFfn)
    own = under(weights, "ffn")
    return np.array([oracles.feed_forward(config, own, token) for token in x])


def _memory(config: MemoryKind, weights: Weights, x: Array, choice: Choice, index: int) -> Array:
    if isinstance(config, UltraMem):
        return memory_oracles.ultramem(config, weights, x, choice, index)
    if isinstance(config, ProductKey):
        return memory_oracles.product_key(config, weights, x, choice)
    assert isinstance(config, Peer)
    return memory_oracles.peer(config, weights, x, choice)


def _normed(config: ModelConfig, weights: Weights, name: str, x: Array) -> Array:
    weight = weights[f"{name}.weight"]
    if config.norm == "rms":
        return np.array([rms_norm(token, weight) for token in x])
    return np.array([layer_norm(token, weight, weights.get(f"{name}.bias")) for token in x])


def _mixed(
    config: ModelConfig,
    mixer: MixerKind,
    state: Weights,
    x: Array,
    owners: list[oracles.Layer],
    *,
    choice: Choice,
) -> tuple[Array, Array]:
    """The stream after a block's mixer, and what that read; without one, x twice."""
    if isinstance(mixer, NoMixer):
        return x, x
    behind = config.block == "norms_behind"
    before = x if behind else _normed(config, state, "attention_norm", x)
    attended = _attention(mixer, under(state, "attention"), before, owners, choice)
    return _after_attention(config, state, x, before, attended), before


def _ffn_input(config: ModelConfig, state: Weights, x: Array, before: Array) -> Array:
    if config.block == "parallel":
        return before
    return _normed(config, state, "ffn_norm", x) if config.block == "serial" else x


def _beside(
    config: ModelConfig, state: Weights, block: int, z: Array, *, choice: Choice, ids: list[int]
) -> list[tuple[int, Array]]:
    """What stands beside the FFN of a block: after which block its output joins, and that."""
    outputs: list[tuple[int, Array]] = []
    blocks = config.num_hidden_layers
    for shortcut in config.shortcuts:
        for source, output in shortcut.placement(blocks):
            if source == block:
                outputs.append((output, _ffn(shortcut.ffn, state, z, choice, ids)))
    for memory in config.memory:
        if memory.position != "beside_ffn":
            continue
        for index, (source, output) in enumerate(memory.placement(blocks)):
            if source == block:
                weights = under(state, "memory")
                added = [_memory(memory, weights, token, choice, index) for token in z]
                outputs.append((output, np.array(added)))
    return outputs


def _after_attention(
    config: ModelConfig, state: Weights, x: Array, before: Array, attended: Array
) -> Array:
    """The stream with attention's output, which read `before`."""
    if config.post_norms or config.block == "norms_behind":
        attended = _normed(config, state, "post_attention_norm", attended)
    if config.laurel is None:
        return x + attended
    return altup_oracle.laurel(under(state, "laurel"), x, before, attended)


def _of_streams(config: ModelConfig, weights: Weights, x: Array, ids: list[int]) -> Truth:
    """A model whose blocks mix several residual streams, from the embedded tokens [T, D] on."""
    choice, several = Choice(), config.residual_streams
    assert several is not None
    streams = np.repeat(x[:, None], several.streams, axis=1)
    ffns = {layer: ffn for ffn, layers in config.own_ffn_groups for layer in layers}
    kept: list[Array] = []
    owners: list[oracles.Layer] = []
    joining: tuple[Array, ...] = ()
    for block in range(config.num_hidden_layers):
        state = under(weights, f"layers.{block}")
        streams = ngram_oracle.at_head(config, block, under(state, "ngram"), streams, ids)
        read, joining = _collapsed(config, state, "attention", streams, joining)
        mixer, own = config.attention_of(block), under(state, "attention")
        attended = _attention(mixer, own, read, owners, choice)
        streams = _joined(streams, attended, joining)
        read, joining = _collapsed(config, state, "ffn", streams, joining)
        out = _ffn(ffns[block], state, read, choice, ids)
        streams = _joined(streams, out, joining)
        kept.append(streams.reshape(len(x), -1))
    read, _ = _collapsed(config, weights, "final", streams, joining)
    head = weights["embed.weight" if config.tie_word_embeddings else "lm_head.weight"]
    logits = read @ head.T
    if config.logit_softcap:
        logits = 30 * np.tanh(logits / 30)
    return Truth(logits=logits, choice=choice, streams=kept)


def _collapsed(
    config: ModelConfig, state: Weights, place: str, streams: Array, before: tuple[Array, ...]
) -> tuple[Array, tuple[Array, ...]]:
    """What a sublayer, or the LM head, reads of the streams, and how its output joins them.

    `before` is how the output of the sublayer before joined them.
    """
    own = under(state, f"{place}_residual")
    if config.gated_residual is not None:
        read, gains = gated_oracle.gathered(config.gated_residual, own, streams)
        return read, (gains,)
    assert config.hyper_connections is not None
    last = before[-1] if before else None
    read, *joining = hyper_oracle.collapsed(config.hyper_connections, own, streams, last)
    return _normed(config, state, f"{place}_norm", read), tuple(joining)


def _joined(streams: Array, output: Array, joining: tuple[Array, ...]) -> Array:
    if len(joining) == 1:
        return gated_oracle.added(streams, output, *joining)
    return hyper_oracle.joined(streams, output, *joining)


def run(config: ModelConfig, weights: Weights, ids: list[int]) -> Truth:
    """Logits and streams of one sequence; `weights` by the model's own names."""
    choice = Choice()
    ffns = {layer: ffn for ffn, layers in config.own_ffn_groups for layer in layers}
    x, vectors = embedding_oracles.at_input(config, weights, ids)
    if config.residual_streams is not None:
        return _of_streams(config, weights, x, ids)
    altups = altup_oracle.expand(config, under(weights, "altup"), x)
    waiting: list[tuple[int, Array]] = []
    streams: list[Array] = []
    owners: list[oracles.Layer] = []
    for block in range(config.num_hidden_layers):
        state = under(weights, f"layers.{block}")
        altups, x = altup_oracle.predict(under(state, "altup"), altups, x)
        x = ngram_oracle.at_head(config, block, under(state, "ngram"), x, ids)
        x, before = _mixed(config, config.attention_of(block), state, x, owners, choice=choice)
        z = x
        if block in config.fed_layers:
            z = _ffn_input(config, state, x, before)
        if block in ffns:
            out = _ffn(ffns[block], state, z, choice, ids)
            if config.post_norms or config.block == "norms_behind":
                out = _normed(config, state, "post_ffn_norm", out)
            x = x + out
        waiting += _beside(config, state, block, z, choice=choice, ids=ids)
        for output, added_array in waiting:
            if output == block:
                x = x + added_array
        altups, x = altup_oracle.correct(under(state, "altup"), altups, x)
        if block in vectors:
            row = embedding_oracles.per_layer(under(state, "ple"), x, vectors[block])
            altups, x = [*altups[:1], *(one + row for one in altups[1:])], x + row
        streams.append(x)
    x = altup_oracle.merge(under(weights, "altup"), altups, x)
    head = weights["embed.weight" if config.tie_word_embeddings else "lm_head.weight"]
    logits = _normed(config, weights, "final_norm", x) @ head.T
    if config.logit_softcap:
        logits = 30 * np.tanh(logits / 30)
    return Truth(logits=logits, choice=choice, streams=streams)
