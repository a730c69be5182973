"""A model with gated residual streams in float64: one sequence, no cache, from the formulas alone.

Source: transformers 5.24, `modeling_qwen4_exp`.
"""

import numpy as np

from costmodel.layers.gated_residual import GatedResidual
from tests.reference_model.oracles import Array, Weights, rms_norm, sigmoid


def gathered(config: GatedResidual, weights: Weights, streams: Array) -> tuple[Array, Array]:
    """Streams [T, c, D] to what a sublayer reads [T, D], and the gains of its output [T, c].

    The last site has no gains: zeros.
    """
    c = config.hc_count
    inputs, gains = [], []
    for token in streams:
        normed = np.array([rms_norm(token[s], weights["norm"][s]) for s in range(c)])
        low = weights["down"] @ normed.reshape(-1) / c
        gates = sigmoid(weights["up"] @ (low * sigmoid(low))).reshape(normed.shape)
        inputs.append(sum(gates[s] * normed[s] for s in range(c)) / c)
        if "gains" in weights:
            gains.append(2 * sigmoid(weights["gains"] @ normed.reshape(-1) / c))
        else:
            gains.append(np.zeros(c))
    return np.array(inputs), np.array(gains)


def added(streams: Array, output: Array, gains: Array) -> Array:
    """Streams [T, c, D] with a sublayer's output [T, D] times its gains [T, c]."""
    return np.asarray(streams + gains[:, :, None] * output[:, None, :])
