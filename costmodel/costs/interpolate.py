"""Interpolation of measured times, linear in log-log, over one quantity or over two.

Beyond the last point on either side the time is proportional to the quantity: the rate of the last
point holds on. No time is less than the shortest one that was measured: a kernel takes some time
however little it does. Numbers and NumPy arrays give the same times to a few units in the last
place.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.layers.numbers import Number, larger

Floats: TypeAlias = NDArray[np.float64]


def log(value: Number) -> float | Floats:
    """The natural logarithm; arrays may hold Python integers of any size."""
    if isinstance(value, np.ndarray):
        logs: Floats = np.log(value.astype(np.float64))
        return logs
    return math.log(value)


def _exp(value: Number) -> Number:
    if isinstance(value, np.ndarray):
        powers: Floats = np.exp(value)
        return powers
    return math.exp(value)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _rising(groups: Iterable[list[float]]) -> list[float]:
    """The means of groups of numbers, changed as little as possible so that none is below the last.

    Isotonic regression by pooling neighbours that fall (Ayer et al. 1955): the least squares over
    all numbers among sequences that do not fall.
    """
    pools: list[tuple[list[float], int]] = []  # the numbers of some groups, and how many groups
    for group in groups:
        numbers, size = list(group), 1
        while pools and _mean(pools[-1][0]) > _mean(numbers):
            before, groups_before = pools.pop()
            numbers, size = before + numbers, groups_before + size
        pools.append((numbers, size))
    return [mean for numbers, size in pools for mean in [_mean(numbers)] * size]


def rising_keys(
    points: Iterable[tuple[float, float, float]],
) -> list[tuple[float, float, float]]:
    """Points (key, x, t) of a full grid, changed so that t does not fall as the key grows.

    At each x, neighbours that fall share their geometric mean (`_rising` of log t).
    """
    by_x: dict[float, dict[float, float]] = {}
    for key, x, t in points:
        by_x.setdefault(x, {})[key] = math.log(t)
    raised: list[tuple[float, float, float]] = []
    for x, by_key in by_x.items():
        keys = sorted(by_key)
        logs = _rising([by_key[key]] for key in keys)
        raised += [(key, x, math.exp(log_t)) for key, log_t in zip(keys, logs, strict=True)]
    return raised


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A time t over one quantity x: log t over log x, through at least one point."""

    x: tuple[float, ...]  # log x, ascending
    y: tuple[float, ...]  # log t
    arrays: tuple[Floats, Floats] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrays", (np.array(self.x), np.array(self.y)))

    @classmethod
    def through(cls, points: Iterable[tuple[float, float]], *, rising: bool = False) -> "Line":
        """The line through points (x, t); points of equal x become their geometric mean.

        Args:
            points: x and t, in any order.
            rising: Whether t must not fall as x grows: the points are then replaced by the rising
                ones that are nearest to them in log t.
        """
        by_x: dict[float, list[float]] = {}
        for x, t in points:
            by_x.setdefault(math.log(x), []).append(math.log(t))
        xs = sorted(by_x)
        ys = _rising(by_x[x] for x in xs) if rising else [_mean(by_x[x]) for x in xs]
        return cls(x=tuple(xs), y=tuple(ys))

    def log_at(self, x: float | Floats) -> float | Floats:
        """Log t at `x`, which is a log x."""
        xs, ys = self.x, self.y
        if isinstance(x, np.ndarray):
            within: Floats = np.interp(x, *self.arrays)
            return within + (x - np.clip(x, xs[0], xs[-1]))
        if x <= xs[0]:
            return ys[0] + (x - xs[0])
        if x >= xs[-1]:
            return ys[-1] + (x - xs[-1])
        i = bisect_right(xs, x)
        return ys[i - 1] + (ys[i] - ys[i - 1]) / (xs[i] - xs[i - 1]) * (x - xs[i - 1])

    def at(self, x: Number) -> Number:
        """The time t at x."""
        return _exp(larger(self.log_at(log(x)), min(self.y)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A time over two quantities, a key and x: a line over x at each measured key.

    Between two keys log t is linear in log key; beyond the last key t is proportional to the key.
    """

    keys: tuple[float, ...]  # log key, ascending
    lines: tuple[Line, ...]  # one for each key
    shortest: float  # log of the shortest measured time
    key_array: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_array", np.array(self.keys))

    @classmethod
    def through(
        cls, points: Iterable[tuple[float, float, float]], *, rising: bool = False
    ) -> "Sheet":
        """The sheet through points (key, x, t); `rising`: t must not fall as x grows."""
        by_key: dict[float, list[tuple[float, float]]] = {}
        for key, x, t in points:
            by_key.setdefault(math.log(key), []).append((x, t))
        keys = sorted(by_key)
        lines = tuple(Line.through(by_key[key], rising=rising) for key in keys)
        return cls(keys=tuple(keys), lines=lines, shortest=min(min(line.y) for line in lines))

    def at(self, key: Number, x: Number) -> Number:
        """The time t at key and x, which broadcast against each other."""
        log_key, log_x = log(key), log(x)
        if isinstance(log_key, np.ndarray):
            log_t: Number = self._log_at_arrays(log_key, log_x)
        else:
            log_t = self._log_at(log_key, log_x)
        return _exp(larger(log_t, self.shortest))

    def _log_at(self, log_key: float, log_x: float | Floats) -> float | Floats:
        keys, lines = self.keys, self.lines
        if log_key <= keys[0]:
            return lines[0].log_at(log_x) + (log_key - keys[0])
        if log_key >= keys[-1]:
            return lines[-1].log_at(log_x) + (log_key - keys[-1])
        i = bisect_right(keys, log_key)
        low, high = lines[i - 1].log_at(log_x), lines[i].log_at(log_x)
        return low + (high - low) / (keys[i] - keys[i - 1]) * (log_key - keys[i - 1])

    def _log_at_arrays(self, log_key: Floats, log_x: float | Floats) -> Floats:
        """As `_log_at`: evaluates all lines, and at each place takes the two around the key."""
        by_line = [np.asarray(line.log_at(log_x)) for line in self.lines]
        keys = self.key_array
        within = np.clip(log_key, keys[0], keys[-1])
        beyond = log_key - within
        if len(by_line) == 1:
            only: Floats = by_line[0] + beyond
            return only
        upper = np.clip(np.searchsorted(keys, log_key, side="right"), 1, len(by_line) - 1)
        start = keys[upper - 1]
        share = (within - start) / (keys[upper] - start)
        low, high = _taken(by_line, upper - 1), _taken(by_line, upper)
        log_t: Floats = low + (high - low) * share + beyond
        return log_t


def _taken(by_line: list[Any], index: NDArray[np.intp]) -> Floats:
    """At each place the value of the line whose number stands there in `index`."""
    shape = np.broadcast_shapes(index.shape, by_line[0].shape)
    values: Floats = np.empty(shape)
    line_numbers = np.broadcast_to(index, shape)
    for i in np.unique(index).tolist():
        np.copyto(values, by_line[i], where=line_numbers == i)
    return values
