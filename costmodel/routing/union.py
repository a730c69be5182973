"""How many distinct rows several layers that share one memory table are expected to touch."""

from collections.abc import Sequence

from costmodel.errors import InputError
from costmodel.routing.popularity import Expected


def expected_union(
    rows_total: int,
    windows: Sequence[tuple[int, int]],
    distinct: Expected | Sequence[Expected],
) -> Expected:
    """The expected number of distinct rows of the table that all layers touch together.

    Formula: rows_total rows form a ring; layer l reaches the n_l rows from start_l on and touches
    d_l of them, and its ranks of popularity lie in an order of its own, drawn at random. A row
    within the windows of a set C of layers is untouched with probability
    prod over l in C of (1 - d_l / n_l); the ring is swept in segments of equal C.
    Leaves out: rows that are popular in several layers at once; those make the union smaller.
    Source: linearity of expectation; windows as in UltraMem's shared, shifted value tables.

    Args:
        rows_total: rows of the table.
        windows: (start, length) per layer; 1 <= length <= rows_total, wrapping at the end.
        distinct: what every layer touches of its window, or a list of one value per layer.
    """
    per_layer = distinct if isinstance(distinct, Sequence) else [distinct] * len(windows)
    if len(per_layer) != len(windows):
        raise InputError(f"distinct: holds {len(per_layer)} layers; windows hold {len(windows)}")
    own = isinstance(distinct, Sequence)
    total: Expected = 0.0
    for layers, rows in _segments(rows_total, windows, own=own).items():
        touched: Expected = 0.0
        for length, layer in layers:  # 1 - (1 - a)(1 - b) without cancellation
            touched = touched + per_layer[layer] / length * (1.0 - touched)
        total = total + rows * touched
    return total


def _segments(
    rows_total: int, windows: Sequence[tuple[int, int]], *, own: bool
) -> dict[tuple[tuple[int, int], ...], int]:
    """Rows by the windows that cover them, each (length, layer); without `own`, layer is 0."""
    active: list[tuple[int, int]] = []
    events = [(rows_total, 0, True, (0, 0))]
    for layer, (start, length) in enumerate(windows):
        if not 1 <= length <= rows_total:
            raise InputError(f"length={length}: must lie between 1 and rows_total={rows_total}")
        window = (length, layer if own else 0)
        first = start % rows_total
        last = first + length
        events.append((first, 1, True, window))
        if last > rows_total:
            active.append(window)
            last -= rows_total
        events.append((last, 0, False, window))
    segments: dict[tuple[tuple[int, int], ...], int] = {}
    position = 0
    for where, _, opens, window in sorted(events):
        if where > position:
            cover = tuple(sorted(active))
            segments[cover] = segments.get(cover, 0) + where - position
            position = where
        if opens:
            active.append(window)
        else:
            active.remove(window)
    return segments
