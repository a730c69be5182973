"""The expected maximum of independent counts, given their sum.

Notation: counts Y_1..Y_G of which T is the sum. Levin's representation: with independent Y_g,

    P(all Y_g <= m | sum = T) = P(sum of Y_g = T and all Y_g <= m) / P(sum of Y_g = T).

Both probabilities are Fourier integrals of products over g, phi_g(t; m) = the sum over y <= m of
P(Y_g = y) e^(ity). One running sum over y gives phi_g for every m, and since the sum's density is
smooth, few frequencies t do. The expected maximum is the sum of P(maximum > m) over m >= 0.
Source: B. Levin, A representation for multinomial cumulative distribution functions, Ann. Stat. 9
(1981), which has an Edgeworth expansion in place of the integral.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from costmodel.routing.expectation import Floats

REACH = 5.5  # standard deviations beyond which a count is not looked for ...
SKEW = 4.0  # ... and as much again above, for counts of small mean
PER_DEVIATION = 6  # values to a standard deviation, where each value cannot be looked at
MOST_PER_DEVIATION = 40  # if deviations differ, of the largest
SPAN = 13.0  # standard deviations of the sum after which its density may repeat
FEW_COUNTS = 4  # up to here a count that is cut off at m leaves an edge in the sum's density
FREQUENCIES = 16  # the result is within 0.07 % of that with all of them ...
FREQUENCIES_OF_FEW = 40  # ... and within 0.03 %, where 16 would lose 0.5 %
POISSON = 1e-4  # the success probability below which a binomial is taken as a Poisson
LOG_ROOT_2_PI = math.log(2 * math.pi) / 2
ROUNDING = 1e-6  # of a number of trials, beyond which there is no value

Probabilities = Callable[[NDArray[np.bool_], Floats], Floats]
"""Of some of the kinds of counts, and of values: the probability of each, (kinds, values)."""


def expected_maximum(
    mean: Floats,
    variance: Floats,
    repeats: Floats,
    total: int,
    *,
    most: int | None = None,
    probabilities: Probabilities | None = None,
) -> float:
    """E[max of Y_g | sum = T], where the means and variances of Y_g without the sum are given.

    Values are taken in steps where a standard deviation has more than `PER_DEVIATION`.
    Error: below 0.1 % of the result (tests/routing/test_conditioned_max.py).

    Args:
        mean: (kinds,), which sum to T, each as often as repeated.
        variance: (kinds,), above 0 and at most the mean.
        repeats: (kinds,), how many counts there are of each kind; whole numbers.
        total: T.
        most: No count is larger; unless given, T.
        probabilities: The distributions; unless given, `binomial` of the means and variances.
    """
    deviation = np.sqrt(variance)
    gpus = float(repeats.sum())
    least = max(math.ceil(total / gpus), int((mean - REACH * deviation).max())) - 1
    last = min(total if most is None else most, math.ceil((mean + REACH * deviation + SKEW).max()))
    high = mean + REACH * deviation + SKEW > least  # the others are never the maximum
    widest, narrowest = float(deviation[high].max()), float(deviation[high].min())
    step = max(1, int(narrowest / PER_DEVIATION), int(widest / MOST_PER_DEVIATION))
    first = max(0, int((mean - REACH * deviation)[high].min()) - 1)
    values = np.arange(first, last + step, step, dtype=np.float64)
    spread = math.sqrt(float((variance * repeats).sum()))
    angles = _angles(spread, FREQUENCIES_OF_FEW if gpus <= FEW_COUNTS else FREQUENCIES)
    log_rest = np.asarray(-1j * total * angles, dtype=np.complex128)
    if not high.all():
        log_rest += _log_transform(mean[~high], variance[~high], angles) @ repeats[~high]
    if probabilities is None:
        probability = binomial(mean[high], variance[high], values)
    else:
        probability = probabilities(high, values)
    return _maximum(probability, values, repeats[high], angles, log_rest)


def _maximum(
    probability: Floats,
    values: Floats,
    repeats: Floats,
    angles: Floats,
    log_rest: NDArray[np.complex128],
) -> float:
    """The expected maximum from the probabilities of each kind, and the transform of the rest."""
    waves = np.exp(1j * angles[:, np.newaxis] * values)
    product = np.exp(log_rest)[:, np.newaxis]
    for row, times in zip(probability, repeats.tolist(), strict=True):
        transform = np.cumsum(row * waves, axis=1)
        product = product * (transform if times == 1 else transform ** int(times))
    weight = np.where(angles == 0.0, 0.5, 1.0)
    at_most = weight @ product.real  # in units of the probability of the sum, that of any maximum
    at_most = np.clip(at_most / at_most[-1], 0.0, 1.0)
    step = float(values[1] - values[0]) if len(values) > 1 else 1.0
    return float(values[0]) + step * float((1.0 - at_most).sum())


def binomial(mean: Floats, variance: Floats, values: Floats) -> Floats:
    """The probabilities of values, (counts, values); over these values they sum to 1.

    The number of trials is mean^2 / (mean - variance), whole or not; no value lies beyond it. Where
    the variance is the mean, to within `POISSON`, the count is Poisson.
    """
    success = 1.0 - variance / mean
    poisson = success < POISSON
    success = np.where(poisson, 0.5, success)[:, np.newaxis]
    trials = mean[:, np.newaxis] / success
    log_odds = np.log(success) - np.log1p(-success)
    missed = trials - values
    within = missed > -ROUNDING
    falling = values * log_odds - _log_gamma(np.where(within, missed, 0.0) + 1.0)
    logarithm = np.where(
        poisson[:, np.newaxis],
        values * np.log(mean)[:, np.newaxis],
        np.where(within, falling, -np.inf),
    ) - _log_gamma(values + 1.0)
    probability = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
    normalised: Floats = probability / probability.sum(axis=1, keepdims=True)
    return normalised


def _angles(spread: float, most: int) -> Floats:
    """The frequencies for a sum with a standard deviation: all that there are, if they are few.

    An odd number n of values of the sum is told apart by the n // 2 + 1 from 0 to below pi.
    """
    period = SPAN * spread + 2
    if period < 2 * most:
        period = 2 * int(period / 2) + 1.0
        most = int(period) // 2
    return 2 * math.pi / period * np.arange(most + 1, dtype=np.float64)


def _log_transform(mean: Floats, variance: Floats, angles: Floats) -> NDArray[np.complex128]:
    """The logarithm of E[e^(itY)], (frequencies, counts), of the binomial counts of `binomial`."""
    success = 1.0 - variance / mean
    poisson = success < POISSON
    trials = mean / np.where(poisson, 1.0, success)
    turned = np.expm1(1j * angles)[:, np.newaxis]
    logarithm: NDArray[np.complex128] = np.where(
        poisson, mean * turned, trials * np.log1p(success * turned)
    )
    return logarithm


def _log_gamma(x: Floats) -> Floats:
    """The logarithm of Gamma(x), x >= 1, to 9 digits: Stirling's series, taken 4 further on."""
    z = x + 4
    w = 1 / z**2
    series = (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w / 1680))) / z
    steps = np.log(x * (x + 1) * (x + 2) * (x + 3))
    logarithm: Floats = (z - 0.5) * np.log(z) - z + LOG_ROOT_2_PI + series - steps
    return logarithm
