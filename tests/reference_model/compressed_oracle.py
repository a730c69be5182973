"""Attention to a window and compressed entries in float64, token by token, from the formulas.

Source: DeepSeek-V4, transformers 5.24, `modeling_deepseek_v4`; rotation as in `oracles.py`.
"""

import math

import numpy as np

from costmodel.layers.compressed_attention import CompressedAttention
from tests.reference_model.oracles import Array, Weights, linear, rms_norm, rotated, softmax


def entries(config: CompressedAttention, weights: Weights, x: Array, leaf: str) -> list[Array]:
    """The entries of all whole groups of m tokens: means with the softmax of gates as weights.

    With overlap a projection has a half for the entry after the token's own, and one for its own.
    """
    m, r = config.compress_ratio, config.qk_rope_head_dim
    assert m is not None
    norm = weights[f"{leaf}.norm"]
    w = len(norm)
    bias = weights.get(f"{leaf}.position_bias")
    made = []
    for entry in range(len(x) // m):
        values, gates = [], []
        for t in range(max(0, (entry - config.overlapping) * m), (entry + 1) * m):
            projected = linear(weights, x[t], f"{leaf}_in")
            if bias is None:  # an entry of one token
                values, gates = [projected], [np.zeros(w)]
                break
            value, gate = np.split(projected, 2)
            gate = gate + bias[t % m]
            half = slice(w, 2 * w) if config.overlapping and t >= entry * m else slice(0, w)
            values.append(value[half])
            gates.append(gate[half])
        shares = np.array([softmax(column) for column in np.array(gates).T]).T
        mean = sum(share * value for share, value in zip(shares, values, strict=True))
        made.append(rotated(rms_norm(np.asarray(mean), norm), entry * m, r))
    return made


def chosen_entries(config: CompressedAttention, weights: Weights, x: Array) -> list[list[int]]:
    """By position: the whole entries that it attends to, of a choice the best."""
    m, r = config.compress_ratio, config.qk_rope_head_dim
    if m is None:
        return [[] for _ in x]
    whole = [list(range((t + 1) // m)) for t in range(len(x))]
    if config.index_topk is None:
        return whole
    keys, size = entries(config, weights, x, "index_compress"), config.index_head_dim
    assert size is not None
    chosen = []
    for t, token in enumerate(x):
        query = rms_norm(
            linear(weights, token, "qkv_down")[: config.q_lora_rank], weights["latent_norm.q_norm"]
        )
        heads = linear(weights, query, "index_query")
        queries = [rotated(heads[i : i + size], t, r) for i in range(0, len(heads), size)]
        of_head = linear(weights, token, "index_weights")
        score = {
            entry: sum(
                float(weight) * max(0.0, float(one @ keys[entry]))
                for weight, one in zip(of_head, queries, strict=True)
            )
            for entry in whole[t]
        }
        chosen.append(sorted(score, key=lambda entry: -score[entry])[: config.index_topk])
    return chosen


def compressed_attention(config: CompressedAttention, weights: Weights, x: Array) -> Array:
    """[T, D] to [T, D], from position 0."""
    h, d, q, r = (
        config.num_attention_heads,
        config.head_dim,
        config.q_lora_rank,
        config.qk_rope_head_dim,
    )
    made = [] if config.compress_ratio is None else entries(config, weights, x, "compress")
    chosen = chosen_entries(config, weights, x)
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
            query = rotated(rms_norm(heads[head * d : (head + 1) * d], np.ones(d)), t, r)
            scores = [float(query @ key) / math.sqrt(d) for key in seen]
            shares = softmax(np.array([*scores, weights["core.sinks"][head]]))
            mixed = sum(share * value for share, value in zip(shares, seen, strict=False))
            results.append(rotated(np.asarray(mixed), -t, r))
        groups = np.split(np.concatenate(results), config.o_groups)
        blocks = np.split(weights["output_down.weight"], config.o_groups)
        narrow = [block @ group for block, group in zip(blocks, groups, strict=True)]
        out.append(linear(weights, np.concatenate(narrow), "output"))
    return np.array(out)
