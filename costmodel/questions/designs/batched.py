"""Operators of many designs as one list whose numbers are arrays over the designs.

Designs that differ in sizes alone have operators of one structure. Their numbers are laid along a
new first axis, before those of the workloads; every sum and price then takes all at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

import numpy as np

from costmodel.backends.step_kernels import StepKernels
from costmodel.costs.table_rows import NOTHING, union_share, with_share
from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, TopK
from costmodel.layers.numbers import Number
from costmodel.layers.operator import QUANTITIES, Operator, Part, quantities_of

SHAPES = (Attend, Gemm, Grouped, Rows, TopK)
SHAPE_FIELDS = {shape: tuple(size.name for size in fields(shape)) for shape in SHAPES}

_shape_numbers = {shape: attrgetter(*names) for shape, names in SHAPE_FIELDS.items()}


def structure(operators: Sequence[Operator], kernels: StepKernels) -> object:
    """A key of all that decides how operators are priced except their sizes; equal within a batch.

    The number that a top-k chooses is in it, since each has a measured curve of its own; so are
    leaves and their layers, where the backend has kernels that span several, or where rows are
    fetched from outside HBM. Kernels decide only where a calibration may price them.
    """
    backend = kernels.backend
    by_layer = bool(backend.spans) or any(
        part.fetched_bytes is not NOTHING for operator in operators for part in operator.parts
    )
    priced = not kernels.refusal
    parts: list[object] = []
    for operator in operators:
        parts.append((operator.leaf, operator.layers if by_layer else operator.count))
        parts.append(operator.computes_in)
        for part in operator.parts:
            shape = part.shape
            chosen = shape.chosen if isinstance(shape, TopK) else None
            launches: object = kernels.launches(operator, part) if priced else None
            if isinstance(launches, np.ndarray):
                launches = tuple(launches.ravel())
            parts += (launches, part.name, part.routing, part.early, type(shape), chosen)
        parts.append(None)
    return tuple(parts)


class OperatorBatch:
    """Operators of one structure, of one component after the other; only their numbers are kept."""

    def __init__(self, first: Sequence[Operator]) -> None:
        self._first = tuple(
            replace(operator, weights=(), buffers=(), touched=None, rows=None) for operator in first
        )
        self._rows: list[list[Number]] = []
        self._union_shares: list[Number] = []

    def add(self, operators: Sequence[Operator]) -> None:
        """Add the operators of one more component."""
        row: list[Number] = []
        for operator in operators:
            for part in operator.parts:
                row += quantities_of(part)
                if part.shape is not None:
                    row += _shape_numbers[type(part.shape)](part.shape)
        self._rows.append(row)
        self._union_shares.append(union_share(operators))

    def together(self) -> tuple[Operator, ...]:
        """All as one list of operators, without what they store; paths are those of the first.

        A number that all share stays as it is; others are arrays of components x the workloads.
        Rows of a table that layers share are counted as in `with_table_rows`.
        """
        numbers = (_number(column) for column in zip(*self._rows, strict=True))
        share = _number(self._union_shares)
        return tuple(
            replace(
                operator, parts=with_share((_part(part, numbers) for part in operator.parts), share)
            )
            for operator in self._first
        )


def _part(part: Part, numbers: Iterator[Number]) -> Part:
    """The part with the next numbers."""
    quantities: dict[str, Any] = {name: next(numbers) for name in QUANTITIES}
    if part.shape is None:
        return replace(part, **quantities)
    sizes: dict[str, Any] = {name: next(numbers) for name in SHAPE_FIELDS[type(part.shape)]}
    return replace(part, shape=replace(part.shape, **sizes), **quantities)


def _number(values: Sequence[Number]) -> Number:
    """The one number or array that all share, or else all of them."""
    first = values[0]
    if len(set(map(id, values))) == 1:
        return first
    if np.ndarray not in set(map(type, values)):
        if values.count(first) == len(values):
            return first
        return np.array(values, np.float64).reshape(-1, 1, 1)
    if len(set(map(np.shape, values))) > 1:
        values = np.broadcast_arrays(*values)
    return np.array(values, np.float64)
