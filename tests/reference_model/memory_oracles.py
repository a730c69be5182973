"""Slow oracles in float64 of the memory layers, one token at a time; nothing of the models in them.

Product keys are searched by brute force over all n^2 pairs, which the two stages must equal.
Sources: UltraMem arXiv 2411.12364, UltraMemV2 2508.18756, PKM 1907.05242, Memory+ 2412.09764, PEER
2407.04153; docs of the shapes: costmodel/layers.
"""

from dataclasses import dataclass

import numpy as np

from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from tests.reference_model.oracles import (
    Array,
    Choice,
    Weights,
    activation,
    linear,
    rms_norm,
    softmax,
)


@dataclass(frozen=True, kw_only=True)
class Retrieved:
    """A row that a head chose: its number, where it came from, and its scores."""

    row: int  # of the layer's window (of the virtual rows when values are expanded)
    grid: int  # i n + j, before the permutation
    scores: tuple[float, ...]  # one a core


def ultramem_query(config: UltraMem, weights: Weights, x: Array) -> Array:
    """[2, q, Dk]: for the row side and the column side, a query of each rank or one for all."""
    y = linear(weights, x, "query")
    norm, dk = weights["query.norm"], config.key_dim
    queries = config.tucker_rank if config.query_per_rank else 1
    starts = [[(side * queries + number) * dk for number in range(queries)] for side in range(2)]
    return np.array([[rms_norm(y[start : start + dk], norm) for start in side] for side in starts])


def ultramem_retrieve(
    config: UltraMem, weights: Weights, query: Array, choice: Choice
) -> list[list[Retrieved]]:
    """The m rows of each head, best first."""
    keys, cores = weights["retrieve.keys"], weights["retrieve.cores"]
    _, heads, ranks, n, _ = keys.shape
    first = min(n, config.first_stage_topk or config.knn)
    by_head = []
    for head in range(heads):
        merged, rank_scores = np.zeros((2, n)), np.zeros((2, ranks, n))
        for side, vector in enumerate(("u", "v")):
            for rank in range(ranks):
                for i in range(n):
                    key = rms_norm(keys[side, head, rank, i], weights["retrieve.key_norm"])
                    of_rank = query[side, rank if config.query_per_rank else 0]
                    rank_scores[side, rank, i] = of_rank @ key
                merged[side] += weights[f"retrieve.{vector}"][head, rank] * rank_scores[side, rank]
        rows, cols = choice.top(merged[0], first), choice.top(merged[1], first)
        pairs = [(i, j) for i in rows for j in cols]
        scores = np.zeros((len(pairs), len(cores)))
        for place, (i, j) in enumerate(pairs):
            for core in range(len(cores)):
                for a in range(ranks):
                    for b in range(ranks):
                        scores[place, core] += (
                            rank_scores[0, a, i] * cores[core, head, a, b] * rank_scores[1, b, j]
                        )
        best = choice.top(scores.sum(1), config.knn)
        by_head.append(
            [
                Retrieved(
                    row=int(weights["retrieve.permutation"][pairs[place][0] * n + pairs[place][1]]),
                    grid=pairs[place][0] * n + pairs[place][1],
                    scores=tuple(scores[place]),
                )
                for place in best
            ]
        )
    return by_head


def ultramem_mixed(
    config: UltraMem, weights: Weights, x: Array, by_head: list[list[Retrieved]], index: int
) -> Array:
    """The weighted sum of rows before the output projection; `index` places the ring.

    [t^2 Dv] where each group of expanded values has an output of its own; where they share one,
    the sum of the groups, [Dv].
    """
    groups = config.value_expansion**2
    table = weights["values.weight"]
    offset = 0 if config.share_ratio is None else index * config.knum**2
    width = config.value_dim // config.tucker_cores
    out = np.zeros((groups, config.value_dim))
    for one in (one for head in by_head for one in head):
        row = (one.row // groups + offset) % len(table)
        pre = 1.0
        if config.pre_value_dim is not None:
            pre = float(weights["pre_values.weight"][row] @ linear(weights, x, "pre_projection"))
        for core, score in enumerate(one.scores):
            part = slice(core * width, (core + 1) * width)
            out[one.row % groups, part] += score * pre * table[row, part]
    return out.sum(0) if config.value_expansion_outputs == "shared" else out.reshape(-1)


def ultramem(config: UltraMem, weights: Weights, x: Array, choice: Choice, index: int) -> Array:
    query = ultramem_query(config, weights, x)
    by_head = ultramem_retrieve(config, weights, query, choice)
    return linear(weights, ultramem_mixed(config, weights, x, by_head, index), "output")


def _queries(weights: Weights, x: Array, heads: int, dk: int) -> Array:
    """[H, 2, Dk], each half normalised if the layer has a norm."""
    y = linear(weights, x, "query").reshape(heads, 2, dk)
    if "query.norm" not in weights:
        return y
    return np.array([[rms_norm(half, weights["query.norm"]) for half in head] for head in y])


def product_key_retrieve(
    weights: Weights, queries: Array, knn: int, choice: Choice
) -> list[tuple[int, float]]:
    """(row, weight) of the m best of all n^2 pairs of keys, head after head."""
    keys = weights["retrieve.keys"]
    n = keys.shape[2]
    pairs = []
    for head in range(len(queries)):
        key_head = head if keys.shape[1] > 1 else 0
        side_scores = np.zeros((2, n))
        for side in range(2):
            for i in range(n):
                key = keys[side, key_head, i]
                if "retrieve.key_norm" in weights:
                    key = rms_norm(key, weights["retrieve.key_norm"])
                side_scores[side, i] = queries[head, side] @ key
        sums = np.array([side_scores[0, i] + side_scores[1, j] for i in range(n) for j in range(n)])
        best = choice.top(sums, knn)
        pairs += list(zip(best, softmax(sums[best]).tolist(), strict=True))
    return pairs


def product_key(config: ProductKey, weights: Weights, x: Array, choice: Choice) -> Array:
    queries = _queries(weights, x, config.num_heads, config.key_dim)
    out = np.zeros(config.value_dim)
    for row, weight in product_key_retrieve(weights, queries, config.knn, choice):
        out += weight * weights["values.weight"][row]
    if config.gate:
        out = out * activation("silu", linear(weights, x, "gate"))
    return linear(weights, out, "output") if config.output_projection else out


def peer(config: Peer, weights: Weights, x: Array, choice: Choice) -> Array:
    queries = _queries(weights, x, config.num_heads, config.key_dim)
    out = np.zeros(len(x))
    chosen = product_key_retrieve(weights, queries, config.knn, choice)
    for place, (expert, weight) in enumerate(chosen):
        row = expert
        if config.table_per_head:  # the experts of the heads before it come first
            row += place // config.knn * config.num_keys**2
        neuron = activation("gelu", np.array([weights["down.weight"][row] @ x]))[0]
        out += weight * neuron * weights["up.weight"][row]
    return out
