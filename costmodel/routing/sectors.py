"""In how many 32-byte sectors of a packed table the rows that a step touches are expected to lie.

A GPU moves whole sectors between its memory and its caches. A row that is narrower than a sector,
or that does not begin and end at the border of one, moves bytes of its neighbours too.
"""

from functools import lru_cache
from math import gcd

from costmodel.routing.expectation import Expected

SECTOR_BYTES = 32


def expected_sectors(rows_total: int, row_bytes: int, distinct: Expected) -> Expected:
    """The expected number of sectors in which at least one touched row lies.

    Formula: rows of w bytes stand one after another, the first at the border of a sector. With
    g = gcd(w, 32), the places of rows and borders repeat after 32 / g rows, which fill w / g
    sectors. A sector in which k rows lie is touched with probability 1 - (1 - d / R)^k; the sum
    runs over all sectors of the table. Where touched rows are far apart, this is d times the
    sectors of one row, (w + 32 - g) / 32 in the exact mean over all places of a row.
    Leaves out: that one row's being touched makes it less likely that its neighbour is.
    Source: linearity of expectation; rows that are touched lie evenly over the table.

    Args:
        rows_total: R, rows of the table.
        row_bytes: w, bytes of one row.
        distinct: d, the expected number of touched rows.

    Returns:
        Sectors: a float, or an array where `distinct` is one.
    """
    touched_share = distinct / rows_total
    in_one_period: Expected = 0.0
    for rows_in_sector, sectors in _sectors_by_rows(row_bytes):
        touched: Expected = 0.0
        for _ in range(rows_in_sector):  # 1 - (1 - p)^k without cancellation
            touched = touched + touched_share * (1.0 - touched)
        in_one_period = in_one_period + sectors * touched
    return rows_total * gcd(row_bytes, SECTOR_BYTES) / SECTOR_BYTES * in_one_period


def row_sectors(row_bytes: int) -> float:
    """Sectors of one row of w bytes, the mean over all places of a row: (w + 32 - g) / 32."""
    return (row_bytes + SECTOR_BYTES - gcd(row_bytes, SECTOR_BYTES)) / SECTOR_BYTES


@lru_cache(maxsize=256)
def _sectors_by_rows(row_bytes: int) -> tuple[tuple[int, int], ...]:
    """(k, sectors of a period in which k rows lie), for each k that occurs."""
    step = gcd(row_bytes, SECTOR_BYTES)
    rows, sectors = SECTOR_BYTES // step, row_bytes // step  # of a period
    if row_bytes >= SECTOR_BYTES:  # all borders between rows but the last fall inside a sector
        by_rows = {1: sectors - rows + 1, 2: rows - 1}
    else:
        by_rows = {}
        for first_byte in range(0, sectors * SECTOR_BYTES, SECTOR_BYTES):
            last_byte = first_byte + SECTOR_BYTES - 1
            rows_in_sector = last_byte // row_bytes - first_byte // row_bytes + 1
            by_rows[rows_in_sector] = by_rows.get(rows_in_sector, 0) + 1
    return tuple((k, count) for k, count in by_rows.items() if count)
