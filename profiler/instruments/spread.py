"""Repeated readings as median and quartiles: of a whole step, and as columns by leaf."""

from collections.abc import Mapping, Sequence
from statistics import median, quantiles

from costmodel.recordings.measured import ExactColumn, Source, Spread, SpreadColumn

DIGITS = 6  # significant ones of a step's numbers: finer than their spread
COLUMN_DIGITS = 5  # of numbers by leaf, which make up most of a file


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile, interpolated between neighbouring values."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    middle = median(values)
    return min(low, middle), middle, max(middle, high)  # interpolation can be off by an ulp


def spread(values: Sequence[float], source: Source) -> Spread:
    """The median and quartiles of repeated readings of one number."""
    low, middle, high = (rounded(value, DIGITS) for value in quartiles(values))
    return Spread(median=middle, q1=low, q3=high, repeats=len(values), source=source)


def spread_column(
    paths: Sequence[str], readings: Sequence[Mapping[str, float]], source: Source
) -> SpreadColumn:
    """Medians and quartiles by path; None for a path that no reading holds.

    Each reading maps paths to values.
    """
    columns: tuple[list[float | None], list[float | None], list[float | None]] = ([], [], [])
    for path in paths:
        values = [reading[path] for reading in readings if path in reading]
        of_path = quartiles(values) if values else (None, None, None)
        for column, value in zip(columns, of_path, strict=True):
            column.append(None if value is None else rounded(value, COLUMN_DIGITS))
    q1, middle, q3 = columns
    return SpreadColumn(
        median=tuple(middle), q1=tuple(q1), q3=tuple(q3), repeats=len(readings), source=source
    )


def exact_column(paths: Sequence[str], counts: Mapping[str, int], source: Source) -> ExactColumn:
    """Counts in the order of `paths`; None for a path without a count."""
    return ExactColumn(values=tuple(counts.get(path) for path in paths), source=source)


def rounded(value: float, digits: int = DIGITS) -> float:
    """The value to `digits` significant digits; one of more whole digits, to a whole number.

    So bytes and FLOPs stay exact. Rounding never swaps two values, so quartiles keep their order.
    """
    return float(round(value)) if value >= 10**digits else float(f"{value:.{digits}g}")
