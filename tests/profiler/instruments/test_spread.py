"""Quartiles as NumPy interpolates them, and columns that keep their gaps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.recordings.measured import ExactColumn, Spread, SpreadColumn
from profiler.instruments.spread import exact_column, quartiles, spread, spread_column

readings = st.lists(st.floats(0, 1e12, allow_subnormal=False), min_size=1, max_size=30)


@given(readings)
def test_quartiles_are_numpys(values: list[float]) -> None:
    want = np.percentile(values, [25, 50, 75], method="linear")
    assert quartiles(values) == pytest.approx(want.tolist(), rel=1e-12, abs=1e-300)


def test_quartiles_of_five_are_the_second_third_and_fourth() -> None:
    assert quartiles([50.0, 10.0, 30.0, 20.0, 40.0]) == (20.0, 30.0, 40.0)
    assert quartiles([1.0, 2.0]) == (1.25, 1.5, 1.75)
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


@given(st.floats(1e-9, 1e12), st.integers(1, 12), st.lists(st.integers(0, 2), max_size=3))
def test_equal_readings_make_a_spread_whatever_interpolation_rounds(
    value: float, times: int, ulps: list[int]
) -> None:
    values = [value] * times + [value + each * float(np.spacing(value)) for each in ulps]
    low, middle, high = quartiles(values)
    assert low <= middle <= high
    assert spread(values, "cuda_event").repeats == len(values)


def test_a_spread_says_how_often_and_by_what() -> None:
    assert spread([3.0, 1.0, 2.0], "wall_clock") == Spread(
        median=2.0, q1=1.5, q3=2.5, repeats=3, source="wall_clock"
    )


def test_times_keep_six_digits_and_those_of_leaves_five() -> None:
    assert spread([0.000123456789], "cuda_event").median == 0.000123457
    column = spread_column(("a",), [{"a": 0.000123456789}], "torch_profiler")
    assert column.median == column.q1 == column.q3 == (0.00012346,)


def test_counts_stay_exact_and_halves_between_them_become_whole() -> None:
    rounded = spread([123456787, 123456789, 123456790], "hardware_counter")
    assert (rounded.q1, rounded.median, rounded.q3) == (123456788, 123456789, 123456790)
    column = spread_column(("a",), [{"a": 123456787}, {"a": 123456790}], "hardware_counter")
    assert (column.q1, column.median, column.q3) == ((123456788,), (123456788,), (123456789,))
    assert spread([2**53 - 1], "hardware_counter").median == 2**53 - 1


@given(st.integers(0, 2**45), st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_close_counts_keep_their_order(value: int, above: list[int]) -> None:
    values = [float(value + each) for each in above]
    assert spread(values, "hardware_counter").repeats == len(values)
    assert spread_column(("a",), [{"a": each} for each in values], "ncu").repeats == len(values)


def test_a_column_has_a_gap_where_nothing_was_read() -> None:
    column = spread_column(
        ("a", "b", "c"),
        [{"a": 1.0, "c": 5.0}, {"a": 3.0, "c": 5.0}, {"a": 2.0}],
        "torch_profiler",
    )
    assert column == SpreadColumn(
        median=(2.0, None, 5.0),
        q1=(1.5, None, 5.0),
        q3=(2.5, None, 5.0),
        repeats=3,
        source="torch_profiler",
    )


def test_counts_stand_by_path_and_zero_is_no_gap() -> None:
    assert exact_column(("a", "b", "c"), {"c": 0, "a": 2**60}, "choices") == ExactColumn(
        values=(2**60, None, 0), source="choices"
    )
