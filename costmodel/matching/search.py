"""The pair of sizes whose total parameters and FLOPs come nearest to two wanted numbers.

Both numbers, P and F, never fall when a size grows. Of the two sizes x is the one in finer steps.
The distance is max(|ln p|, |ln f|), with p = P / wanted P and f = F / wanted F. At one y it is least
where p f passes 1, at one of the two x around that. Along those points f / p only rises with y, or
only falls, by which size weighs more on F. So a bisection over y, with one over x inside it, finds
where f = p; from there the search walks both ways over y until a bound says that nothing further
can be nearer. Sizes on an end of their range are tried as well. The walk makes the answer the
nearest pair of integers, not real numbers rounded; `tests/test_match.py` tries every pair beside it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from costmodel.matching.sizes import Size

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


def nearest(weigh: Weigh, x: Size, y: Size, wanted: Weighed, *, rises: bool) -> Nearest | None:
    """The candidate at the least distance from `wanted`; None where every candidate is refused.

    `rises` says that y weighs more on F than x does, so that f / p rises with y where p f = 1.
    """
    return _Search(weigh=weigh, x=x, y=y, wanted=wanted, rises=rises).run()


@dataclass(slots=True, kw_only=True)
class _Search:
    """Indices i and j count steps: x = i * x.step, y = j * y.step."""

    weigh: Weigh
    x: Size
    y: Size
    wanted: Weighed
    rises: bool
    best: tuple[float, Point] | None = None

    def run(self) -> Nearest | None:
        xs = _accepted(self.x, lambda i: self._at(i, self._mild(self.y)) is not None)
        ys = _accepted(self.y, lambda j: self._at(self._mild(self.x), j) is not None)
        if not xs or not ys:
            return None
        for j in (ys[0], ys[-1]):
            self._try(self._x_of(j, xs), j, xs)
        for i in (xs[0], xs[-1]):
            j = self._y_of(i, ys)
            for each in (j - 1, j):
                if each in ys:
                    self._consider(i, each)
        enclosed = self._walk(xs, ys)
        if self.best is None:
            return None
        distance, point = self.best
        return Nearest(point=point, distance=distance, enclosed=enclosed)

    def _walk(self, xs: range, ys: range) -> bool:
        """Both ways from where f = p, along p f = 1; whether f < p and f > p both occur there."""
        first = self._y_of(xs[-1], ys)  # below, p f < 1 at every x
        last = self._y_of(xs[0], ys)  # from here on, p f >= 1 at every x
        curve = range(first, min(last + 1, ys.stop))

        def passed(j: int) -> bool:
            found = self._at(self._x_of(j, xs), j)
            if found is None:
                return self.x.reads
            p, f = found.logs(self.wanted)
            return (f >= p) == self.rises

        crossing = _least(passed, curve)
        for js, up in (
            (range(crossing, curve.stop), True),
            (range(crossing - 1, first - 1, -1), False),
        ):
            for j in js:
                i = self._x_of(j, xs)
                self._try(i, j, xs)
                bound = self._bound(i, j, more_flops=up == self.rises)
                if self.best is not None and bound >= self.best[0]:
                    break
        return first < crossing < curve.stop

    def _bound(self, i: int, j: int, *, more_flops: bool) -> float:
        """A bound on the distance at this y and beyond, going where f / p rises, or where it falls.

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

    def _try(self, i: int, j: int, xs: range) -> None:
        """The candidates on both sides of the x where p f passes 1."""
        for each in (i - 1, i):
            if each in xs:
                self._consider(each, j)

    def _consider(self, i: int, j: int) -> None:
        found = self._at(i, j)
        if found is not None:
            candidate = (found.distance(self.wanted), (i * self.x.step, j * self.y.step))
            self.best = candidate if self.best is None else min(self.best, candidate)

    def _x_of(self, j: int, xs: range) -> int:
        """The least x with p f >= 1 at one y; `xs.stop` if there is none."""
        return _least(lambda i: self._enough(i, j, refused=self.x.reads), xs)

    def _y_of(self, i: int, ys: range) -> int:
        return _least(lambda j: self._enough(i, j, refused=self.y.reads), ys)

    def _enough(self, i: int, j: int, *, refused: bool) -> bool:
        """Whether p f >= 1; `refused` says on which side a refused candidate lies."""
        found = self._at(i, j)
        if found is None:
            return refused
        wanted = self.wanted
        return found.parameters * found.flops >= wanted.parameters * wanted.flops

    @staticmethod
    def _mild(size: Size) -> int:
        """The step of a size that makes rules refuse the least of the other."""
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
