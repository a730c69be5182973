"""Spreads of times: which numbers of kernels have their own, and what share steps show."""

from math import log
from types import SimpleNamespace
from typing import cast

import pytest

from costmodel.costs.intervals import NORMAL
from profiler.calibrate.leaves.fit_file import LAYERS, HeldOut, classes_of, step_share_of
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


def test_steps_of_left_out_shapes_show_a_share_of_their_leaves_spreads() -> None:
    """16 s of a leaf that took 1.05 times as long, and 4 s of the embedding, as predicted.

    The step is off by ln(20.8 / 20); its leaves' spreads say 20 % of 16 s and 50 % of 4 s.
    """

    def held(leaf: str, seconds: float, ratio: float) -> HeldOut:
        (point,) = points(leaf, 1, [7])
        stated = SimpleNamespace(**vars(point), leaf=leaf, measured_s=seconds * ratio)
        error = log(ratio)
        return HeldOut(point=cast("Point", stated), model_error=error, error=error, distance=0.0)

    found = step_share_of(
        [held("core", 16 / LAYERS, 1.05), held("embed", 4.0, 1.0)],
        {"": 0.9, "core": 0.2, "embed": 0.5},
    )
    spread = (3.2**2 + 2.0**2) ** 0.5 / 20
    assert found == pytest.approx(log(20.8 / 20) / (NORMAL * spread))
