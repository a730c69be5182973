"""Slow oracles in float64, loops written from the formulas; they share no code with the models.

One sequence or token at a time. `weights` are a layer's parameters by the names of its leaves; a
matrix is [outputs, inputs]. Sources: RMSNorm arXiv 1910.07467, RoPE 2104.09864, GQA 2305.13245,
MLA 2405.04434 (section 2.1), experts 2412.19437 (section 2.1.2), sinks and clamps 2508.10925,
LayerNorm 1607.06450, softcaps of 50 for scores and 30 for logits 2408.00118.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.layers.attention import Attention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn

Array = NDArray[np.float64]
Weights = Mapping[str, Array]

EPS = 1e-5
ROTARY_BASE = 10_000.0


class Choice:
    """Top-k by sorting; remembers the smallest gap between a chosen and a refused score.

    A test that compares float32 with these oracles asserts a gap that rounding cannot close: then
    equal choices are no luck, and ties, whose order nobody promises, are absent.
    """

    def __init__(self) -> None:
        self.gap = math.inf

    def top(self, scores: Array, k: int) -> list[int]:
        """The places of the k largest, largest first."""
        order = sorted(range(len(scores)), key=lambda i: -float(scores[i]))
        if k < len(scores):
            self.gap = min(self.gap, float(scores[order[k - 1]] - scores[order[k]]))
        return order[:k]


def under(weights: Weights, prefix: str) -> dict[str, Array]:
    """The weights below a module, by their names there."""
    start = prefix + "."
    return {name[len(start) :]: w for name, w in weights.items() if name.startswith(start)}


def rms_norm(x: Array, weight: Array) -> Array:
    """x / sqrt(mean(x^2) + eps) * weight, for one vector."""
    return x / math.sqrt(float(x @ x) / len(x) + EPS) * weight


def layer_norm(x: Array, weight: Array, bias: Array | None) -> Array:
    """(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, for one vector."""
    centred = x - sum(x) / len(x)
    normed = centred / math.sqrt(float(centred @ centred) / len(x) + EPS) * weight
    return normed if bias is None else normed + bias


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def activation(kind: str, x: Array) -> Array:
    if kind == "silu":
        return x * sigmoid(x)
    if kind == "gelu":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    if kind == "relu":
        return np.where(x > 0, x, 0.0)
    if kind == "relu2":
        return np.where(x > 0, x * x, 0.0)
    assert kind == "clamped_silu"
    low = np.minimum(x, 7.0)
    return low * sigmoid(1.702 * low)


def activated(kind: str, x: Array, *, gated: bool) -> Array:
    """The activation of a feed-forward layer; gated, the first half is the gate."""
    if not gated:
        return activation(kind, x)
    gate, up = x[: len(x) // 2], x[len(x) // 2 :]
    if kind == "clamped_silu":
        up = np.minimum(np.maximum(up, -7.0), 7.0) + 1
    return activation(kind, gate) * up


def linear(weights: Weights, x: Array, leaf: str) -> Array:
    return np.asarray(weights[f"{leaf}.weight"] @ x + weights.get(f"{leaf}.bias", np.zeros(1)))


def feed_forward(config: DenseFfn, weights: Weights, x: Array) -> Array:
    hidden = activated(config.activation, linear(weights, x, "gate_up"), gated=config.gated)
    return linear(weights, hidden, "down")


def rotated(x: Array, position: int, dim: int) -> Array:
    """Pair (i, i + dim // 2) turns by position * base^(-2 i / dim); what is past `dim` stays."""
    out = x.copy()
    half = dim // 2
    for i in range(half):
        angle = position * ROTARY_BASE ** (-2 * i / dim)
        a, b = x[i], x[i + half]
        out[i] = a * math.cos(angle) - b * math.sin(angle)
        out[i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


Layer = tuple[Any, Weights, Array]  # Attention, or LatentAttention with an indexer
"""A layer of attention and what it reads, [T, D]."""


def head_norms(config: Attention, weights: Weights, x: Array, norm: str) -> list[Array]:
    """The heads of a query or key, normalised together or each."""
    d = config.head_dim
    if config.qk_norm == "full":
        x = rms_norm(x, weights[f"rope.{norm}"])
    heads = [x[i : i + d] for i in range(0, len(x), d)]
    if config.qk_norm in ("head", "head_unweighted"):
        heads = [rms_norm(one, weights.get(f"rope.{norm}", np.ones(d))) for one in heads]
    return heads


def first_key(config: Attention, t: int) -> int:
    """The first position that the token at position t attends to."""
    if config.attention_chunk_size is not None:
        return t - t % config.attention_chunk_size
    return 0 if config.sliding_window is None else max(0, t + 1 - config.sliding_window)


def keys_and_values(layer: Layer) -> tuple[list[list[Array]], list[list[Array]]]:
    """By position, then head: rotated keys, and values, of a layer that has its own."""
    config, weights, x = layer
    h, k, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    dv = d if config.v_head_dim is None else config.v_head_dim
    turned = d if config.rotary_dim is None else config.rotary_dim
    front = h * d + (h * dv if config.output_gate else 0)
    keys, values = [], []
    for position, token in enumerate(x):
        own = linear(weights, token, "qkv")[front:]
        key = own[: k * d]
        value = key if config.attention_k_eq_v else own[k * d :]
        v_heads = [value[i * dv : (i + 1) * dv] for i in range(k)]
        if config.value_norm:
            v_heads = [rms_norm(one, np.ones(dv)) for one in v_heads]
        values.append(v_heads)
        k_heads = head_norms(config, weights, key, "k_norm")
        keys.append([rotated(one, position, turned) for one in k_heads])
    return keys, values


def attention(
    config: Attention,
    weights: Weights,
    x: Array,
    source: Layer | None = None,
    chosen: list[list[list[int]]] | None = None,
) -> Array:
    """[T, D] to [T, D], from position 0.

    `source` is the layer whose keys and values are read; `chosen` are the positions that each
    position attends to, by key-value head; None: all in reach up to itself.
    """
    h, k, d = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    dv = d if config.v_head_dim is None else config.v_head_dim
    turned = d if config.rotary_dim is None else config.rotary_dim
    keys, values = keys_and_values(source or (config, weights, x))
    queries, gates = [], []  # by position, then head
    for position, token in enumerate(x):
        qkv = linear(weights, token, "qkv")
        if config.output_gate:
            gates.append(sigmoid(qkv[: h * dv]))
            qkv = qkv[h * dv :]
        q_heads = head_norms(config, weights, qkv[: h * d], "q_norm")
        if config.floor_scale is not None:
            steps = (position + 1) // config.floor_scale
            q_heads = [one * (1 + 0.1 * math.log(1 + steps)) for one in q_heads]
        queries.append([rotated(one, position, turned) for one in q_heads])
    out = []
    for t in range(len(x)):
        first = first_key(config, t)
        heads = []
        for head in range(h):
            group = head // (h // k)
            seen = list(range(first, t + 1)) if chosen is None else chosen[t][group]
            scores = [queries[t][head] @ keys[s][group] / math.sqrt(d) for s in seen]
            if config.softcap:
                scores = [50 * np.tanh(score / 50) for score in scores]
            if config.sinks:
                scores.append(weights["core.sinks"][head])
            shares = softmax(np.array(scores))
            pairs = zip(shares, seen, strict=False)  # a sink's share has no value
            heads.append(sum((share * values[s][group] for share, s in pairs), 0.0))
        mixed = np.concatenate([np.asarray(one) for one in heads])
        out.append(linear(weights, mixed * gates[t] if gates else mixed, "output"))
    return np.array(out)


def indexed(config: LatentAttention, weights: Weights, x: Array, choice: Choice) -> list[list[int]]:
    """The positions that each position attends to: those of the largest index scores."""
    heads, size, topk = config.index_n_heads, config.index_head_dim, config.index_topk
    assert heads
    assert size
    assert topk
    r, c = config.qk_rope_head_dim, config.kv_lora_rank
    keys, chosen = [], []
    for t, token in enumerate(x):
        q = rms_norm(linear(weights, token, "qkv_down")[: -c - r], weights["latent_norm.q_norm"])
        q = linear(weights, q, "index_query")
        key = linear(weights, token, "index_key")
        key = layer_norm(key, weights["index_rope.weight"], weights["index_rope.bias"])
        keys.append(rotated(key, t, r))
        shares = linear(weights, token, "index_weights")
        scores = [
            sum(
                shares[h] * max(0.0, rotated(q[h * size : (h + 1) * size], t, r) @ key)
                for h in range(heads)
            )
            for key in keys
        ]
        chosen.append(sorted(choice.top(np.array(scores), topk)))
    return chosen


def latent_attention(
    config: LatentAttention, weights: Weights, x: Array, chosen: list[list[int]] | None = None
) -> Array:
    """[T, D] to [T, D]: keys and values are rebuilt for every position.

    `chosen` are the positions that each attends to; None: all up to itself.
    """
    h, c, r = config.num_attention_heads, config.kv_lora_rank, config.qk_rope_head_dim
    p = config.qk_nope_head_dim
    turned = 0 if config.mla_use_nope else r
    queries, keys, values = [], [], []
    for position, token in enumerate(x):
        down = linear(weights, token, "qkv_down")
        q, latent, k_rope = down[: len(down) - c - r], down[-c - r : -r], down[-r:]
        latent = rms_norm(latent, weights["latent_norm.kv_norm"])
        if config.q_lora_rank is not None:
            q = linear(weights, rms_norm(q, weights["latent_norm.q_norm"]), "q_up")
        k_rope = rotated(k_rope, position, turned)
        q_heads, k_heads, v_heads = [], [], []
        for head in range(h):
            one = q[head * (p + r) : (head + 1) * (p + r)]
            q_heads.append(np.concatenate([one[:p], rotated(one[p:], position, turned)]))
            k_heads.append(np.concatenate([weights["k_up.weight"][head] @ latent, k_rope]))
            v_heads.append(weights["v_up.weight"][head] @ latent)
        queries.append(q_heads)
        keys.append(k_heads)
        values.append(v_heads)
    out = []
    for t in range(len(x)):
        heads = []
        for head in range(h):
            seen = range(t + 1) if chosen is None else chosen[t]
            scores = [queries[t][head] @ keys[s][head] / math.sqrt(p + r) for s in seen]
            shares = softmax(np.array(scores))
            pairs = zip(shares, seen, strict=True)
            heads.append(sum((share * values[s][head] for share, s in pairs), 0.0))
        out.append(linear(weights, np.concatenate([np.asarray(one) for one in heads]), "output"))
    return np.array(out)


def chosen_experts(
    config: MoeFfn, weights: Weights, x: Array, choice: Choice, token_id: int = 0
) -> list[tuple[int, float]]:
    """(expert, weight) of one token; its id says which experts, where a table has one."""
    logits = linear(weights, x, "router")
    if config.scoring == "softmax":
        scores = softmax(logits)
    elif config.scoring == "sigmoid":
        scores = sigmoid(logits)
    elif config.scoring == "sqrtsoftplus":
        scores = np.sqrt(np.log1p(np.exp(logits)))
    else:
        scores = logits
    ranked = scores.copy()
    if config.score_correction_bias:
        ranked += weights["router.score_correction_bias"]
    if config.score_correction_buffer:
        ranked += weights["router.score_correction"]
    if config.hash_vocab_size is not None:
        chosen = [int(expert) for expert in weights["router.expert_ids"][token_id]]
        return _weighted(config, [(expert, float(scores[expert])) for expert in chosen])
    size = (config.num_experts + config.zero_expert_num) // config.n_group
    of_groups = []
    for group in range(config.n_group):
        best = sorted(ranked[group * size : (group + 1) * size], reverse=True)
        of_groups.append(sum(best[: config.group_score_experts]))
    groups = choice.top(np.array(of_groups), config.topk_group)
    allowed = [group * size + i for group in groups for i in range(size)]
    places = choice.top(ranked[allowed], config.num_experts_per_tok)
    return _weighted(config, [(allowed[p], float(scores[allowed[p]])) for p in places])


def _weighted(config: MoeFfn, selected: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The weights of the chosen experts, from their scores."""
    if config.scoring == "softmax_of_chosen":
        shares = softmax(np.array([score for _, score in selected]))
        return [(expert, float(w)) for (expert, _), w in zip(selected, shares, strict=True)]
    if config.scoring == "sigmoid_of_chosen":
        selected = [(expert, float(sigmoid(np.array(score)))) for expert, score in selected]
    if config.norm_topk_prob:
        whole = sum(score for _, score in selected)
        return [(expert, score / whole) for expert, score in selected]
    return selected


def moe(config: MoeFfn, weights: Weights, x: Array, choice: Choice, token_id: int = 0) -> Array:
    """One token through its k experts and the shared ones."""
    latent = config.moe_latent_size is not None
    inner = linear(weights, x, "latent_down") if latent else x
    out = np.zeros(len(inner))
    for expert, weight in chosen_experts(config, weights, x, choice, token_id):
        if expert >= config.num_experts:
            # the last ones compute nothing
            out += weight * inner
            continue
        read = weight * inner if config.weighted_input else inner
        hidden = weights["experts.gate_up"][expert] @ read
        if config.expert_bias:
            hidden = hidden + weights["experts.gate_up_bias"][expert]
        y = weights["experts.down"][expert] @ activated(
            config.activation, hidden, gated=config.gated
        )
        if config.expert_bias:
            y = y + weights["experts.down_bias"][expert]
        out += y if config.weighted_input else weight * y
    if latent:
        out = linear(weights, out, "latent_up")
    if config.shared_intermediate_size:
        hidden = linear(weights, x, "shared_gate_up")
        shared = linear(
            weights, activated(config.activation, hidden, gated=config.gated), "shared_down"
        )
        if config.shared_expert_gate:
            shared = shared * sigmoid(linear(weights, x, "shared_gate"))
        out += shared
    return out
