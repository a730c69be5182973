"""Attention to a window and compressed entries in float64, token by token, from the formulas.

Sources: DeepSeek-V4, transformers 5.24, `modeling_deepseek_v4`; V4.1, main branch,
`modeling_deepseek_v41`; rotation as in `oracles.py`.
"""

import math
from collections.abc import Sequence

import numpy as np

from costmodel.layers.compressed_attention import CompressedAttention
from tests.reference_model.oracles import Array, Layer, Weights, linear, rms_norm, rotated, softmax


def latents(config: CompressedAttention, weights: Weights, x: Array, leaf: str) -> list[Array]:
    """The entries of all whole groups of m tokens, before rotation.

    They are means with the softmax of gates as weights. With overlap a projection has a half for
    the entry after the token's own, and one for its own.
    """
    m, norm = config.compress_ratio, weights[f"{leaf}.norm"]
    assert m is not None
    w = len(norm)
    bias = weights.get(f"{leaf}.position_bias", np.zeros((m, 1)))
    made = []
    for entry in range(len(x) // m):
        values, gates = [], []
        for t in range(max(0, (entry - config.overlapping) * m), (entry + 1) * m):
            projected = linear(weights, x[t], f"{leaf}_in")
            if len(projected) == w:  # an entry of one token
                values, gates = [projected], [np.zeros(w)]
                break
            value, gate = np.split(projected, 2)
            gate = gate + bias[t % m]
            half = slice(w, 2 * w) if config.overlapping and t >= entry * m else slice(0, w)
            values.append(value[half])
            gates.append(gate[half])
        shares = np.array([softmax(column) for column in np.array(gates).T]).T
        mean = sum(share * value for share, value in zip(shares, values, strict=True))
        made.append(rms_norm(np.asarray(mean), norm))
    return made


def entries(layer: Layer) -> list[Array]:
    """The rotated entries of a layer that has its own."""
    config, weights, x = layer
    m, r = config.compress_ratio, config.qk_rope_head_dim
    made = latents(config, weights, x, "compress")
    return [rotated(one, entry * m, r) for entry, one in enumerate(made)]


def index_keys(layer: Layer) -> list[Array]:
    """The rotated keys of the entries of such a layer, by which an indexer chooses."""
    config, weights, x = layer
    m, r = config.compress_ratio, config.qk_rope_head_dim
    if config.keys_of_entries:
        own = latents(config, weights, x, "compress")
        norm = weights["index_key.norm"]
        made = [rms_norm(linear(weights, one, "index_key"), norm) for one in own]
    else:
        made = latents(config, weights, x, "index_compress")
    return [rotated(one, entry * m, r) for entry, one in enumerate(made)]


def source_of(layer: Layer, before: Sequence[Layer]) -> Layer:
    """The layer whose entries it reads: itself, or the last one before that it can read."""
    if not layer[0].shared_entries:
        return layer
    return next(one for one in reversed(before) if layer[0].can_read(one[0]))


def scores(layer: Layer, source: Layer) -> list[dict[int, float]]:
    """By position: the score of each entry that is whole by then."""
    config, weights, x = layer
    m, r, size = config.compress_ratio, config.qk_rope_head_dim, config.index_head_dim
    assert m is not None
    assert size is not None
    keys, found = index_keys(source), []
    for t, token in enumerate(x):
        query = rms_norm(
            linear(weights, token, "qkv_down")[: config.q_lora_rank], weights["latent_norm.q_norm"]
        )
        heads = linear(weights, query, "index_query")
        queries = [rotated(heads[i : i + size], t, r) for i in range(0, len(heads), size)]
        of_head = linear(weights, token, "index_weights")
        found.append(
            {
                entry: sum(
                    float(weight) * max(0.0, float(one @ keys[entry]))
                    for weight, one in zip(of_head, queries, strict=True)
                )
                for entry in range((t + 1) // m)
            }
        )
    return found


def candidates(layer: Layer) -> list[set[int]]:
    """By position: the entries of the best blocks of a layer, its newest block among them."""
    config = layer[0]
    topk, size = config.candidate_topk_blocks, config.candidate_block_size
    kept = []
    for score in scores(layer, layer):
        blocks: dict[int, float] = {}
        for entry, value in score.items():
            blocks[entry // size] = max(value, blocks.get(entry // size, -math.inf))
        if score:
            blocks[max(score) // size] = math.inf
        best = sorted(blocks, key=lambda block: -blocks[block])[:topk]
        kept.append({entry for entry in score if entry // size in best})
    return kept


def chosen_entries(layer: Layer, before: Sequence[Layer] = ()) -> list[list[int]]:
    """By position: the whole entries that it attends to, of a choice the best."""
    config, _, x = layer
    m = config.compress_ratio
    if m is None:
        return [[] for _ in x]
    if config.index_topk is None:
        return [list(range((t + 1) // m)) for t in range(len(x))]
    if config.shared_index:
        place = max(i for i, one in enumerate(before) if one[0].choice is not None)
        return chosen_entries(before[place], before[:place])
    source = source_of(layer, before)
    allowed = None
    if config.shared_entries and config.candidate_topk_blocks is not None:
        allowed = candidates(source)
    chosen = []
    for t, score in enumerate(scores(layer, source)):
        among = [entry for entry in score if allowed is None or entry in allowed[t]]
        chosen.append(sorted(among, key=lambda entry: -score[entry])[: config.index_topk])
    return chosen


def compressed_attention(
    config: CompressedAttention, weights: Weights, x: Array, before: Sequence[Layer] = ()
) -> Array:
    """[T, D] to [T, D], from position 0; `before` are the earlier layers of this kind."""
    h, d, q, r = (
        config.num_attention_heads,
        config.head_dim,
        config.q_lora_rank,
        config.qk_rope_head_dim,
    )
    layer = config, weights, x
    made = [] if config.compress_ratio is None else entries(source_of(layer, before))
    chosen = chosen_entries(layer, before)
    vectors: list[Array] = []
    out = []
    for t, token in enumerate(x):
        down = linear(weights, token, "qkv_down")
        vector = rms_norm(down[q:], weights["latent_norm.kv_norm"])
        vectors.append(rotated(vector, t, r))
        heads = linear(weights, rms_norm(down[:q], weights["latent_norm.q_norm"]), "q_up")
        first = 0 if config.sliding_window is None else max(0, t + 1 - config.sliding_window)
        seen = [*vectors[first:], *(made[entry] for entry in chosen[t])]
        results = []
        for head in range(h):
            query = heads[head * d : (head + 1) * d]
            query = rotated(rms_norm(query, np.ones(d)) if config.query_norm else query, t, r)
            products = [float(query @ key) / math.sqrt(d) for key in seen]
            shares = softmax(np.array([*products, weights["core.sinks"][head]]))
            mixed = sum(share * value for share, value in zip(shares, seen, strict=False))
            results.append(rotated(np.asarray(mixed), -t, r))
        groups = np.split(np.concatenate(results), config.o_groups)
        blocks = np.split(weights["output_down.weight"], config.o_groups)
        narrow = [block @ group for block, group in zip(blocks, groups, strict=True)]
        out.append(linear(weights, np.concatenate(narrow), "output"))
    return np.array(out)
