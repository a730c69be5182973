"""Operators of many designs as one list whose numbers are arrays over the designs.

Designs that differ in sizes alone have operators of one structure. Their numbers are stacked along
a new first axis, before those of the workloads; every sum and price then takes all at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

import numpy as np

from costmodel.backends.base import Backend
from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, TopK
from costmodel.layers.numbers import Number
from costmodel.layers.operator import QUANTITIES, Operator, Part, quantities_of

STACKED = QUANTITIES
SIZES = {kind: tuple(f.name for f in fields(kind)) for kind in (Attend, Gemm, Grouped, Rows, TopK)}

_stacked = quantities_of
_sizes = {kind: attrgetter(*names) for kind, names in SIZES.items()}


def structure(operators: Sequence[Operator], backend: Backend) -> object:
    """What decides how operators are priced, but for their sizes; equal for those that can stack.

    The number of chosen items is in it: each has a measured curve of its own.
    """
    found: list[object] = []
    for operator in operators:
        found.append(operator.count)
        for part in operator.parts:
            shape = part.shape
            chosen = shape.chosen if isinstance(shape, TopK) else None
            found += (backend.launches(operator, part), part.routing, type(shape), chosen)
        found.append(None)
    return tuple(found)


class Stack:
    """Operators of one structure, of one design after the other; only their numbers are kept."""

    def __init__(self, first: Sequence[Operator]) -> None:
        self._first = tuple(
            replace(operator, weights=(), buffers=(), touched=None) for operator in first
        )
        self._rows: list[list[Number]] = []

    def add(self, operators: Sequence[Operator]) -> None:
        """Put those of one more design upon it."""
        row: list[Number] = []
        for operator in operators:
            for part in operator.parts:
                row += _stacked(part)
                if part.shape is not None:
                    row += _sizes[type(part.shape)](part.shape)
        self._rows.append(row)

    def operators(self) -> tuple[Operator, ...]:
        """All as one list, without what they store. Paths and words are those of the first.

        A number that all share stays as it is; other ones are arrays of designs x the workloads.
        """
        numbers = (_number(column) for column in zip(*self._rows, strict=True))
        return tuple(
            replace(operator, parts=tuple(_part(part, numbers) for part in operator.parts))
            for operator in self._first
        )


def _part(part: Part, numbers: Iterator[Number]) -> Part:
    """The part with the next numbers."""
    own: dict[str, Any] = {name: next(numbers) for name in STACKED}
    if part.shape is None:
        return replace(part, **own)
    sizes: dict[str, Any] = {name: next(numbers) for name in SIZES[type(part.shape)]}
    return replace(part, shape=replace(part.shape, **sizes), **own)


def _number(values: Sequence[Number]) -> Number:
    """The one number or array that all share, or else all of them."""
    first = values[0]
    if all(value is first for value in values):
        return first
    shapes = {getattr(value, "shape", ()) for value in values}
    if shapes == {()}:
        if values.count(first) == len(values):
            return first
        return np.array(values, np.float64).reshape(-1, 1, 1)
    if len(shapes) > 1:
        values = np.broadcast_arrays(*values)
    return np.array(values, np.float64)
