"""The heading of a sweep: which design is the cheapest at the parameters of the model itself."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from costmodel import units
from dashboard.pages.tradeoffs.sweep import (
    DESIGN_QUANTITIES,
    TOTAL,
    Sweep,
    base_points,
    column,
    is_size,
)

NEAR = 0.01  # of the model's own total parameters


def cost_of(axes: Sequence[str]) -> str | None:
    """The first of the axes of which less is better; None if none is such a cost."""
    costs = (name for name in axes if not is_size(name))
    return next((name for name in costs if not DESIGN_QUANTITIES[name].more_is_better), None)


def answer(
    sweep: Sweep,
    mask: NDArray[np.bool_],
    best: NDArray[np.intp],
    *,
    x: str,
    y: str,
    model: str,
) -> str:
    """The cheapest design within `NEAR` of the model's parameters; without one, of all designs.

    Where points of several workloads are shown, or no axis is a cost: how many stand on the front,
    `best`.
    """
    cost, own = cost_of((y, x)), base_points(sweep, mask)
    points = np.flatnonzero(mask)
    if cost is None or len(own) != 1:
        on = "best at their value" if is_size(x) or is_size(y) else "on the Pareto front"
        return f"{len(best):,} of {len(points):,} designs of {model} are {on}: {x} and {y}"
    costs, totals = column(sweep, cost), column(sweep, TOTAL)
    words = [sweep.words(int(point)) for point in points]
    other = np.array([text != sweep.words(int(own[0])) for text in words], dtype=np.bool_)
    near = other & (np.abs(totals[points] / totals[own] - 1) <= NEAR)
    least = points[near if near.any() else other | True]
    cheapest = int(least[np.argmin(costs[least])])
    axis = DESIGN_QUANTITIES[cost].axis
    value = f"{units.significant(costs[cheapest], axis.quantity.digits)} {axis.unit}"
    over = units.ratio(float(costs[cheapest] / costs[own[0]]))
    name, what = sweep.words(cheapest), axis.quantity.label
    if near.any():
        return (
            f"{name} is the cheapest within {100 * NEAR:g} % of {model}'s parameters: {value} of"
            f" {what}, {over} the model's own"
        )
    total = units.parameters(round(1e9 * float(totals[cheapest])))
    return (
        f"{name} needs the least of {len(points):,} designs of {model}: {value} of {what}, {over}"
        f" the model's own, with {total} parameters; none but the model itself is within"
        f" {100 * NEAR:g} % of its parameters"
    )
