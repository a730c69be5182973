"""Hyper-connections in float64: one sequence, no cache, from the formulas alone.

Source: arXiv 2512.24880, sections 4.1 and 4.2; as DeepSeek-V4 has them.
"""

import numpy as np

from costmodel.layers.hyper_connections import HyperConnections
from tests.reference_model.oracles import EPS, Array, Weights, sigmoid, softmax

LEAST = 1e-6


def collapsed(
    config: HyperConnections, weights: Weights, streams: Array
) -> tuple[Array, Array, Array]:
    """Streams [T, c, D] to what a sublayer reads [T, D], and the weights of its output.

    Those are a weight of each stream [T, c] and a matrix of the streams [T, c, c]; at the end of
    the model there are none: zeros.
    """
    c = config.hc_mult
    read, placed, mixing = [], [], []
    for token in streams:
        flat = token.reshape(-1)
        made = weights["weight"] @ (flat / np.sqrt(np.mean(flat**2) + EPS))
        scale, bias = weights["scale"], weights["bias"]
        of_read = sigmoid(scale[0] * made[:c] + bias[:c]) + LEAST
        read.append(sum(of_read[s] * token[s] for s in range(c)))
        if len(made) == c:
            placed.append(np.zeros(c))
            mixing.append(np.zeros((c, c)))
            continue
        placed.append(2 * sigmoid(scale[1] * made[c : 2 * c] + bias[c : 2 * c]))
        logits = (scale[2] * made[2 * c :] + bias[2 * c :]).reshape(c, c)
        matrix = np.array([softmax(row) for row in logits]) + LEAST
        for normalised in range(2 * config.hc_sinkhorn_iters - 1):
            rows = normalised % 2
            matrix = matrix / (matrix.sum(axis=rows, keepdims=True) + LEAST)
        mixing.append(matrix)
    return np.array(read), np.array(placed), np.array(mixing)


def joined(streams: Array, output: Array, placed: Array, mixing: Array) -> Array:
    """Streams [T, c, D] mixed, and an output [T, D]: stream j is sum_i m_ij x_i + p_j y."""
    new = np.zeros_like(streams)
    for t, (token, matrix) in enumerate(zip(streams, mixing, strict=True)):
        for j in range(token.shape[0]):
            new[t, j] = placed[t, j] * output[t]
            for i in range(token.shape[0]):
                new[t, j] += matrix[i, j] * token[i]
    return new
