"""Which numbers of kernels have spreads of their own."""

from types import SimpleNamespace
from typing import cast

from profiler.calibrate.leaves.fit_file import classes_of
from profiler.calibrate.leaves.points import Point


def points(leaf: str, launches: int, shapes: list[int]) -> list[Point]:
    """A point of one leaf for each shape."""
    operator = SimpleNamespace(leaf=leaf)
    return [
        cast("Point", SimpleNamespace(operators=(operator,), launches=(launches,), shape=shape))
        for shape in shapes
    ]


def test_a_number_of_kernels_needs_six_points_of_three_shapes_and_another_number() -> None:
    assert classes_of(
        [
            *points("core", 1, [1, 1, 2, 2, 3, 3]),
            *points("core", 2, [4, 4, 4, 5, 5, 5]),  # two shapes
            *points("core", 8, [6, 7, 8, 9, 10]),  # five points
            *points("norm", 1, [1, 2, 3, 4, 5, 6]),  # never another number
        ]
    ) == {"core in 1"}
