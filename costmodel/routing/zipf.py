"""The probability that one token draws a given item, where popularity follows Zipf's law.

Notation: N items (experts, or rows of a memory table) in order of popularity, item i of weight
w_i = i^-s. A token draws k items one after the other, without replacement, each time with
probabilities proportional to the weights that remain. The top k of log w_i plus Gumbel noise follow
the same law: that is how a router chooses whose scores are log-popularities plus noise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HEAD = 64  # ranks that are summed one by one unless stated
BIN_NODES = 8  # ranks that stand for a bin of the tail; 6 of them lose four digits
BIN_RATIO = 2.0  # of the weights, and of the ranks, at the two ends of a bin
PANEL_NODES = 40  # Gauss-Legendre nodes per panel of log t ...
PANEL_WIDTH = 6.0  # ... which exp(-e^u), analytic for |Im u| < pi/2, needs for 1e-15
BRACKET = 0.002  # of log t, where a search for its bounds stops
IMPROBABLE = 30.0  # -log of a probability that counts as nothing (1e-13)
INVISIBLE = 40.0  # -log of a Fourier coefficient that cannot change a sum
ROUNDING = 1e-14  # a probability computed below this is noise


@dataclass(frozen=True, slots=True, eq=False)
class Inclusion:
    """The probability that one token draws an item, for groups of items of like popularity."""

    items: Floats  # how many items a group stands for (not whole for a binned tail); sums to N
    probability: Floats  # that one token draws a given item of the group; sums to k over items


def inclusion(
    population: int, draws: int, exponent: float, *, edge: int = 0, head: int = HEAD
) -> Inclusion:
    """The probability pi_i that one token draws item i.

    Formula: let item i arrive at time T_i ~ Exp(w_i); the first k arrivals are the draw, so

        pi_i = integral over t of  w_i exp(-w_i t) P(at most k-1 of the others came by t)  dt.

    The integral runs over log t, by Gauss-Legendre panels, where P is neither 1 nor 0 to 1e-13.
    For earlier t, P is 1 and the integral is 1 - exp(-w_i t). Ranks past `head` are binned
    (`_ranks`), so time and memory grow with log N; no bin reaches across rank `edge`. The result
    is scaled to sum to k.

    Error: below 1e-10 relative, in every pi_i and in the sum of 1 - (1 - pi_i)^T, for N <= 1e9,
    k <= 768 and s <= 10 (5e-11 was seen at s = 10, 3e-12 for s <= 5). tests/routing/test_zipf.py
    compares with enumerated draws, with another algorithm, without bins, and with simulation.
    Leaves out: that real popularity is not a power law, and that a product-key search does not
    draw rows one by one.
    Source: exponential race of P. Efraimidis and P. Spirakis, Weighted random sampling with a
    reservoir, Inf. Proc. Letters 97 (2006); the integral is elementary.
    """
    ranks, items = _ranks(population, exponent, edge, head)
    if draws == population:
        return Inclusion(items, np.ones_like(items))
    log_weights = -exponent * np.log(ranks)
    if draws == 1:  # the integral is then w_i over the sum of all weights
        weights = np.exp(log_weights)
        return Inclusion(items, weights / float((items * weights).sum()))
    low, high = _window(log_weights, items, population, draws)
    probability = -np.expm1(-np.exp(log_weights + low))
    panels = math.ceil((high - low) / PANEL_WIDTH)
    nodes, node_weights = np.polynomial.legendre.leggauss(PANEL_NODES)
    half = (high - low) / panels / 2
    for panel in range(panels):
        centre = low + (2 * panel + 1) * half
        for node, node_weight in zip(nodes, node_weights, strict=True):
            load = np.exp(log_weights + (centre + half * node))  # w_i t
            race_open = _others_at_most(draws - 1, -np.expm1(-load), items, population)
            probability += half * node_weight * load * np.exp(-load) * race_open  # dt = t du
    probability *= draws / float((items * probability).sum())
    return Inclusion(items, np.minimum(probability, 1.0))


def _ranks(
    population: int, exponent: float, edge: int = 0, head: int = HEAD
) -> tuple[Floats, Floats]:
    """Ranks and weights such that sum of weight f(rank) = sum of f(i) over i = 1..N.

    The first `head` ranks are kept one by one. The others are put into bins over which w_i falls
    by `BIN_RATIO` at most; a bin ends at rank `edge`. A bin of m > `BIN_NODES` ranks is summed by
    the Gauss rule of m equally spaced points, which is exact for polynomials of degree 15; its
    nodes are the eigenvalues of the Jacobi matrix of the discrete Chebyshev polynomials,
    b_n = n^2 (m^2 - n^2) / (4 (4 n^2 - 1)).
    Source: G. Golub and J. Welsch, Calculation of Gauss quadrature rules, Math. Comp. 23 (1969).
    """
    ratio = BIN_RATIO ** (1 / max(1.0, exponent))
    first = min(head, population) + 1
    ranks, items = [np.arange(1.0, first)], [np.ones(first - 1)]
    order = np.arange(1, BIN_NODES)
    while first <= population:
        last = edge if first <= edge else population
        size = min(max(BIN_NODES, int(first * (ratio - 1))), last - first + 1)
        if size <= BIN_NODES:
            ranks.append(np.arange(float(first), first + size))
            items.append(np.ones(size))
        else:
            beta = order**2 * (1 - (order / size) ** 2) / (4.0 * order**2 - 1)
            side = np.diag(np.sqrt(beta), 1)
            nodes, vectors = np.linalg.eigh(side + side.T)
            ranks.append(first + (size - 1) / 2 + nodes * size / 2)
            items.append(size * vectors[0] ** 2)
        first += size
    return np.concatenate(ranks), np.concatenate(items)


def _window(log_weights: Floats, items: Floats, population: int, draws: int) -> tuple[float, float]:
    """The span of log t outside which it is certain, to 1e-13, whether k items have arrived."""

    def state(log_time: float) -> tuple[float, float]:
        """The expected arrivals minus k, and a lower bound on -log P(the arrivals lie beyond k)."""
        load = np.exp(log_weights + log_time)
        missing = np.exp(-load)
        arrived = -np.expm1(-load)
        mean, rest = float((items * arrived).sum()), float((items * missing).sum())
        variance = float((items * arrived * missing).sum())
        excess = mean - draws
        bernstein = excess**2 / (2 * (variance + abs(excess) / 3)) if excess else 0.0
        bounds = bernstein, _chernoff(draws, mean), _chernoff(population - draws, rest)
        return excess, max(bounds)

    bottom = -math.log(population) - 45.0  # expected arrivals below 1e-19
    top = math.log(math.log(population) + 60.0) - float(log_weights[-1])  # missing below 1e-26
    middle, _ = _bisected(bottom, top, lambda u: state(u)[0] < 0)
    low, _ = _bisected(bottom, middle, lambda u: state(u)[1] > IMPROBABLE)
    _, high = _bisected(middle, top, lambda u: state(u)[1] < IMPROBABLE)
    return low, high


def _chernoff(count: int, mean: float) -> float:
    """Chernoff's bound on -log P(a count of mean mu reaches c): c log(c/mu) - c + mu."""
    return count * math.log(count / mean) - count + mean


def _bisected(low: float, high: float, left: Callable[[float], bool]) -> tuple[float, float]:
    """A bracket around the point where `left` turns from true to false."""
    while high - low > BRACKET:
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) else (low, middle)
    return low, high


def _others_at_most(most: int, arrived: Floats, items: Floats, population: int) -> Floats:
    """For each item: P(at most `most` of all other items have arrived), p_j = `arrived`.

    Formula: the count of arrivals is Poisson-binomial with G(z) = prod_j (1 + p_j (z - 1)); its
    probabilities are a discrete Fourier transform of G on M points of the unit circle, M beyond
    the span of probable counts (Bernstein's bound at 1e-15), and item i is left out by dividing
    by its factor, which is never 0 there since M is odd. The sum over the counts from the first
    probable one to `most` is a Dirichlet kernel. Points where |G| < 1e-17 are skipped.
    Source: Y. Hong, On computing the distribution function for the Poisson binomial
    distribution, Comput. Stat. Data Anal. 59 (2013); window and left-out item are ours.
    """
    mean = float((items * arrived).sum())
    variance = float((items * arrived * (1 - arrived)).sum())
    reach = 12 + math.sqrt(132 + 69 * variance)  # x with x^2 / (2 (variance + x/3)) = 34.5
    first = max(0, int(mean - reach) - 1)
    last = min(population, int(mean + reach) + 2)
    if most < first:
        return np.zeros_like(arrived)
    if most >= last:
        return np.ones_like(arrived)
    num_points = (last - first + 1) | 1
    angle = 2 * math.pi / num_points * np.arange(1, num_points // 2 + 1)
    dip = 2 * np.sin(angle / 2) ** 2  # 1 - cos
    seen = (variance - 0.25) * dip < INVISIBLE
    angle, dip = angle[seen], dip[seen]
    p = arrived[:, np.newaxis]
    real, imag = 1 - p * dip, p * np.sin(angle)
    log_size = items @ np.log1p(-2 * p * (1 - p) * dip) / 2
    turn = items @ np.arctan2(imag, real) - (first + most) / 2 * angle
    span = most - first + 1
    kernel = np.sin(span * angle / 2) / np.sin(angle / 2)
    wave = np.exp(log_size + 1j * turn) * kernel
    result = (span + 2 * (wave / (real + 1j * imag)).real.sum(axis=1)) / num_points
    return np.where(result > ROUNDING, result, 0.0)
