"""How many distinct rows of one memory table the layers that share it are expected to touch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from costmodel.errors import InputError
from costmodel.routing.expectation import Expected


def expected_union(
    rows_total: int,
    windows: Sequence[tuple[int, int]],
    distinct: Expected | Sequence[Expected],
) -> Expected:
    """The expected number of distinct rows that at least one of the layers touches.

    Formula: the rows of the table form a ring; layer l reaches a window of n_l rows from start_l
    on and touches d_l of them. Which rows are popular is taken as independent from layer to layer.
    A row in the windows of a set C of layers is then untouched with probability
    prod over l in C of (1 - d_l / n_l); the sum runs over the segments of the ring with equal C.
    Leaves out: that a row may be popular in several layers at once, which makes the union smaller.
    Source: linearity of expectation; windows as in UltraMem's shared, shifted value tables.

    Args:
        rows_total: rows of the table.
        windows: (start, length) per layer; 1 <= length <= rows_total, wrapping at the end.
        distinct: the expected distinct rows that a layer touches: one value for all layers, or a
            list of one value per layer.

    Returns:
        Rows: a float, or an array where `distinct` holds arrays.
    """
    per_layer = distinct if isinstance(distinct, Sequence) else [distinct] * len(windows)
    if len(per_layer) != len(windows):
        raise InputError(f"distinct: holds {len(per_layer)} layers; windows hold {len(windows)}")
    plan = _plan(rows_total, tuple(windows), layers_differ=isinstance(distinct, Sequence))
    shares = [per_layer[layer] / length for length, layer in plan.windows]
    touched: list[Expected] = [0.0]  # of a row in no window; then of one in those of each step
    for before, window in plan.steps:
        if before:  # 1 - (1 - a)(1 - b) without cancellation
            touched.append(touched[before] + shares[window] * (1.0 - touched[before]))
        else:
            touched.append(shares[window])
    total: Expected = 0.0
    for step, rows in plan.segments:
        total = total + rows * touched[step]
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How to add up a union: rows under one window more than rows of an earlier step."""

    windows: tuple[tuple[int, int], ...]  # (length, layer), each once
    steps: tuple[tuple[int, int], ...]  # (earlier step, window that is added); step 0: no window
    segments: tuple[tuple[int, int], ...]  # (step, rows whose windows it adds up)


@lru_cache(maxsize=64)
def _plan(rows_total: int, windows: tuple[tuple[int, int], ...], *, layers_differ: bool) -> _Plan:
    """The steps for the covers of a table's rows; covers that begin alike share steps.

    The layer is 0 unless `layers_differ`, so that fewer covers remain. Remembered, since every
    workload of a model asks for the same windows.
    """
    window_of: dict[tuple[int, int], int] = {}
    steps: list[tuple[int, int]] = []
    step_of: dict[Cover, int] = {(): 0}
    segments: list[tuple[int, int]] = []
    for cover, rows in _segments(rows_total, windows, layers_differ=layers_differ).items():
        for added, window in enumerate(cover):
            beginning = cover[: added + 1]
            if beginning not in step_of:
                steps.append((step_of[cover[:added]], window_of.setdefault(window, len(window_of))))
                step_of[beginning] = len(steps)
        segments.append((step_of[cover], rows))
    return _Plan(windows=tuple(window_of), steps=tuple(steps), segments=tuple(segments))


Cover = tuple[tuple[int, int], ...]
"""The windows that cover the same rows, as (length, layer)."""


NO_WINDOW = (0, 0)  # at the end of the ring, which cuts the last segment


def _segments(
    rows_total: int, windows: tuple[tuple[int, int], ...], *, layers_differ: bool
) -> dict[Cover, int]:
    """The covers of a table's rows, each with the number of rows that it covers."""
    active: list[tuple[int, int]] = []
    events: list[tuple[int, int, bool, tuple[int, int]]] = []
    for layer, (start, length) in enumerate(windows):
        if not 1 <= length <= rows_total:
            raise InputError(f"length={length}: must lie between 1 and rows_total={rows_total}")
        window = (length, layer if layers_differ else 0)
        first = start % rows_total
        last = first + length
        events.append((first, 1, True, window))
        if last > rows_total:
            active.append(window)
            last -= rows_total
        events.append((last, 0, False, window))
    segments: dict[Cover, int] = {}
    position = 0
    for boundary, _, opens, window in [*sorted(events), (rows_total, 1, True, NO_WINDOW)]:
        if boundary > position:
            cover = tuple(sorted(active))
            segments[cover] = segments.get(cover, 0) + boundary - position
            position = boundary
        if opens:
            active.append(window)
        else:
            active.remove(window)
    return segments
