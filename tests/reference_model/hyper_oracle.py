"""Hyper-connections in float64: one sequence, no cache, from the formulas alone.

Source: arXiv 2512.24880, sections 4.1 and 4.2; as DeepSeek-V4 has them.
"""

import numpy as np

from costmodel.layers.hyper_connections import HyperConnections
from tests.reference_model.oracles import EPS, Array, Weights, sigmoid, softmax

LEAST = 1e-6


def collapsed(
    config: HyperConnections, weights: Weights, streams: Array, before: Array | None = None
) -> tuple[Array, Array, Array, Array]:
    """Streams [T, c, D] to what a sublayer reads [T, D], and the weights of its output.

    Those are a weight of each stream [T, c] and a matrix of the streams [T, c, c]; at the end of
    the model there are none: zeros. `before` are the weights by which the site before says to
    collapse in a single pass; those of this site come last.
    """
    c = config.hc_mult
    made = [_made(config, weights, token) for token in streams]
    own = np.array([of_read for of_read, _, _ in made])
    read = own
    if config.single_pass:
        first = np.tile(np.eye(c)[0], (len(streams), 1))
        read = first if before is None else before
    vectors = [
        sum(r[s] * token[s] for s in range(c)) for r, token in zip(read, streams, strict=True)
    ]
    placed, mixing = np.array([p for _, p, _ in made]), np.array([m for _, _, m in made])
    return np.array(vectors), placed, mixing, own


def _made(config: HyperConnections, weights: Weights, token: Array) -> tuple[Array, Array, Array]:
    """The weights of one token [c, D]: to collapse, to place an output, to mix."""
    c, flat = config.hc_mult, token.reshape(-1)
    nothing = np.zeros(c), np.zeros((c, c))
    if "weight" not in weights:
        return np.zeros(c), *nothing
    made = weights["weight"] @ (flat / np.sqrt(np.mean(flat**2) + EPS))
    scale, bias = weights["scale"], weights["bias"]
    of_read = sigmoid(scale[0] * made[:c] + bias[:c]) + LEAST
    if len(made) == c:
        return of_read, *nothing
    placed = 2 * sigmoid(scale[1] * made[c : 2 * c] + bias[c : 2 * c])
    logits = (scale[2] * made[2 * c :] + bias[2 * c :]).reshape(c, c)
    matrix = np.array([softmax(row) for row in logits]) + LEAST
    for normalised in range(2 * config.hc_sinkhorn_iters - 1):
        rows = normalised % 2
        matrix = matrix / (matrix.sum(axis=rows, keepdims=True) + LEAST)
    return of_read, placed, matrix


def joined(
    streams: Array, output: Array, placed: Array, mixing: Array, own: Array | None = None
) -> Array:
    """Streams [T, c, D] mixed, and an output [T, D]: stream j is sum_i m_ij x_i + p_j y."""
    del own  # of the next site
    new = np.zeros_like(streams)
    for t, (token, matrix) in enumerate(zip(streams, mixing, strict=True)):
        for j in range(token.shape[0]):
            new[t, j] = placed[t, j] * output[t]
            for i in range(token.shape[0]):
                new[t, j] += matrix[i, j] * token[i]
    return new
