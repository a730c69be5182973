"""Sectors of a packed table, against every sector looked at, and by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.routing.sectors import expected_sectors


def sector_by_sector(rows: int, width: int, touched_share: float) -> float:
    total = 0.0
    for sector in range(-(-rows * width // 32)):
        inside = [
            row
            for row in range(rows)
            if row * width < 32 * (sector + 1) and (row + 1) * width > 32 * sector
        ]
        total += 1 - (1 - touched_share) ** len(inside)
    return total


@given(width=st.integers(1, 200), periods=st.integers(1, 3), share=st.floats(0, 1))
def test_equals_the_sum_over_sectors(width: int, periods: int, share: float) -> None:
    rows = periods * 32 // math.gcd(width, 32)  # they end at the border of a sector
    found = expected_sectors(rows, width, share * rows)
    assert found == pytest.approx(sector_by_sector(rows, width, share), rel=1e-9, abs=1e-12)


@given(width=st.integers(1, 400))
def test_a_row_far_from_others_takes_the_mean_over_its_places(width: int) -> None:
    places = [(index * width) % 32 for index in range(32)]
    mean = Fraction(sum(-(-(place + width) // 32) for place in places), 32)
    assert mean == Fraction(width + 32 - math.gcd(width, 32), 32)
    many = 2**40
    assert expected_sectors(many, width, 1.0) == pytest.approx(float(mean), rel=1e-6)


@pytest.mark.parametrize(
    ("width", "sectors"),
    [
        (8, 1),  # four rows in a sector
        (32, 1),
        (384, 12),
        (264, 9),  # 8 bytes over: eight sectors and one more
        (48, 2),  # begins at 0 or 16
        (36, 2),  # begins at 0, 4, ... or 28: in two sectors each time
        (33, 2),
        (34, 2),
        (10, Fraction(20, 16)),  # of 16 places those at 24, 26, 28 and 30 lie in two sectors
    ],
)
def test_sectors_of_one_row_by_hand(width: int, sectors: Fraction) -> None:
    assert expected_sectors(10**12, width, 1.0) == pytest.approx(float(sectors), rel=1e-6)


def test_rows_side_by_side_share_a_sector() -> None:
    # four rows of 8 bytes in a sector, half of them touched: 1 - 1/16
    assert expected_sectors(400, 8, 200.0) == 100 * (1 - 1 / 16)
    # two rows of 48 bytes in three sectors: the middle one holds a piece of both
    assert expected_sectors(200, 48, 100.0) == 100 * (1 / 2 + 3 / 4 + 1 / 2)


@given(width=st.integers(1, 300), share=st.floats(0.01, 1))
def test_sectors_hold_the_rows_and_are_at_most_the_table(width: int, share: float) -> None:
    rows = 3200
    moved = 32 * expected_sectors(rows, width, share * rows)
    assert share * rows * width * (1 - 1e-12) <= moved <= rows * width * (1 + 1e-12)


def test_an_array_gives_what_its_elements_give() -> None:
    distinct = np.array([[1.0, 20.0], [300.0, 320.0]])
    found = expected_sectors(320, 20, distinct)
    assert isinstance(found, np.ndarray)
    each = [expected_sectors(320, 20, float(value)) for value in distinct.flat]
    assert found.ravel().tolist() == each
