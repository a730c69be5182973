"""Attention to chosen blocks in float64: which positions each query reads, by the formulas.

Source: transformers 5.24, MSA in `modeling_minimax_m3_vl`, QSA in `modeling_qwen4_exp`.
"""

import numpy as np

from costmodel.layers.msa import BlockSparseAttention
from costmodel.layers.qsa import PooledKeyAttention
from tests.reference_model.oracles import Array, Weights, attention, linear, rms_norm, rotated


def _index_heads(
    config: BlockSparseAttention | PooledKeyAttention, weights: Weights, token: Array
) -> tuple[list[Array], Array]:
    """Queries of the index heads and the one key, before any norm."""
    qk = linear(weights, token, "index_qk")
    size = config.index_head_dim
    parts = [qk[i : i + size] for i in range(0, len(qk), size)]
    return parts[:-1], parts[-1]


def _turned(config: BlockSparseAttention | PooledKeyAttention) -> int:
    """Rotated elements of an index head: as many as of a head of attention, or all."""
    of_head = config.head_dim if config.rotary_dim is None else config.rotary_dim
    return min(of_head, config.index_head_dim)


def msa_chosen(config: BlockSparseAttention, weights: Weights, x: Array) -> list[list[list[int]]]:
    """By position, then key-value head: the positions of the best blocks, up to itself."""
    b, r = config.index_block_size, _turned(config)
    keys: list[Array] = []
    chosen = []
    for t, token in enumerate(x):
        queries, key = _index_heads(config, weights, token)
        keys.append(rotated(rms_norm(key, weights["index_rope.k_norm"]), t, r))
        by_head = []
        for query in queries:
            q = rotated(rms_norm(query, weights["index_rope.q_norm"]), t, r)
            score = {
                block: max(
                    float(q @ keys[s]) for s in range(block * b, min((block + 1) * b, t + 1))
                )
                for block in range(t // b + 1)
            }
            score[t // b] = float("inf")
            best = sorted(score, key=lambda block: -score[block])[: config.index_topk_blocks]
            by_head.append([s for s in range(t + 1) if s // b in best])
        chosen.append(by_head)
    return chosen


def qsa_chosen(config: PooledKeyAttention, weights: Weights, x: Array) -> list[list[list[int]]]:
    """By position, then key-value head, all alike: the best whole groups, and the tail."""
    size, r = config.index_compress_ratio, _turned(config)
    raw: list[Array] = []
    chosen = []
    for t, token in enumerate(x):
        queries, key = _index_heads(config, weights, token)
        raw.append(key)
        whole = (t + 1) // size
        q = [rotated(rms_norm(one, weights["index_rope.q_norm"]), t, r) for one in queries]
        score = {}
        for group in range(whole):
            mean = np.mean(raw[group * size : (group + 1) * size], axis=0)
            pooled = rotated(rms_norm(mean, weights["index_select.k_norm"]), group * size, r)
            score[group] = sum(max(0.0, float(one @ pooled)) for one in q)
        best = sorted(score, key=lambda group: -score[group])[: config.index_budget // size]
        seen = [s for s in range(t + 1) if s // size in best or s >= whole * size]
        chosen.append([seen] * config.num_key_value_heads)
    return chosen


def indexed_attention(
    config: BlockSparseAttention | PooledKeyAttention, weights: Weights, x: Array
) -> Array:
    """[T, D] to [T, D], from position 0."""
    if isinstance(config, BlockSparseAttention):
        chosen = msa_chosen(config, weights, x)
    else:
        chosen = qsa_chosen(config, weights, x)
    return attention(config.grouped, weights, x, chosen=chosen)
