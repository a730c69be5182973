"""The pair of sizes that comes nearest to a wanted budget, found by branch and bound.

Parameters, FLOPs and HBM bytes never fall when a size grows. So all pairs of a box have budgets
between those of its lowest and its highest pair, and these two bound how near any pair of the box
can come. Boxes are cut in two, the most promising first, until none can hold a nearer pair than the
best one known. Nothing else is assumed of the two numbers that are set equal: the answer is the
nearest of all pairs.
`tests/questions/test_match.py` tries every pair beside it.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from typing import Literal, NamedTuple, TypeAlias

from costmodel.layers.base import Size

Pair: TypeAlias = tuple[int, int]
"""Two values, one of each size; those of a box count steps of the size."""
Distance: TypeAlias = tuple[float, float]
"""|ln p| and |ln f|, p and f being the two numbers over those wanted; the larger one first."""
Equal: TypeAlias = Literal["parameters", "flops", "bytes"]
"""A number that a match sets equal, as options name it."""

USUAL: tuple[Equal, Equal] = ("parameters", "flops")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What is matched: parameters without embeddings, FLOPs per token, HBM bytes of a step."""

    parameters: int
    flops: int
    hbm_bytes: float | None = None  # None: not among the numbers that are set equal

    def of(self, name: Equal) -> float:
        """One of the numbers."""
        value = self.hbm_bytes if name == "bytes" else getattr(self, name)
        assert value is not None, "bytes are counted where they are set equal"
        return value

    def ratio(self, wanted: "Budget", name: Equal) -> float:
        """One of the numbers over that wanted."""
        return self.of(name) / wanted.of(name)

    def logs(self, wanted: "Budget", equal: tuple[Equal, Equal] = USUAL) -> tuple[float, float]:
        """Ln p and ln f: how far the two numbers are from those wanted."""
        first, second = (math.log(self.ratio(wanted, name)) for name in equal)
        return first, second


class Box(NamedTuple):
    """All pairs between two corners, the corners among them, counted in steps of the sizes."""

    lowest: Pair
    highest: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search over the multiples of the steps of two sizes, up to the largest of each."""

    budget: Callable[[int, int], Budget | None]  # of two values; None where a rule refuses them
    sizes: tuple[Size, Size]
    wanted: Budget
    equal: tuple[Equal, Equal] = USUAL
    budgets: dict[Pair, Budget | None] = field(default_factory=dict)  # of the pairs tried

    def nearest(self) -> Pair | None:
        """The values of the nearest pair; None if the rules refuse every pair.

        Of pairs with the same larger distance, that with the lesser other one.
        """
        best: tuple[Distance, Pair] = (math.inf, math.inf), (0, 0)
        boxes = [(self.bound(box), box) for box in self._all_pairs()]
        while boxes and boxes[0][0] <= best[0]:
            _, box = heappop(boxes)
            corners = [pair for pair in box if self._budget(pair) is not None]
            best = min(best, *((self.bound(Box(pair, pair)), pair) for pair in corners))
            for half in self._halves(box):
                heappush(boxes, (self.bound(half), half))
        return None if best[1] == (0, 0) else self._values(best[1])

    def surrounds(self) -> bool:
        """Whether the wanted budget lies between four neighbouring pairs.

        Then the steps alone keep the nearest pair from it.
        """
        boxes = self._all_pairs()
        while boxes:
            box = boxes.pop()
            if self.bound(box) > (0, 0):
                continue
            if max(_widths(box)) <= 1:
                return True
            boxes += self._halves(box, shared=1)
        return False

    def bound(self, box: Box) -> Distance:
        """A lower bound of the distance of every pair in a box; exact if the box holds one pair."""
        off = [0.0, 0.0]
        for corner, sign in zip(box, (1, -1), strict=True):
            budget = self._budget(corner)
            if budget is not None:
                logs = budget.logs(self.wanted, self.equal)
                off = [max(a, sign * b) for a, b in zip(off, logs, strict=True)]
        return max(off), min(off)

    def _halves(self, box: Box, shared: int = 0) -> list[Box]:
        """A box cut in two across one size; `shared` values of that size are in both halves."""
        if max(_widths(box)) <= shared:
            return []
        axis = self._axis(box, shared)
        middle = (box.lowest[axis] + box.highest[axis]) // 2
        first = Box(box.lowest, _moved(box.highest, axis, middle))
        second = Box(_moved(box.lowest, axis, middle + 1 - shared), box.highest)
        return [*self._accepted(first), *self._accepted(second)]

    def _axis(self, box: Box, shared: int) -> int:
        """The size along which the budget changes more within a box, or else that of more steps."""
        widths = _widths(box)
        lowest, highest = map(self._budget, box)
        between = self._budget((box.highest[0], box.lowest[1]))
        if min(widths) > shared and lowest and highest and between:
            along_first = max(highest.logs(between, self.equal))
            return int(along_first > max(between.logs(lowest, self.equal)))
        return int(widths[1] > widths[0])

    def _all_pairs(self) -> list[Box]:
        first, second = (int(size.most) // size.step for size in self.sizes)
        return self._accepted(Box((1, 1), (first, second)))

    def _accepted(self, box: Box) -> list[Box]:
        """The box around the pairs that no rule refuses; none if all are refused.

        Along one size these are a range, widest where the other size is largest, or smallest if
        it is one that says how many are chosen.
        """
        ends = [*zip(*box, strict=True)]
        first, second = (
            low if size.chosen else high for size, (low, high) in zip(self.sizes, ends, strict=True)
        )
        widest = first, second
        if self._budget(widest) is None:
            return []
        for axis, size in enumerate(self.sizes):
            low, high = ends[axis]
            steps = range(high, low - 1, -1) if size.chosen else range(low, high + 1)
            accepts = partial(self._accepts, widest, axis)
            if not accepts(steps[0]):
                steps = steps[bisect_left(steps, x=True, key=accepts) :]
            ends[axis] = min(steps[0], steps[-1]), max(steps[0], steps[-1])
        return [Box(*zip(*ends, strict=True))]

    def _accepts(self, pair: Pair, axis: int, value: int) -> bool:
        return self._budget(_moved(pair, axis, value)) is not None

    def _budget(self, pair: Pair) -> Budget | None:
        if pair not in self.budgets:
            self.budgets[pair] = self.budget(*self._values(pair))
        return self.budgets[pair]

    def _values(self, pair: Pair) -> Pair:
        return pair[0] * self.sizes[0].step, pair[1] * self.sizes[1].step


def _widths(box: Box) -> Pair:
    return box.highest[0] - box.lowest[0], box.highest[1] - box.lowest[1]


def _moved(pair: Pair, axis: int, value: int) -> Pair:
    """A pair with another value of one size."""
    return (value, pair[1]) if axis == 0 else (pair[0], value)
