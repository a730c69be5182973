"""A slow oracle in float64 of hashed n-gram tables, one token at a time, from the formulas alone.

Primes are found by trial division, hashes with Python's integers. `weights` are a layer's by the
names of its leaves. Source: Engram, arXiv 2601.07372, section 2.
"""

import math

import numpy as np

from costmodel.inputs.model import ModelConfig
from costmodel.layers.ngram import Ngram
from tests.reference_model.oracles import Array, Weights, activation, linear, rms_norm, sigmoid

BEFORE_THE_FIRST = -1  # the id that stands there


def is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, math.isqrt(number) + 1))


def primes_of(config: Ngram, index: int) -> list[int]:
    """The primes of the columns of the layer of this number; those before it have used others."""
    columns = (config.max_ngram_size - 1) * config.num_heads
    primes: list[int] = []
    candidate = config.vocab_size_base
    while len(primes) < (index + 1) * columns:
        if is_prime(candidate):
            primes.append(candidate)
        candidate += 1
    return primes[index * columns :]


def rows_read(config: Ngram, weights: Weights, ids: list[int], t: int, index: int) -> list[int]:
    """The rows of the table that the n-grams ending in token t address, column by column."""
    factors = [int(factor) for factor in weights["hash.factors"]]
    rows, start, column = [], 0, 0
    primes = primes_of(config, index)
    for order in range(2, config.max_ngram_size + 1):
        mixed = 0
        for back in range(order):
            one = ids[t - back] if t >= back else BEFORE_THE_FIRST
            mixed ^= (one + 2) * factors[back]
        for _head in range(config.num_heads):
            rows.append(start + mixed % primes[column])
            start += primes[column]
            column += 1
    return rows


def ngram(config: Ngram, weights: Weights, x: Array, ids: list[int], index: int) -> Array:
    """Hidden states [T, D] and the ids of a whole sequence to what is added, [T, D].

    Where the model has c streams, theirs: [T, c, D] to [T, c, D].
    """
    c, d = config.streams, x.shape[-1]
    gated = np.zeros((len(x), c, d))
    for t, hidden in enumerate(x):
        rows = rows_read(config, weights, ids, t, index)
        memory = np.concatenate([weights["rows.weight"][row] for row in rows])
        projected = linear(weights, memory, "project").reshape(c + 1, d)
        for stream in range(c):
            key = rms_norm(projected[stream], weights["gate.k_norm"][stream])
            own = hidden[stream] if config.per_stream else hidden
            query = rms_norm(own, weights["gate.q_norm"][stream])
            score = float(query @ key) / math.sqrt(d)
            root = math.copysign(math.sqrt(max(abs(score), 1e-6)), score)
            gated[t, stream] = float(sigmoid(np.array(root))) * projected[c]
    if not config.conv_kernel:
        return gated if config.per_stream else np.asarray(gated.sum(1))
    out = np.zeros_like(gated)
    taps = weights["conv.weight"].reshape(c, d, config.conv_kernel)
    for t in range(len(x)):
        for stream in range(c):
            mixed = np.zeros(d)
            for tap in range(config.conv_kernel):
                past = t - (config.conv_kernel - 1 - tap) * config.max_ngram_size
                if past >= 0:
                    normed = rms_norm(gated[past, stream], weights["conv.norm"][stream])
                    mixed += taps[stream, :, tap] * normed
            out[t, stream] = gated[t, stream] + activation("silu", mixed)
    return out if config.per_stream else np.asarray(out.sum(1))


def at_head(config: ModelConfig, block: int, weights: Weights, x: Array, ids: list[int]) -> Array:
    """The stream [T, D] with what a layer at the head of this block adds to it, if there is one."""
    for memory in config.memory:
        blocks = [place for place, _ in memory.placement(config.num_hidden_layers)]
        if isinstance(memory, Ngram) and block in blocks:
            return x + ngram(memory, weights, x, ids, blocks.index(block))
    return x
