"""Recurrent mixers in float64, one sequence, token by token: loops written from the formulas alone.

Sources: gated delta net arXiv 2412.06464 (equation 10), KDA 2510.26692 (section 3), Mamba-2
2405.21060 (section 2), causal convolutions of few taps 2312.00752 (section 3.4).
"""

import numpy as np

from costmodel.layers.base import MixerKind
from costmodel.layers.short_conv import ShortConv
from tests.reference_model.oracles import Array, Weights, linear


def mixer(config: MixerKind, weights: Weights, x: Array) -> Array:
    """[T, D] to [T, D], from an empty state."""
    assert isinstance(config, ShortConv)
    return short_conv(config, weights, x)


def convolved(weights: Weights, x: Array) -> Array:
    """Each channel over its last taps; the last tap meets the newest token. [T, C] to [T, C]."""
    taps = weights["conv.weight"]
    channels, width = taps.shape
    out = np.zeros_like(x)
    for t in range(len(x)):
        for channel in range(channels):
            for tap in range(width):
                past = t - (width - 1) + tap
                if past >= 0:
                    out[t, channel] += taps[channel, tap] * x[past, channel]
        out[t] += weights.get("conv.bias", np.zeros(1))
    return out


def short_conv(_: ShortConv, weights: Weights, x: Array) -> Array:
    """out_proj(c * conv(b * x)) with (b, c, x) = in_proj(u)."""
    width = x.shape[1]
    made = np.array([linear(weights, token, "in_proj") for token in x])
    b, c, value = made[:, :width], made[:, width : 2 * width], made[:, 2 * width :]
    mixed = c * convolved(weights, b * value)
    return np.array([linear(weights, token, "output") for token in mixed])
