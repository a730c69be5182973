"""Slow oracles in float64 of per-layer and n-gram embeddings, token by token, from the formulas.

Nothing of the models is in them. Sources: LongCat-Flash-Lite, arXiv 2601.21204; Gemma 3n and 4 in
transformers.
"""

import math

import numpy as np

from costmodel.inputs.model import ModelConfig
from costmodel.layers.ngram_embedding import NgramEmbedding
from costmodel.layers.per_layer_embedding import PerLayerEmbedding
from tests.reference_model.oracles import Array, Weights, activation, linear, rms_norm, under


def at_input(
    config: ModelConfig, weights: Weights, ids: list[int]
) -> tuple[Array, dict[int, Array]]:
    """The embedded tokens [T, D], and the vectors [T, p] of each block that gets some."""
    x = np.array([weights["embed.weight"][one] for one in ids])
    vectors: dict[int, Array] = {}
    for memory in config.memory:
        if isinstance(memory, NgramEmbedding):
            own = under(weights, "ngram_embedding")
            x = np.array([ngram_embedded(memory, own, x[t], ids[: t + 1]) for t in range(len(ids))])
        if isinstance(memory, PerLayerEmbedding):
            blocks = [block for block, _ in memory.placement(config.num_hidden_layers)]
            own = under(weights, "ple")
            by_token = [mixed(own, token, one) for token, one in zip(x, ids, strict=True)]
            for place, block in enumerate(blocks):
                vectors[block] = np.array([of_layers[place] for of_layers in by_token])
    return x, vectors


def mixed(weights: Weights, x: Array, token_id: int) -> list[Array]:
    """The vectors of one token, layer by layer: the mean of a projection with the id's row."""
    row, width = weights["rows.weight"], len(weights["project.norm"])
    projected = linear(weights, x, "project")
    of_id = row[token_id if token_id < len(row) else 0]
    return [
        (
            rms_norm(projected[start : start + width], weights["project.norm"])
            + of_id[start : start + width]
        )
        / math.sqrt(2)
        for start in range(0, len(projected), width)
    ]


def per_layer(weights: Weights, stream: Array, vectors: Array) -> Array:
    """What one layer adds to the stream [T, D]."""
    added = []
    for x, vector in zip(stream, vectors, strict=True):
        gated = activation("gelu", linear(weights, x, "gate")) * vector
        added.append(rms_norm(linear(weights, gated, "output"), weights["norm.weight"]))
    return np.array(added)


def ngram_embedded(config: NgramEmbedding, weights: Weights, word: Array, ids: list[int]) -> Array:
    """The embedding of the last of `ids`, whose word has the row `word`.

    The hash is one whole number in powers of V; Python's have no bounds.
    """
    n, k, v = config.emb_neighbor_num, config.emb_split_num, config.vocab_size
    tables = k * (n - 1)
    width = len(word) // tables
    out, first = word.copy(), 0
    for i in range(tables):
        order, rows = 2 + i // k, config.ngram_vocab_size_ratio * v + 2 * i + 1
        last = ([-1] * n + ids)[-order:]  # no token stands before the first one
        number = sum(one * v**back for back, one in enumerate(reversed(last)))
        row = weights["rows.weight"][first + number % rows]
        out += weights["project.weight"][:, i * width : (i + 1) * width] @ row
        first += rows
    return np.asarray(out / (1 + tables))
