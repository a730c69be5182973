"""Distinct rows of a shared table, against the product row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.routing.union import expected_union


def row_by_row(rows: int, windows: list[tuple[int, int]], distinct: list[float]) -> float:
    total = 0.0
    for row in range(rows):
        missed = 1.0
        for (start, length), touched in zip(windows, distinct, strict=True):
            if (row - start) % rows < length:
                missed *= 1 - touched / length
        total += 1 - missed
    return total


@given(data=st.data(), rows=st.integers(1, 60), layers=st.integers(0, 5))
def test_equals_the_product_row_by_row(data: st.DataObject, rows: int, layers: int) -> None:
    windows = [
        (data.draw(st.integers(0, 2 * rows)), data.draw(st.integers(1, rows)))
        for _ in range(layers)
    ]
    distinct = [data.draw(st.floats(0, length)) for _, length in windows]
    union = expected_union(rows, windows, distinct)
    assert union == pytest.approx(row_by_row(rows, windows, distinct), rel=1e-12, abs=1e-12)
    shared = data.draw(st.floats(0, min((length for _, length in windows), default=1)))
    alike = row_by_row(rows, windows, [shared] * layers)
    assert expected_union(rows, windows, shared) == pytest.approx(alike, rel=1e-12, abs=1e-12)


def test_windows_that_wrap_share_rows_by_hand() -> None:
    # rows 8, 9, 0, 1 and 0, 1, 2, 3: half of each touched, two rows in common
    assert expected_union(10, [(8, 4), (0, 4)], 2.0) == 2 * 0.75 + 4 * 0.5


def test_windows_apart_add_up_and_full_ones_fill_the_ring() -> None:
    assert expected_union(10**9, [(0, 10**6), (5 * 10**8, 10**6)], 1e-3) == pytest.approx(2e-3)
    assert expected_union(12, [(5, 12), (7, 12)], [12.0, 3.0]) == 12


def test_arrays_equal_single_values_to_the_bit() -> None:
    windows = [(start * 977 % 5000, 1500) for start in range(12)]
    distinct = np.linspace(0.0, 1500.0, 101).reshape(1, 101)
    union = expected_union(5000, windows, distinct)
    assert isinstance(union, np.ndarray)
    assert union.tolist() == [[expected_union(5000, windows, d) for d in distinct[0].tolist()]]
    assert union.shape == (1, 101)
    mixed = expected_union(5000, windows[:2], [distinct, 700.0])
    assert isinstance(mixed, np.ndarray)
    assert mixed.shape == (1, 101)


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(InputError, match="length=11: must lie between 1 and rows_total=10"):
        expected_union(10, [(0, 11)], 1.0)
    with pytest.raises(InputError, match="distinct: holds 1 layers; windows hold 2"):
        expected_union(10, [(0, 5), (5, 5)], [1.0])
