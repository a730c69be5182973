"""The axis of GPUs in a grid of steps: the third from last, before batch and context."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.layers.numbers import Number

Column: TypeAlias = NDArray[Any]


def along_gpus(values: Sequence[Number], dtype: type | np.dtype[Any] = np.float64) -> Column:
    """One value for each GPU, along the axis."""
    return np.array(values, dtype=dtype).reshape(-1, 1, 1)


def joined(values: Sequence[Any]) -> Any:  # noqa: ANN401 - an array, or None
    """A quantity of each GPU, joined along the axis as float64.

    None stays None: of one GPU as an element, of all alone.
    """
    known = [np.array(value, np.float64, ndmin=3) for value in values if value is not None]
    if not known:
        return None
    shape = np.broadcast_shapes(*(column.shape for column in known))
    if len(known) == len(values):
        return np.concatenate([np.broadcast_to(column, shape) for column in known], axis=-3)
    merged = np.full((*shape[:-3], len(values), *shape[-2:]), None)
    for place, value in enumerate(values):
        if value is not None:
            merged[..., place, :, :] = np.array(value, np.float64, ndmin=3)[..., 0, :, :]
    return merged
