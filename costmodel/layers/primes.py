"""Consecutive primes: the rows that the columns of a hashed table have."""

from functools import lru_cache
from math import isqrt, log

import numpy as np

SLACK = 1.2  # a first guess of the span, over the mean distance of primes, which is log p


@lru_cache(maxsize=256)
def consecutive_primes(least: int, count: int) -> tuple[int, ...]:
    """The `count` smallest primes that are not below `least`, in order."""
    found: list[int] = []
    start = max(least, 2)
    while len(found) < count:
        span = int(SLACK * (count - len(found) + 8) * log(start + 2))
        found += _primes_from(start, span)
        start += span
    return tuple(found[:count])


def _primes_from(start: int, span: int) -> list[int]:
    """The primes of start, ..., start + span - 1: a segment of the sieve of Eratosthenes."""
    is_prime = np.ones(span, dtype=bool)
    for factor in _primes_below(isqrt(start + span - 1) + 1):
        first = max(factor * factor, -(-start // factor) * factor)
        is_prime[first - start :: factor] = False
    return [start + int(place) for place in np.flatnonzero(is_prime)]


@lru_cache(maxsize=16)
def _primes_below(end: int) -> tuple[int, ...]:
    return () if end <= 2 else tuple(_primes_from(2, end - 2))  # noqa: PLR2004 - the first prime
