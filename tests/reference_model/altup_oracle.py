"""AltUp and LAUREL in float64, token by token, written from the formulas of Gemma 3n.

With streams x_1..x_A, m(v) = tanh(R norm(v)) and p = m(x_1):

    predict   y_i = x_i + sum_j (P m(x_1))[i A + j] x_j
    correct   z_i = y_i + (1 + (C m(h))_i) (h - y_1), with h what the block made of y_1
    expand    x_1 = e, x_i = E_i e at the magnitude of e;   merge: the mean of x_1 and M_i x_i
    LAUREL    h = (x + attention + l) / sqrt(2), l = v + norm(W V v), with v = norm(x)
"""

import math

import numpy as np

from costmodel.inputs.model import ModelConfig
from tests.reference_model.oracles import EPS, Array, Weights, linear, rms_norm


def magnitude(x: Array) -> float:
    return math.sqrt(float(x @ x) / len(x) + EPS)


def at_magnitude(x: Array, like: Array) -> Array:
    return x * magnitude(like) / magnitude(x)


def expand(config: ModelConfig, weights: Weights, embedded: Array) -> list[Array]:
    """The streams, each [T, D]."""
    if config.altup is None:
        return []
    d, streams = config.hidden_size, [embedded]
    for i in range(config.altup.altup_num_inputs - 1):
        matrix = weights["expand.weight"][i * d : (i + 1) * d]
        streams.append(np.array([at_magnitude(matrix @ token, token) for token in embedded]))
    return streams


def merge(weights: Weights, streams: list[Array], x: Array) -> Array:
    """[T, D]; without streams x."""
    if not streams:
        return x
    d, total = streams[0].shape[1], streams[0].copy()
    for i, stream in enumerate(streams[1:]):
        matrix = weights["merge.weight"][i * d : (i + 1) * d]
        for t, token in enumerate(stream):
            total[t] += at_magnitude(matrix @ token, streams[0][t])
    return total / len(streams)


def modalities(weights: Weights, x: Array) -> Array:
    """A vector [D] to [A]."""
    return np.tanh(weights["predict.router"] @ rms_norm(x, weights["predict.norm"]))


def predict(weights: Weights, streams: list[Array], x: Array) -> tuple[list[Array], Array]:
    """The predicted streams, and the first of them; without streams x."""
    if not streams:
        return streams, x
    count, predicted = len(streams), [stream.copy() for stream in streams]
    for t in range(len(streams[0])):
        mix = weights["predict.coefficients"] @ modalities(weights, streams[0][t])
        for i in range(count):
            for j in range(count):
                predicted[i][t] += mix[i * count + j] * streams[j][t]
    return predicted, predicted[0]


def correct(weights: Weights, predicted: list[Array], made: Array) -> tuple[list[Array], Array]:
    """The streams, and the first of them scaled, which a memory layer reads; without any `made`."""
    if not predicted:
        return predicted, made
    corrected = [stream.copy() for stream in predicted]
    for t, token in enumerate(made):
        factors = 1 + weights["correct.coefficients"] @ modalities(weights, token)
        for i, factor in enumerate(factors):
            corrected[i][t] += factor * (token - predicted[0][t])
    return corrected, corrected[0] * weights.get("correct.scale", np.ones(1))


def laurel(weights: Weights, x: Array, normed: Array, attended: Array) -> Array:
    """The stream after attention, [T, D]."""
    out = []
    for stream, v, attention in zip(x, normed, attended, strict=True):
        low = linear(weights, linear(weights, v, "left"), "right")
        residual = v + rms_norm(low, weights["norm.weight"])
        out.append((stream + attention + residual) / math.sqrt(2))
    return np.array(out)
