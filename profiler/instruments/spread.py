"""Medians and quartiles: how a repeated measurement is told, of a step and of columns by leaf."""

from collections.abc import Mapping, Sequence
from statistics import median, quantiles

from costmodel.recordings.measured import ExactColumn, Source, Spread, SpreadColumn

DIGITS = 6  # significant, of a step's numbers: far below their spread
COLUMN_DIGITS = 5  # of those by leaf, which make up most of a file


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    middle = median(values)
    return min(low, middle), middle, max(middle, high)  # interpolation rounds, by an ulp


def spread(values: Sequence[float], source: Source) -> Spread:
    """Repeated readings of one number."""
    low, middle, high = (_rounded(value, DIGITS) for value in quartiles(values))
    return Spread(median=middle, q1=low, q3=high, repeats=len(values), source=source)


def spread_column(
    paths: Sequence[str], readings: Sequence[Mapping[str, float]], source: Source
) -> SpreadColumn:
    """Repeated readings by path; None for paths that were never read."""
    columns: tuple[list[float | None], list[float | None], list[float | None]] = ([], [], [])
    for path in paths:
        values = [reading[path] for reading in readings if path in reading]
        found = quartiles(values) if values else (None, None, None)
        for column, value in zip(columns, found, strict=True):
            column.append(None if value is None else _rounded(value, COLUMN_DIGITS))
    q1, middle, q3 = columns
    return SpreadColumn(
        median=tuple(middle), q1=tuple(q1), q3=tuple(q3), repeats=len(readings), source=source
    )


def exact_column(paths: Sequence[str], counts: Mapping[str, int], source: Source) -> ExactColumn:
    """Counts by path; None for paths that have none."""
    return ExactColumn(values=tuple(counts.get(path) for path in paths), source=source)


def _rounded(value: float, digits: int) -> float:
    """To so many significant digits, but not beyond the whole number: bytes and FLOPs stay exact.

    A larger number is never rounded below a smaller one, so that quartiles keep their order.
    """
    return float(round(value)) if value >= 10**digits else float(f"{value:.{digits}g}")
