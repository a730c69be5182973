"""A guard against runaway work that holds on any machine: processor time, by this machine's speed.

Targets in seconds belong to `make bench`. A test counts work where it can; where it cannot, it
allows four times what a quiet machine needs, times how much slower this machine is right now. What
has become quadratic takes a hundred times as long, and fails all the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import process_time

import numpy as np

FACTOR = 4.0
NOMINAL_S = 0.025  # of `fixed_work` on the machine on which quiet times are taken, the least of 20
REPEATS = 3


@contextmanager
def guarded(quiet_s: float) -> Iterator[None]:
    """Fail if the block takes far more processor time than `quiet_s`, a quiet machine's seconds.

    The machine is measured only where the block took longer than on a quiet one.
    """
    start = process_time()
    yield
    check(process_time() - start, quiet_s)


def check(took_s: float, quiet_s: float) -> None:
    """Fail if `took_s` is far more than `quiet_s`, both in seconds of processor time."""
    if took_s <= FACTOR * quiet_s:
        return
    slower = slowness()
    limit_s = FACTOR * quiet_s * slower
    assert took_s <= limit_s, (
        f"{took_s:.1f} s; a quiet machine needs {quiet_s:g} s, this one is {slower:.1f} times"
        f" slower, and {FACTOR:g} times that, {limit_s:.1f} s, is allowed"
    )


def slowness() -> float:
    """How many times slower than the nominal machine this one is now; never below 1."""
    return max(1.0, min(fixed_work() for _ in range(REPEATS)) / NOMINAL_S)


def fixed_work() -> float:
    """Seconds of processor time of work that never changes: plain Python, then NumPy."""
    start = process_time()
    table: dict[int, str] = {}
    for number in range(60_000):
        table[number % 1000] = f"{number * number}"
    values = np.arange(1.0, 200_001.0)
    for _ in range(10):
        values = np.sqrt(values * values + 1.0)
    assert len(table) == 1000
    assert values[0] > 1.0
    return process_time() - start
