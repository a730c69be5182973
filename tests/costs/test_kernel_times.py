"""Measured curves: on their points, between them and beyond, worked out by hand; arrays alike."""

from collections.abc import Callable
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from costmodel.costs.interpolate import Line, Sheet
from costmodel.costs.kernel_times import Curves
from costmodel.errors import InputError
from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, Shape, TopK
from costmodel.layers.numbers import Number
from tests.costs.calibrations import US, attention, calibration, curves, point

HAND = curves()
Array = NDArray[Any]
HEADS: dict[str, Any] = {"heads": 4, "kv_heads": 2, "head_dim": 8}


def us(seconds: Number) -> object:
    """The same in microseconds, to rounding."""
    return pytest.approx(seconds * 1e6, rel=1e-9)


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        (10**4, 1),
        (10**6, 10),
        (10**5, sqrt(10)),  # the middle of the line
        (10**4 * 4, 2),  # slope 1/2: four times the bytes, twice the time
        (10**8, 1000),  # beyond the end at its rate
        (10**3, 1),  # never less than the shortest
        (0, 0),
    ],
)
def test_moving_bytes(moved: int, expected: float) -> None:
    assert us(HAND.move_s(moved, 1)) == expected


def test_each_kernel_moves_its_part_of_the_bytes() -> None:
    assert us(HAND.move_s(10**6, 4)) == 4 * 5  # 250,000 bytes each: half the time of a million
    assert us(HAND.move_s(10**4, 7)) == 7 * 1  # the shortest time, each


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Gemm(m=1, n=10, k=100), 1),
        (Gemm(m=100, n=1000, k=100), 40),
        (Gemm(m=4, n=10, k=100), 2),  # along m
        (Gemm(m=1, n=100, k=100), 2),  # weights between 1 and 4 us
        (Gemm(m=4, n=50, k=200), 4),  # both; only n k counts
        (Gemm(m=1000, n=10, k=100), 100),  # beyond in m
        (Gemm(m=1, n=10**4, k=100), 40),  # beyond in weights
        (Gemm(m=100, n=5, k=100), 5),  # half the smallest weight
        (Gemm(m=1, n=5, k=10), 1),  # the shortest
        (Gemm(m=4, n=10, k=100, calls=3), 6),
        (Grouped(groups=1, rows=1, n=100, k=100), 2),
        (Grouped(groups=100.0, rows=10**4, n=100, k=100), 200),
        (Grouped(groups=25.0, rows=100, n=100, k=100), 20),  # 4 rows and 250,000 weights: 2 x 5 x 2
        (Grouped(groups=50, rows=50, n=200, k=100), 20),  # the same weights in all
        (Rows(reads=400, row_bytes=100), 6),
        (Rows(reads=100, row_bytes=1000), 6),  # between 3 and 12
        (Rows(reads=10**4, row_bytes=10**4), 1200),  # one point: beyond it at its rate
        (TopK(rows=4, width=100, chosen=8), 12),
        (TopK(rows=1, width=1000, chosen=8), 12),  # between 6 and 24
        (TopK(rows=1, width=100, chosen=17), 9),  # 32 is nearer in ratio than 8
        (TopK(rows=1, width=100, chosen=15), 6),  # and 8 here
        (TopK(rows=1, width=10, chosen=8, calls=2), 12),  # the shortest, twice
        (Attend(batch=1, queries=1, keys=100, **HEADS), 2),
        (Attend(batch=1, queries=1, keys=400, **HEADS), 4),
        (Attend(batch=10, queries=1, keys=100, **HEADS), 4),  # between 2 and 8
        (Attend(batch=1, queries=1, keys=100, heads=64, kv_heads=2, head_dim=8), 2),  # K and V
        (Attend(batch=1, queries=10, keys=10, **HEADS), 5),  # 55 pairs
        (Attend(batch=4, queries=10, keys=10, **HEADS), 10),
        # 10 queries over 27 keys: 10 x 17 + 55 = 225 pairs, 225/55 of the smallest
        (Attend(batch=1, queries=10, keys=27, **HEADS), 5 * sqrt(225 / 55)),
        # 19,999 pairs of one head take 48 us; reading the keys of 200 takes longer
        (Attend(batch=1, queries=2, keys=10**4, heads=1, kv_heads=200, head_dim=8), 80),
    ],
    ids=repr,
)
def test_shapes(shape: Shape, expected: float) -> None:
    assert us(HAND.shape_s(shape)) == expected


def test_launches_are_taken_off_a_point_but_not_all_of_it() -> None:
    points = [point(8, bytes=100, kernels=2), point(8, bytes=200, kernels=2)]  # 10 us each
    times = curves(move=points, launch={"graph_s": 3e-6, "eager_s": 5e-6})
    assert us(times.move_s(100, 1)) == 4
    noisy = curves(move=points, launch={"graph_s": 9e-6, "eager_s": 9e-6})
    assert us(noisy.move_s(100, 1)) == 0.5  # 5 % of the point


def test_points_of_one_size_are_averaged_in_ratio() -> None:
    line = Line.through([(10.0, 1e-6), (10.0, 4e-6)])
    assert us(line.at(10)) == 2


def test_a_window_of_the_curve_is_what_a_line_through_three_points_says() -> None:
    line = Line.through([(100, 5 * US), (1, 1 * US), (10, 1 * US)])  # in any order
    assert us(line.at(3)) == 1
    assert us(line.at(sqrt(1000))) == sqrt(5)


SHAPES: dict[str, Callable[[Any, Any], Shape]] = {
    "gemm": lambda a, b: Gemm(m=a + b, n=37, k=91),
    "grouped": lambda a, b: Grouped(groups=a / 3 + 1, rows=a * 5 + b, n=17, k=90),
    "rows": lambda a, b: Rows(reads=a * b, row_bytes=777),
    "topk": lambda a, b: TopK(rows=a * b, width=300, chosen=20),
    "decode": lambda a, b: Attend(batch=a, queries=1, keys=b + 1, **HEADS),
    "prefill": lambda a, b: Attend(batch=a, queries=7, keys=b + 7, **HEADS),
    "queries": lambda a, b: Attend(batch=3, queries=a, keys=a + b, **HEADS),
}
sizes = st.lists(st.integers(1, 10**7), min_size=1, max_size=4)


@pytest.mark.parametrize("made", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", [np.int64, object])
@given(first=sizes, second=sizes)
def test_arrays_equal_single_values(
    made: Callable[[Any, Any], Shape], dtype: type, first: list[int], second: list[int]
) -> None:
    a: Array = np.array(first, dtype=dtype).reshape(-1, 1)
    b: Array = np.array(second, dtype=dtype).reshape(1, -1)
    broadcast = np.broadcast_to(HAND.shape_s(made(a, b)), (len(first), len(second)))
    one_by_one = [[float(HAND.shape_s(made(i, j))) for j in second] for i in first]
    np.testing.assert_allclose(broadcast.astype(float), one_by_one, rtol=1e-12)


@given(moved=sizes, kernels=st.integers(1, 30))
def test_moving_arrays_equals_single_values(moved: list[int], kernels: int) -> None:
    broadcast = HAND.move_s(np.array(moved), kernels)
    one_by_one = [float(HAND.move_s(count, kernels)) for count in moved]
    np.testing.assert_allclose(np.asarray(broadcast), one_by_one, rtol=1e-12)


def test_nothing_of_an_array_takes_no_time() -> None:
    broadcast = np.asarray(HAND.move_s(np.array([[0, 10**6], [10**4, 0]]), 1))
    np.testing.assert_allclose(broadcast * 1e6, [[0, 10], [1, 0]], rtol=1e-9)


def test_one_line_makes_a_sheet() -> None:
    sheet = Sheet.through([(10, 1, US), (10, 100, 10 * US)])
    keys, xs = np.array([[10], [20], [1]]), np.array([1, 100])
    expected = [[1, 10], [2, 20], [1, 1]]
    np.testing.assert_allclose(np.asarray(sheet.at(keys, xs)) * 1e6, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 1), (10, 4), (100, 1), (1000, 8)], [1, 2, 2, 8]),  # 4 and 1 share sqrt(4)
        ([(1, 8), (10, 4), (100, 2)], [4, 4, 4]),  # all three fall: (8 x 4 x 2)^(1/3)
        ([(1, 2), (10, 4), (100, 1)], [2, 2, 2]),  # 4 and 1 share 2, which 2 is not above
        ([(1, 2), (1, 8), (10, 1)], [16 ** (1 / 3)] * 2),  # two points at 1, one at 10
        ([(1, 1), (10, 2), (100, 3)], [1, 2, 3]),
    ],
)
def test_a_rising_line_replaces_points_that_fall_by_their_mean_ratio(
    points: list[tuple[float, float]], expected: list[float]
) -> None:
    line = Line.through(((x, t * US) for x, t in points), rising=True)
    at_points = [line.at(x) for x in sorted({x for x, _ in points})]
    assert at_points == pytest.approx([t * US for t in expected], rel=1e-9)


MEASURED = st.lists(
    st.tuples(st.integers(1, 10**6), st.floats(1e-7, 1e-3)), min_size=1, max_size=20
)


@given(MEASURED, st.lists(st.integers(1, 10**7), min_size=2, max_size=20))
def test_a_rising_line_never_falls(points: list[tuple[int, float]], xs: list[int]) -> None:
    line = Line.through(points, rising=True)
    times = [line.at(x) for x in sorted(xs)]
    assert all(before <= after * (1 + 1e-12) for before, after in pairwise(times))


MONOTONE = st.sampled_from([name for name in SHAPES if name not in ("queries", "grouped")])


@given(MONOTONE, *[st.integers(1, 10**6)] * 4)
def test_more_work_takes_no_less_time(name: str, a: int, b: int, more: int, longer: int) -> None:
    before, after = SHAPES[name](a, b), SHAPES[name](a + more, b + longer)
    assert HAND.shape_s(before) <= HAND.shape_s(after) * (1 + 1e-12)


@pytest.mark.parametrize("queries", [1, 10])
def test_attention_needs_decode_and_prefill(queries: int) -> None:
    points = [attention(1, 1, queries, 100), attention(2, 2, queries, 100)]
    with pytest.raises(InputError, match=r"attention: holds points of decode .* and of prefill"):
        calibration(attention=points)


@pytest.mark.parametrize("name", ["copy_w", "gemm_w"])
def test_work_costs_power(name: str) -> None:
    power = {
        "idle_w": 100.0, "copy_w": 101.0, "copy_bytes_per_s": 1e12,
        "gemm_w": 101.0, "gemm_flops_per_s": 1e14,
    }  # fmt: skip
    assert calibration(power=power).power is not None
    with pytest.raises(InputError, match=f"{name}=100.0: does not exceed idle_w=100.0"):
        calibration(power=power | {name: 100.0})


def test_curves_are_of_their_calibration() -> None:
    made = calibration()
    times = Curves.of(made)
    assert times.calibration is made
    assert (times.graph_s, times.eager_s, times.power_limit_w) == (1e-6, 5e-6, 700.0)
