"""The Pareto front: the points that no other point beats."""

import numpy as np
from numpy.typing import NDArray


def pareto_front(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points no other point beats, less being better on both axes.

    A point is beaten by one that is no worse on either axis and better on one, so that equal points
    stand on the front together. `x` and `y` are finite and of one length, n; so is the answer.
    """
    order = np.lexsort((y, x))
    ordered_x, ordered_y = x[order], y[order]
    # Sorted by x and then y, a value of x begins with its least y, which alone of it can stand.
    begins = np.concatenate(([True], ordered_x[1:] != ordered_x[:-1]))[: len(x)]
    least = ordered_y[begins]
    before = np.concatenate(([np.inf], np.minimum.accumulate(least)[:-1]))[: len(least)]
    group = np.cumsum(begins) - 1
    front = np.zeros(len(x), dtype=np.bool_)
    front[order] = (ordered_y == least[group]) & (least < before)[group]
    return front
