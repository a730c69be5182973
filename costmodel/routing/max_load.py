"""How many tokens the busiest of several GPUs gets, and what each gets and touches.

Notation: N tokens choose k different ones of E experts each, independently. The load of a GPU is
the number of choices of a token and an expert that fall on its slots (`placement.py`). With as many
GPUs as experts, the busiest GPU is the busiest expert.

Leaves out, in all of this file: that tokens of one text choose alike; capacity limits, which drop
tokens; groups of experts of which a router looks at a few (`n_group`).
"""

from functools import lru_cache
from math import nan

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
MARGIN = 25  # beyond twice the expected sum


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

    Formula: the load of a slot that a token takes with probability q is modelled by a binomial
    count with the mean N q, and the counts of all slots are independent but for their sum, N k. Its
    variance is such that, given the sum, it is N q (1 - q) as of N independent tokens: with
    c (1 - c / C) = q (1 - q), C the sum of c over slots, theta = 1 - c / q, there are
    n = 1 + (N - 1) q / theta trials. One token then draws by conditional Poisson sampling, which is
    exact under uniform routing, and k = 1 is the multinomial, exactly. `conditioned_max.py` has the
    maximum. Slots of a GPU are added up by their means and variances; of `FEW_TOKENS` or fewer
    slots that differ, by their distributions.

    Error, by tests/routing/max_load.csv, which is simulated: see tests/routing/test_max_load.py.
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
    total = tokens * draws
    mean = tokens * shares
    by_gpu = mean.sum(axis=1)
    variance = mean * np.maximum(1.0 - _success(shares, success, draws, tokens), LEAST_VARIANCE)
    if tokens <= FEW_TOKENS and float(np.ptp(shares)) > 0.0:
        load = _of_few(mean, variance, tokens, total)
    else:
        load = _of_many(by_gpu, variance.sum(axis=1), total)
    most = tokens * min(draws, shares.shape[1])
    return min(max(load, float(by_gpu.max())), float(most))


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


def _of_many(mean: Floats, variance: Floats, total: int) -> float:
    """The maximum over GPUs, those with like loads taken together."""
    deviation = np.sqrt(variance)
    unit = ALIKE * float(deviation.max())
    alike = np.round(mean / unit) + 1j * np.round(deviation / unit)
    _, kind, repeats = np.unique(alike, return_inverse=True, return_counts=True)
    return expected_maximum(
        np.bincount(kind, mean) / repeats,
        np.bincount(kind, variance) / repeats,
        repeats.astype(np.float64),
        total,
    )


def _of_few(mean: Floats, variance: Floats, tokens: int, total: int) -> float:
    """The maximum over GPUs whose slots' counts, (gpus, slots), are added up one by one.

    The probabilities of a sum are the inverse of a discrete Fourier transform; its period is so
    long that no sum beyond it has a probability.
    """
    gpus, size = mean.shape
    period = 2 * total + MARGIN

    def probabilities(chosen: NDArray[np.bool_], values: Floats) -> Floats:
        slots = binomial(mean[chosen].ravel(), variance[chosen].ravel(), np.arange(tokens + 1.0))
        transform = np.fft.rfft(slots, period, axis=1).reshape(-1, size, period // 2 + 1)
        sums = np.fft.irfft(transform.prod(axis=1), period, axis=1)
        probability = np.maximum(sums[:, values.astype(np.int64)], 0.0)
        normalised: Floats = probability / probability.sum(axis=1, keepdims=True)
        return normalised

    return expected_maximum(
        mean.sum(axis=1), variance.sum(axis=1), np.ones(gpus), total, probabilities
    )
