"""Recurrent mixers in float64, one sequence, token by token: loops written from the formulas alone.

Sources: gated delta net arXiv 2412.06464 (equation 10), KDA 2510.26692 (section 3), Mamba-2
2405.21060 (section 2), causal convolutions of few taps 2312.00752 (section 3.4).
"""

import numpy as np

from costmodel.layers.attention_and_mamba2 import AttentionAndMamba2
from costmodel.layers.base import MixerKind
from costmodel.layers.gated_delta_net import GatedDeltaNet
from costmodel.layers.kimi_delta_attention import KimiDeltaAttention
from costmodel.layers.mamba2 import Mamba2
from costmodel.layers.short_conv import ShortConv
from tests.reference_model.oracles import (
    EPS,
    Array,
    Weights,
    activation,
    attention,
    linear,
    rms_norm,
    sigmoid,
    under,
)


def mixer(config: MixerKind, weights: Weights, x: Array) -> Array:
    """[T, D] to [T, D], from an empty state."""
    if isinstance(config, ShortConv):
        return short_conv(config, weights, x)
    if isinstance(config, GatedDeltaNet):
        return gated_delta_net(config, weights, x)
    if isinstance(config, KimiDeltaAttention):
        return kimi_delta_attention(config, weights, x)
    if isinstance(config, AttentionAndMamba2):
        attended = attention(config.attention, weights, x)
        return np.asarray(attended + mamba2(config.mamba, under(weights, "mamba"), x))
    assert isinstance(config, Mamba2)
    return mamba2(config, weights, x)


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


def unit(x: Array) -> Array:
    return np.asarray(x / np.sqrt(x @ x + EPS))


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(x))


def delta_rule(q: Array, k: Array, v: Array, beta: Array, keep: Array) -> Array:
    """One head: q and k [T, dk], v [T, dv], beta [T], kept share [T, dk] of each key channel."""
    state = np.zeros((k.shape[1], v.shape[1]))
    out = []
    for t in range(len(q)):
        state = keep[t][:, None] * state
        found = state.T @ k[t]
        state = state + beta[t] * np.outer(k[t], v[t] - found)
        out.append(state.T @ q[t])
    return np.array(out)


def gated_delta_net(config: GatedDeltaNet, weights: Weights, x: Array) -> Array:
    hk, hv = config.linear_num_key_heads, config.linear_num_value_heads
    dk, dv = config.linear_key_head_dim, config.linear_value_head_dim
    made = np.array([linear(weights, token, "in_proj") for token in x])
    qkv = made[:, : 2 * hk * dk + hv * dv]
    z = made[:, 2 * hk * dk + hv * dv : 2 * hk * dk + 2 * hv * dv]
    b, a = made[:, -2 * hv : -hv], made[:, -hv:]
    qkv = activation("silu", convolved(weights, qkv))
    mixed = np.zeros((len(x), hv * dv))
    for head in range(hv):
        shared = head // (hv // hk)
        q = np.array([unit(t[shared * dk : (shared + 1) * dk]) / np.sqrt(dk) for t in qkv])
        k = np.array([unit(t[(hk + shared) * dk : (hk + shared + 1) * dk]) for t in qkv])
        own = slice(2 * hk * dk + head * dv, 2 * hk * dk + (head + 1) * dv)
        rate = np.exp(weights["recurrence.A_log"][head])
        keep = np.exp(-rate * softplus(a[:, head] + weights["recurrence.dt_bias"][head]))
        out = delta_rule(q, k, qkv[:, own], sigmoid(b[:, head]), keep[:, None] + np.zeros(dk))
        for t in range(len(x)):
            gate = activation("silu", z[t, head * dv : (head + 1) * dv])
            normed = rms_norm(out[t], weights["gated_norm.weight"]) * gate
            mixed[t, head * dv : (head + 1) * dv] = normed
    return np.array([linear(weights, token, "output") for token in mixed])


def kimi_delta_attention(config: KimiDeltaAttention, weights: Weights, x: Array) -> Array:
    heads, d = config.num_heads, config.head_dim
    width = heads * d
    made = np.array([linear(weights, token, "in_proj") for token in x])
    qkv = activation("silu", convolved(weights, made[:, : 3 * width]))
    beta = sigmoid(made[:, 3 * width : 3 * width + heads])
    forget, z = np.split(made[:, 3 * width + heads :], 2, axis=1)
    if not config.full_rank_gates:
        forget = np.array([linear(weights, token, "forget_gate") for token in forget])
        z = np.array([linear(weights, token, "output_gate") for token in z])
    mixed = np.zeros((len(x), width))
    for head in range(heads):
        own = slice(head * d, (head + 1) * d)
        q = np.array([unit(token[:width][own]) / np.sqrt(d) for token in qkv])
        k = np.array([unit(token[width : 2 * width][own]) for token in qkv])
        rate = np.exp(weights["recurrence.A_log"][head])
        keep = np.exp(-rate * softplus(forget[:, own] + weights["recurrence.dt_bias"][own]))
        out = delta_rule(q, k, qkv[:, 2 * width :][:, own], beta[:, head], keep)
        for t in range(len(x)):
            mixed[t, own] = rms_norm(out[t], weights["gated_norm.weight"]) * sigmoid(z[t, own])
    return np.array([linear(weights, token, "output") for token in mixed])


def mamba2(config: Mamba2, weights: Weights, x: Array) -> Array:
    heads, size, states = config.mamba_n_heads, config.mamba_d_head, config.mamba_d_state
    inner, groups = heads * size, config.mamba_n_groups
    made = np.array([linear(weights, token, "in_proj") for token in x])
    z, xbc, dt = made[:, :inner], made[:, inner:-heads], made[:, -heads:]
    xbc = activation("silu", convolved(weights, xbc))
    mixed = np.zeros((len(x), inner))
    for head in range(heads):
        group = head // (heads // groups)
        state = np.zeros((size, states))
        own = slice(head * size, (head + 1) * size)
        for t in range(len(x)):
            b = xbc[t, inner + group * states : inner + (group + 1) * states]
            c = xbc[t, inner + (groups + group) * states :][:states]
            step = softplus(dt[t, head] + weights["recurrence.dt_bias"][head])
            keep = np.exp(-np.exp(weights["recurrence.A_log"][head]) * step)
            state = keep * state + step * np.outer(xbc[t, own], b)
            mixed[t, own] = state @ c + weights["recurrence.D"][head] * xbc[t, own]
    mixed = mixed * activation("silu", z)
    if config.mamba_rms_norm:
        scale = weights["gated_norm.weight"]
        width = inner // groups
        for start in range(0, inner, width):
            part = slice(start, start + width)
            mixed[:, part] = [rms_norm(token[part], scale[part]) for token in mixed]
    return np.array([linear(weights, token, "output") for token in mixed])
