"""Numbers that formulas take: one value, or a NumPy array of them over a grid of steps."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Number: TypeAlias = int | float | NDArray[Any]
"""An exact count or an expectation: one number, or an array of them."""
Count: TypeAlias = int | NDArray[Any]
"""An exact count: one integer, or an array of them."""


def smaller(a: Number, b: Number) -> Number:
    """Elementwise minimum that keeps Python integers Python integers."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.minimum(a, b)
    return min(a, b)


def larger(a: Number, b: Number) -> Number:
    """Elementwise maximum that keeps Python integers Python integers."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.maximum(a, b)
    return max(a, b)
