"""The Pareto front against its definition, applied to every pair of points."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dashboard.pages.tradeoffs.pareto import pareto_front

POINTS = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), max_size=40)


def unbeaten(points: list[tuple[int, int]]) -> list[bool]:
    """The definition: no other point is at least as good on both axes and better on one."""
    return [not any(a <= x and b <= y and (a < x or b < y) for a, b in points) for x, y in points]


@given(POINTS)
def test_the_front_is_what_no_pair_of_points_refutes(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, dtype=np.float64).reshape(-1, 2).T
    assert pareto_front(x, y).tolist() == unbeaten(points)


def test_a_known_front() -> None:
    x = np.array([1.0, 2.0, 3.0, 2.0, 1.0, 1.0])
    y = np.array([5.0, 3.0, 3.0, 3.0, 5.0, 6.0])
    # (3, 3) is beaten by (2, 3), (1, 6) by (1, 5); the doubles of (1, 5) and (2, 3) both stand.
    assert pareto_front(x, y).tolist() == [True, True, False, True, True, False]
