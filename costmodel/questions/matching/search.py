"""The pair of sizes whose total parameters and FLOPs come nearest to two wanted numbers.

Both numbers, P and F, never fall when a size grows. The distance is max(|ln p|, |ln f|), with
p = P / wanted P and f = F / wanted F. Of the sizes x and y: at one y the distance is least where
p f passes 1, at one of the two x around that. Along those points f / p only rises with y, or only
falls, by which size weighs more on F. So a bisection over y, with one over x inside it, finds where
f = p; from there the search walks both ways over y until a bound says that nothing further can be
nearer. The ends of the range of x are tried as well. The walk makes the answer the nearest pair
of integers, not real numbers rounded; `tests/questions/test_match.py` tries every pair beside it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from costmodel.questions.matching.sizes import Size

Point: TypeAlias = tuple[int, int]
"""The values of x and y."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What is matched: parameters without embeddings, and FLOPs per token."""

    parameters: int
    flops: int

    def logs(self, wanted: "Weighed") -> tuple[float, float]:
        """Ln p and ln f: how far parameters and FLOPs are from those wanted."""
        return (
            math.log(self.parameters / wanted.parameters),
            math.log(self.flops / wanted.flops),
        )

    def distance(self, wanted: "Weighed") -> float:
        """The larger of |ln p| and |ln f|."""
        return max(map(abs, self.logs(wanted)))


Weigh: TypeAlias = Callable[[int, int], Weighed | None]
"""Weighs a candidate by x and y; None where a rule refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The best candidate; `enclosed` where f < p and f > p both occur along p f = 1."""

    point: Point
    distance: float
    enclosed: bool


def nearest(weigh: Weigh, x: Size, y: Size, wanted: Weighed) -> Nearest | None:
    """The candidate at the least distance from `wanted`; None where every candidate is refused.

    x is the size that weighs more on parameters, y the one that weighs more on FLOPs.
    """
    search = _Search(weigh=weigh, x=x, y=y, wanted=wanted, rises=True)
    if not search.xs or not search.ys:
        return None
    if search.x_is_finer():
        return search.run()
    swapped = _Search(weigh=lambda a, b: weigh(b, a), x=y, y=x, wanted=wanted, rises=False)
    found = swapped.run()
    return replace(found, point=(found.point[1], found.point[0]))


@dataclass(slots=True, kw_only=True)
class _Search:
    """Indices i and j count steps: x = i * x.step, y = j * y.step.

    The walk goes over y, and is short where x is the size in finer steps.
    """

    weigh: Weigh
    x: Size
    y: Size
    wanted: Weighed
    rises: bool  # f / p, with y, along p f = 1
    xs: range = field(init=False)  # the steps that no rule refuses
    ys: range = field(init=False)
    best: tuple[float, Point] = (math.inf, (0, 0))

    def __post_init__(self) -> None:
        self.xs = _accepted(self.x, lambda i: self._at(i, _mild(self.y)) is not None)
        self.ys = _accepted(self.y, lambda j: self._at(_mild(self.x), j) is not None)

    def x_is_finer(self) -> bool:
        """Whether a step of x changes less than a step of y, about where f = p."""
        j = min(self._crossing(self._curve()), self.ys[-1])
        i = min(self._x_of(j), self.xs[-1])
        here = self._at(i, j)
        along_x = self._at(i + 1, j) or self._at(i - 1, j)
        along_y = self._at(i, j + 1) or self._at(i, j - 1)
        if here is None or along_x is None or along_y is None:
            return True
        return along_x.distance(here) <= along_y.distance(here)

    def run(self) -> Nearest:
        for i in (self.xs[0], self.xs[-1]):
            j = self._y_of(i)
            for each in (j - 1, j):
                self._consider(i, each)
        curve = self._curve()
        crossing = self._crossing(curve)
        self._walk(range(crossing, curve.stop), more_flops=self.rises)
        self._walk(range(crossing - 1, curve.start - 1, -1), more_flops=not self.rises)
        distance, point = self.best
        assert math.isfinite(distance), "some candidate is accepted"
        enclosed = curve.start < crossing < curve.stop
        return Nearest(point=point, distance=distance, enclosed=enclosed)

    def _curve(self) -> range:
        """The y at which p f >= 1 for the largest x and p f < 1 for the smallest."""
        return range(self._y_of(self.xs[-1]), self._y_of(self.xs[0]))

    def _crossing(self, curve: range) -> int:
        """The first y of the curve beyond f = p; its end if there is none."""

        def passed(j: int) -> bool:
            found = self._at(self._x_of(j), j)
            if found is None:
                return self.x.reads
            p, f = found.logs(self.wanted)
            return (f >= p) == self.rises

        return _least(passed, curve)

    def _walk(self, ys: range, *, more_flops: bool) -> None:
        """Away from f = p, on the side of more FLOPs or of fewer, until nothing can be nearer."""
        for j in ys:
            i = self._x_of(j)
            self._consider(i - 1, j)
            self._consider(i, j)
            if self._bound(i, j, more_flops=more_flops) >= self.best[0]:
                return

    def _bound(self, i: int, j: int, *, more_flops: bool) -> float:
        """A bound on the distance at this y and beyond.

        Where p f = 1, between steps i - 1 and i, the distance is ln f = -ln p on the side of more
        FLOPs, else ln p = -ln f; it rises from there, and p and f lie between those of the steps.
        """
        bounds = [-math.inf]
        below, above = self._at(i - 1, j), self._at(i, j)
        if below is not None:
            bounds.append(below.logs(self.wanted)[1 if more_flops else 0])
        if above is not None:
            bounds.append(-above.logs(self.wanted)[0 if more_flops else 1])
        return max(bounds)

    def _at(self, i: int, j: int) -> Weighed | None:
        return self.weigh(i * self.x.step, j * self.y.step)

    def _consider(self, i: int, j: int) -> None:
        found = self._at(i, j) if i in self.xs and j in self.ys else None
        if found is not None:
            point = (i * self.x.step, j * self.y.step)
            self.best = min(self.best, (found.distance(self.wanted), point))

    def _x_of(self, j: int) -> int:
        """The least x with p f >= 1 at one y; the end of its range if there is none."""
        return _least(lambda i: self._enough(i, j, refused=self.x.reads), self.xs)

    def _y_of(self, i: int) -> int:
        return _least(lambda j: self._enough(i, j, refused=self.y.reads), self.ys)

    def _enough(self, i: int, j: int, *, refused: bool) -> bool:
        """Whether p f >= 1; `refused` says on which side a refused candidate lies."""
        found = self._at(i, j)
        if found is None:
            return refused
        wanted = self.wanted
        return found.parameters * found.flops >= wanted.parameters * wanted.flops


def _mild(size: Size) -> int:
    """The step of a size with which rules refuse the least of the other."""
    return 1 if size.reads else size.most // size.step


def _accepted(size: Size, accepts: Callable[[int], bool]) -> range:
    """The steps of a size that no rule refuses: not too large, or not too small."""
    steps = range(1, size.most // size.step + 1)
    if size.reads:
        return range(1, _least(lambda step: not accepts(step), steps))
    return range(_least(accepts, steps), steps.stop)


def _least(holds: Callable[[int], bool], steps: range) -> int:
    """The first step from which on something holds; `steps.stop` if it never does."""
    low, high = steps.start, steps.stop
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
