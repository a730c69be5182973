"""How many tokens the busiest of several GPUs gets, and what each gets and touches.

Notation: each of N tokens chooses k different ones of E experts, which stand on G GPUs
(`placement.py`). The load of a GPU is how many of these N k choices fall on its slots. With as many
GPUs as experts, the busiest GPU is the busiest expert.

Leaves out, in all of this file: that tokens of one text choose alike; capacity limits, which drop
tokens; groups of experts of which a router looks at a few (`n_group`). A measured histogram says
how popular experts are, of few tokens with a skew that is chance.
"""

from functools import lru_cache
from math import ceil, nan

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import InputError
from costmodel.routing.conditioned_max import binomial, expected_maximum
from costmodel.routing.expectation import Expected, Floats, Trials, for_each_count
from costmodel.routing.placement import Placement, Slots, slots_of
from costmodel.routing.popularity import Routing

KEPT_LOADS = 4096  # numbers
KEPT_MODELS = 256  # each two numbers a slot
FEW_TOKENS = 16  # up to here the experts of a GPU are counted one by one, if they differ
ALIKE = 0.05  # of a standard deviation: GPUs whose loads differ by less are taken together
ROUNDS = 200  # of a fixed point, which takes some ten unless two experts have all the variance
SETTLED = 1e-9
LEAST_SHARE = 1e-12  # of an expert that nothing has drawn
LEAST_VARIANCE = 1e-9  # of a mean: a count that is certain
FAR, MARGIN = 11.0, 13  # deviations, and half the values, beyond a sum's mean


def expected_loads(
    routing: Routing, experts: int, draws: int, tokens: Trials, placement: Placement
) -> Floats:
    """The expected load of each GPU: N times the popularity of its slots, added up.

    Returns:
        The shape of `tokens`, then (gpus,); several routings (`RoutingAxis`) come first.
    """
    popularity = routing.touched_by_rank(experts, draws, 1, kind="experts")
    if popularity.ndim > 1:
        return np.stack([_loads(row, tokens, placement) for row in popularity])
    return _loads(popularity, tokens, placement)


def expected_distinct_by_gpu(
    routing: Routing, experts: int, draws: int, tokens: Trials, placement: Placement
) -> Floats:
    """The expected number of slots of each GPU that some token takes.

    Without copies, the sum over the GPUs is `Routing.expected_distinct`. That of the busiest GPU
    stands where `expected_loads` is largest.

    Returns:
        The shape of `tokens`, then (gpus,); several routings (`RoutingAxis`) come first. NaN where
        a histogram holds fewer tokens.
    """
    if not isinstance(tokens, np.ndarray):
        return _distinct(routing, experts, draws, tokens, placement)
    counts, places = np.unique(tokens, return_inverse=True)
    by_count = np.stack(
        [_distinct(routing, experts, draws, count, placement) for count in counts.tolist()], axis=-2
    )
    shape = (*by_count.shape[:-2], *tokens.shape, placement.gpus)
    return by_count[..., places.ravel(), :].reshape(shape)


def expected_max_load(
    routing: Routing, experts: int, draws: int, tokens: Trials, placement: Placement
) -> Expected:
    """The expected load of the busiest GPU, E[max over GPUs], from N k / G to N k.

    Formula: N tokens take a slot with the probability q each. The slot's load is modelled by a
    binomial count of n trials with the mean N q; the counts of all slots are independent, but their
    sum is known to be N k. n is such that the variance, given the sum, is that of N independent
    tokens, N q (1 - q): with c (1 - c / C) = q (1 - q), C the sum of c over all slots, and
    theta = 1 - c / q, it is n = 1 + (N - 1) q / theta. For k = 1 the counts are Poisson and the
    model is exact: a multinomial. For N = 1 it is exact under uniform routing. A GPU's load is the
    sum over its slots: of their means and variances, or, at `FEW_TOKENS` tokens or fewer, of their
    distributions if they differ. `conditioned_max.py` has the maximum.

    Error, beside the simulated loads of tests/routing/max_load.csv (64 and 256 experts, k of 1 to
    8, 2 to 64 GPUs, 1 to 4096 tokens): below 0.5 % under uniform routing, which is the noise of the
    simulation. Under Zipf's law to an exponent of 2, below 1 % from 4 tokens on and 2 % of one
    token. Copies that stand on one GPU together (`consecutive`) are taken for independent, which
    overstates the largest load: by up to 24 % of one token, 6 % of 16, 3 % of 64, 2 % of 256.
    Source: J. Hajek, Asymptotic theory of rejective sampling, Ann. Math. Stat. 35 (1964), for c;
    the binomial counts are ours.

    Args:
        routing: The popularity of the experts.
        experts: E.
        draws: k.
        tokens: N, a number or an array.
        placement: The GPUs and the slots on each.

    Returns:
        A number of choices, not whole; the shape of `tokens`, after that of the routings. NaN where
        popularity is not known.
    """
    popularity = routing.touched_by_rank(experts, draws, 1, kind="experts")
    if popularity.ndim > 1:
        return np.stack(
            [np.asarray(_max_load(row, draws, tokens, placement)) for row in popularity]
        )
    return _max_load(popularity, draws, tokens, placement)


def _loads(popularity: Floats, tokens: Trials, placement: Placement) -> Floats:
    shares = _shares(popularity, slots_of(popularity, placement)).sum(axis=1)
    counts = np.asarray(tokens, dtype=np.float64)
    loads: Floats = counts[..., np.newaxis] * shares
    return loads


def _distinct(
    routing: Routing, experts: int, draws: int, tokens: int, placement: Placement
) -> Floats:
    """(gpus,) or (routings, gpus): `expected_distinct_by_gpu` of one number of tokens."""
    popularity = routing.touched_by_rank(experts, draws, 1, kind="experts")
    rows = popularity.reshape(-1, experts)
    slots = [slots_of(row, placement) for row in rows]
    by_gpu = np.zeros((len(rows), placement.gpus))
    for copies in sorted({int(count) for of_row in slots for count in of_row.copies.flat}):
        touched = routing.touched_by_rank(experts, draws, tokens, kind="experts", copies=copies)
        for index, (of_copy, row) in enumerate(
            zip(touched.reshape(-1, experts), slots, strict=True)
        ):
            here = np.where(row.copies == copies, of_copy[row.experts], 0.0)
            by_gpu[index] += here.sum(axis=1)
    return by_gpu.reshape(*popularity.shape[:-1], placement.gpus)


def _shares(popularity: Floats, slots: Slots) -> Floats:
    """(gpus, slots): the probability that a token takes a slot."""
    return popularity[slots.experts] / slots.copies


def _max_load(popularity: Floats, draws: int, tokens: Trials, placement: Placement) -> Expected:
    key = popularity.tobytes()
    return for_each_count(lambda count: _one_max_load(key, draws, count, placement), tokens)


@lru_cache(maxsize=KEPT_LOADS)
def _one_max_load(popularity_bytes: bytes, draws: int, tokens: int, placement: Placement) -> float:
    """`expected_max_load` of one number of tokens."""
    if tokens < 0:
        raise InputError(f"tokens={tokens}: must not be negative")
    if tokens == 0:
        return 0.0
    shares, success = _slot_model(popularity_bytes, draws, placement)
    if np.isnan(shares).any():
        return nan
    mean = tokens * shares
    variance = mean * np.maximum(1.0 - _success(shares, success, draws, tokens), LEAST_VARIANCE)
    load = _maximum_over_gpus(mean, variance, draws, tokens)
    least = max(float(mean.sum(axis=1).max()), float(ceil(tokens * draws / placement.gpus)))
    return min(max(load, least), float(tokens * min(draws, shares.shape[1])))


@lru_cache(maxsize=KEPT_MODELS)
def _slot_model(popularity_bytes: bytes, draws: int, placement: Placement) -> tuple[Floats, Floats]:
    """The probability q that a token takes a slot, and theta, both (gpus, slots)."""
    popularity = np.frombuffer(popularity_bytes)
    shares = np.maximum(_shares(popularity, slots_of(popularity, placement)), LEAST_SHARE)
    if draws == 1:
        return shares, np.zeros_like(shares)
    given = shares * (1 - shares)
    free = given  # c, the variance of a token's choice before the sum of its choices is known
    for _ in range(ROUNDS):
        before, whole = free, float(free.sum())
        if whole < LEAST_VARIANCE:
            break
        free = given / (1 - np.minimum(free / whole, 0.5))
        if float(np.abs(free - before).max()) < SETTLED:
            break
    return shares, np.maximum(1 - free / shares, 0.0)


def _success(shares: Floats, success: Floats, draws: int, tokens: int) -> Floats:
    """N q / n: the success probability of a slot's binomial count, 0 of a Poisson count."""
    if tokens == 1 and draws > 1:
        return shares
    with np.errstate(invalid="ignore"):
        rate = tokens * shares * success / (success + shares * (tokens - 1))
    return rate if draws > 1 else np.zeros_like(shares)


def _maximum_over_gpus(mean: Floats, variance: Floats, draws: int, tokens: int) -> float:
    """The maximum from the mean and variance of each slot's count, both (gpus, slots).

    GPUs with like loads are taken together.
    """
    gpu_mean, gpu_variance = mean.sum(axis=1), variance.sum(axis=1)
    deviation = np.sqrt(gpu_variance)
    unit = ALIKE * float(deviation.max())
    alike = np.round(gpu_mean / unit) + 1j * np.round(deviation / unit)
    _, kind, repeats = np.unique(alike, return_inverse=True, return_counts=True)
    size = mean.shape[1]
    one_by_one = size > 1 and draws > 1 and tokens <= FEW_TOKENS and float(np.ptp(mean)) > 0.0

    def probabilities(chosen: NDArray[np.bool_], values: Floats) -> Floats:
        gpus = chosen[kind]
        by_gpu = _sums(mean[gpus], variance[gpus], tokens, values)
        of_kind = (np.flatnonzero(chosen)[:, np.newaxis] == kind[gpus]) * 1.0
        mixed: Floats = of_kind @ by_gpu / repeats[chosen, np.newaxis]
        return mixed

    return expected_maximum(
        np.bincount(kind, gpu_mean) / repeats,
        np.bincount(kind, gpu_variance) / repeats,
        repeats.astype(np.float64),
        tokens * draws,
        most=tokens * min(draws, size),
        probabilities=probabilities if one_by_one else None,
    )


def _sums(mean: Floats, variance: Floats, tokens: int, values: Floats) -> Floats:
    """(gpus, values): the probabilities of each GPU's sum over the counts of its slots.

    A sum's probabilities are the inverse of a discrete Fourier transform, whose period is so long
    that nothing lies beyond it.
    """
    gpus, size = mean.shape
    reach = mean.sum(axis=1) + FAR * np.sqrt(variance.sum(axis=1))
    period = 2 * (max(int(reach.max()), int(values[-1])) // 2 + MARGIN)
    slots = binomial(mean.ravel(), variance.ravel(), np.arange(tokens + 1.0))
    transform = np.fft.rfft(slots, period, axis=1).reshape(gpus, size, period // 2 + 1)
    sums = np.fft.irfft(transform.prod(axis=1), period, axis=1)
    probability = np.maximum(sums[:, values.astype(np.int64)], 0.0)
    normalised: Floats = probability / probability.sum(axis=1, keepdims=True)
    return normalised
