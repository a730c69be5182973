"""Rarefaction: how likely it is that some of a trace's tokens leave an item untouched.

A trace of n tokens was measured, and c of them drew an item, each of them once. T of the n tokens
are taken, every choice of T being equally likely. The number X of those among the T that drew the
item is hypergeometric, and P(X = 0) = C(n - c, T) / C(n, T).
Source: S. Hurlbert, The nonconcept of species diversity, Ecology 52 (1971), equation 14.
"""

from math import ceil, lgamma, log, log1p, pi

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TABULATED = 32  # factorials below it; Stirling's series is exact to 1e-16 from there on
NEGLIGIBLE = 41.5  # -log of what is left out of a sum of probabilities: 1e-18
SMALL = 0.1  # below it `_entropy` sums a power series, of terms below SMALL^17


def log_untouched(tokens: int, accesses: Floats, taken: int) -> Floats:
    """log(C(n - c, T) / C(n, T)) for each number of accesses c; -inf where T cannot leave c out.

    With m = min(c, T), M = max(c, T) and y = n + 1/2, Stirling's formula ln k! = z ln z - z +
    ln sqrt(2 pi) + r(k), z = k + 1/2, turns the logarithm into
    m ln(1 - M / y) + y h(m / y) - (y - M) h(m / (y - M)) and a second difference of r, where
    h(u) = (1 - u) ln(1 - u) + u. No two of these terms are much larger than their sum, so that
    traces of any size lose no digits, as differences of lgamma would.

    Args:
        tokens: n, of the trace.
        accesses: c, whole numbers from 0 to n.
        taken: T, from 0 to n.
    """
    rest = tokens - accesses - taken
    possible = np.maximum(rest, 0.0)
    fewer, more = np.minimum(accesses, taken), np.maximum(accesses, taken)
    y = tokens + 0.5
    beyond = np.maximum(y - more, fewer + 0.5)  # y - M, but where c + T > n
    logarithm = (
        fewer * np.log1p(-np.minimum(more / y, 1.0))
        + y * _entropy(fewer / y)
        - beyond * _entropy(fewer / beyond)
        + _stirling_rest(tokens - accesses)
        + float(_stirling_rest(np.array([float(tokens - taken)]))[0])
        - float(_stirling_rest(np.array([float(tokens)]))[0])
        - _stirling_rest(possible)
    )
    logarithm = np.minimum(np.where(fewer == 0, 0.0, logarithm), 0.0)
    return np.where(rest < 0, -np.inf, logarithm)


def touched(tokens: int, accesses: Floats, taken: int, copies: int = 1) -> Floats:
    """The probability that T of the n tokens touch an item that c of the n tokens drew.

    With `copies` of the item, of which each draw takes any with equal probability: that they touch
    a given copy, 1 - E[(1 - 1 / copies)^X]. Terms beyond x = `NEGLIGIBLE` * copies are left out.

    Args:
        tokens: n, of the trace.
        accesses: c, whole numbers from 0 to n.
        taken: T, from 0 to n.
        copies: of each item.
    """
    if copies == 1:
        return -np.expm1(log_untouched(tokens, accesses, taken))
    rest = tokens - accesses - taken
    short = rest < 0  # then at least -rest of the c are among the T
    first = np.where(short, -rest, 0.0)
    log_probability = np.where(
        short,
        log_untouched(tokens, tokens - accesses, tokens - taken),
        log_untouched(tokens, accesses, taken),
    )
    log_missed = log1p(-1 / copies)
    most = float((np.minimum(accesses, taken) - first).max(initial=0.0))
    missed = np.zeros_like(accesses)
    for step in range(int(min(most, ceil(NEGLIGIBLE * copies))) + 1):
        x = first + step
        missed += np.exp(log_probability + x * log_missed)
        with np.errstate(divide="ignore"):  # no more than min(c, T) tokens can have drawn it
            ways = np.maximum(accesses - x, 0.0) * np.maximum(taken - x, 0.0)
            log_probability = log_probability + np.log(ways / ((x + 1) * (rest + x + 1)))
    return np.maximum(1.0 - missed, 0.0)


def _entropy(share: Floats) -> Floats:
    """h(u) = (1 - u) ln(1 - u) + u, which is u^2 / 2 + u^3 / 6 + ... + u^j / (j (j - 1)), u < 1."""
    series = np.zeros_like(share)
    for power in range(17, 1, -1):
        series = series * share + 1 / (power * (power - 1))
    direct = (1 - share) * np.log1p(-share) + share
    return np.where(share < SMALL, series * share**2, direct)


_RESTS = np.array(
    [lgamma(k + 1) - (k + 0.5) * (log(k + 0.5) - 1) - log(2 * pi) / 2 for k in range(TABULATED)]
)


def _stirling_rest(k: Floats) -> Floats:
    """r(k) = ln k! - (z ln z - z + ln sqrt(2 pi)), z = k + 1/2: about -1 / (24 z)."""
    z = np.maximum(k, TABULATED) + 0.5
    w = 1 / z**2
    series = -(1 / 24 - w * (7 / 2880 - w * (31 / 40320 - w * (127 / 430080)))) / z
    return np.where(k < TABULATED, _RESTS[np.minimum(k, TABULATED - 1).astype(np.int64)], series)
