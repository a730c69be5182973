"""What measured leaves say beyond the model: a correction near to them, and how far off it may be.

A node is a measured point of one leaf and backend: its features and ln(measured / model). The
correction at another point is the mean over nodes of the same leaf by inverse squares of distance,
with one more node of no correction at the distance `FAR`: it goes to zero where no point is near.
Features are binary logarithms, so that a distance is in octaves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.costs.table_rows import NOTHING
from costmodel.layers.kernel_shape import Attend
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator

NEAR = 0.5  # octaves, within which a node's distance makes no difference
FAR = 3.0  # octaves, at which one node counts as much as no correction
LEAST = 1.0  # of bytes and FLOPs whose logarithm is taken


def classed(leaf: str, launches: int) -> str:
    """The name of a leaf done by so many kernels: one number of kernels is one algorithm."""
    return f"{leaf} in {launches}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nodes:
    """The measured points of one leaf: features [n, 4], ln(measured / model) [n]."""

    features: NDArray[Any]
    errors: NDArray[Any]

    def correction(self, features: Sequence[Number]) -> tuple[Number, Number]:
        """Logarithm of the factor on the model's seconds, and octaves to the nearest node.

        Args:
            features: From `features_of`, of which at least one holds an array over a grid.
        """
        squares: Any = 0.0
        for column, feature in zip(self.features.T, features, strict=True):
            squares = squares + np.subtract.outer(feature, column) ** 2
        weights = 1 / (squares + NEAR**2)
        total = weights.sum(axis=-1) + 1 / FAR**2
        return (weights @ self.errors) / total, np.sqrt(squares.min(axis=-1))


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The nodes of several leaves in a row, so that one pass corrects a whole step."""

    features: NDArray[Any]  # [n, 4]
    errors: NDArray[Any]  # [n]
    starts: NDArray[Any]  # [m], of each leaf's first node
    places: NDArray[Any]  # [n], each node's leaf

    @classmethod
    def of(cls, nodes: Sequence[Nodes]) -> "Stack":
        """The stack of m leaves, of which none is without nodes."""
        counts = [len(each.errors) for each in nodes]
        return cls(
            np.concatenate([each.features for each in nodes]),
            np.concatenate([each.errors for each in nodes]),
            np.cumsum([0, *counts[:-1]]),
            np.repeat(np.arange(len(nodes)), counts),
        )

    def corrections(self, features: Sequence[Sequence[Number]]) -> tuple[list[float], list[float]]:
        """As `Nodes.correction` of each leaf, at numbers: logarithms of factors, and octaves."""
        apart = self.features - np.array(features)[self.places]
        squares = np.einsum("ij,ij->i", apart, apart)
        weights = 1 / (squares + NEAR**2)
        sums = np.add.reduceat(weights * self.errors, self.starts)
        totals = np.add.reduceat(weights, self.starts) + 1 / FAR**2
        nearest = np.sqrt(np.minimum.reduceat(squares, self.starts))
        return (sums / totals).tolist(), nearest.tolist()


def features_of(operators: Sequence[Operator], tokens: Number) -> tuple[Number, ...]:
    """Octaves of tokens, compulsory bytes, activations' bytes, and FLOPs with comparisons.

    Rows count wherever they lie: where a table is changes nothing about the kernels that use them.
    Of one leaf, or of the leaves of a region together. Of attention, in place of bytes and FLOPs,
    the elements of a token's queries and of its keys: a correction that changed with the context
    could make a longer one look cheaper.
    """
    for operator in operators:
        for part in operator.parts:
            shape = part.shape
            if isinstance(shape, Attend):
                wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
                return (*map(_octaves, (tokens, wide, narrow)), 0.0)
    passed: Number = 0
    moved: Number = 0
    work: Number = 0
    for operator in operators:
        moved = moved + operator.compulsory_bytes
        for part in operator.parts:
            passed = passed + part.activation_bytes
            if part.fetched_bytes is not NOTHING:
                moved = moved + part.host_bytes + part.disk_bytes
            work = work + part.flops + part.compares
    return tuple(map(_octaves, (tokens, moved, passed, work)))


def _octaves(quantity: Number) -> Number:
    if isinstance(quantity, np.ndarray):
        octaves: NDArray[np.float64] = np.log2(np.maximum(quantity.astype(float), LEAST))
        return octaves
    return log2(max(float(quantity), LEAST))
