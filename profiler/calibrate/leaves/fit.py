"""Fit the parameters of `costmodel/costs/part_times.py` on measured leaves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodel.costs.part_times import part_s
from profiler.calibrate.leaves.points import Point

US, TB, TF = 1e-6, 1e12, 1e12
Floats: TypeAlias = NDArray[np.float64]

START: dict[str, float] = {
    "l2_bytes_per_s": 8 * TB,
    "elementwise.launch_s": 1.5 * US,
    "elementwise.hbm_bytes_per_s": 4 * TB,
    "elementwise.l2_bytes_per_s": 8 * TB,
    "activation.launch_s": 1.5 * US,
    "activation.hbm_bytes_per_s": 4 * TB,
    "activation.l2_bytes_per_s": 6 * TB,
    "rope.launch_s": 1.5 * US,
    "rope.hbm_bytes_per_s": 3 * TB,
    "rope.l2_bytes_per_s": 4 * TB,
    "rope.token_s": 2e-9,
    "rope.element_s": 2e-10,
    "norm.launch_s": 2.5 * US,
    "norm.hbm_bytes_per_s": 4 * TB,
    "norm.l2_bytes_per_s": 8 * TB,
    "norm.element_s": 1e-9,
    "gather.launch_s": 2 * US,
    "gather.hbm_bytes_per_s": 4 * TB,
    "gather.l2_bytes_per_s": 8 * TB,
    "gather.small_row_s": 0.2 * US,
    "selection.launch_s": 2 * US,
    "selection.hbm_bytes_per_s": 4 * TB,
    "selection.l2_bytes_per_s": 4 * TB,
    "matmul.launch_s": 2 * US,
    "matmul.hbm_bytes_per_s": 4 * TB,
    "matmul.l2_bytes_per_s": 4 * TB,
    **{
        f"{family}.{name}": value
        for family in ("gemm", "gemv", "tiled")
        for name, value in {
            "launch_s": 2.5 * US,
            "step_s": 0.1 * US,
            "split_s": 2 * US,
            "hbm_bytes_per_s": 4.5 * TB,
            "flops_per_s": 700 * TF,
            "whole": 0.5,
        }.items()
    },
    "gemm.unaligned": 0.1,
    "row.launch_s": 1.5 * US,
    "row.padded_s": 1e-10,
    "row.row_s": 2e-10,
    "row.element_s": 2e-13,
    "row.hbm_bytes_per_s": 4.4 * TB,
    "tiled.row_step_s": 1e-9,
    "ranks.launch_s": 3 * US,
    "ranks.block_s": 1e-9,
    "ranks.flops_per_s": 10 * TF,
    "ranks.pair_s": 1e-11,
    "ranks.chain_s": 3e-10,
    "grouped.launch_s": 2 * US,
    "grouped.step_s": 0.1 * US,
    "grouped.hbm_bytes_per_s": 4 * TB,
    "grouped.flops_per_s": 500 * TF,
    "rows.launch_s": 2 * US,
    "rows.row_s": 0.1 * US,
    "rows.bytes_per_s": 3 * TB,
    "rows.byte_s": 3e-11,
    "rows.read_s": 1e-11,
    "dots.launch_s": 2 * US,
    "dots.bytes_per_s": 3 * TB,
    "top.launch_s": 3 * US,
    "top.begin_s": 2 * US,
    "top.element_s": 1e-9,
    "top.chosen_s": 5e-8,
    "top.elements_per_s": 2e11,
    "top.row_s": 1e-9,
    "top.several_s": 20 * US,
    "top.pairs_per_s": 1e12,
    "points.element_s": 1e-9,
    "points.elements_per_s": 2e11,
    "points.row_s": 1e-9,
    **{
        f"{family}.{name}": value
        for family in ("decode", "broad", "wide")
        for name, value in {
            "launch_s": 3 * US,
            "tile_s": 1 * US,
            "split_s": 4 * US,
            "hbm_bytes_per_s": 4.5 * TB,
            "flops_per_s": 300 * TF,
            "whole": 0.3,
        }.items()
    },
    "prompt.launch_s": 3 * US,
    "prompt.tile_s": 0.5 * US,
    "prompt.bytes_per_s": 6 * TB,
    "prompt.flops_per_s": 500 * TF,
    "joined.launch_s": 3 * US,
    "joined.bytes_per_s": 2 * TB,
    "joined.flops_per_s": 200 * TF,
}
"""Where a fit begins, and what parameters without points stay at: orders of magnitude."""

FIXED = {"multiprocessors": 132.0, "l2_bytes": 40e6}
"""Of an H200: multiprocessors, and bytes that stay in L2 (facts: replays agree best with 40 MB)."""
PRIOR = 2.0  # of ln, by which a parameter may leave where it began at the cost of one residual
SOFT = 0.15  # of ln, beyond which a residual counts as an outlier
STEP = 1e-4  # of ln, for a derivative


def predicted_s(parameters: Mapping[str, float], point: Point, *, keeps: bool) -> float:
    """Seconds of a point by the model alone; parameters of the GPU need not be given."""
    p = {**FIXED, **parameters}
    seconds: Any = 0.0
    for part, launches in point.work:
        seconds = seconds + part_s(p, part, launches=launches, tokens=point.tokens, keeps=keeps)
    return float(seconds)


def fitted(
    points: Sequence[Point],
    *,
    keeps: bool,
    start: Mapping[str, float] | None = None,
    rounds: int = 60,
) -> dict[str, float]:
    """Parameters that fit the points best: least squares of ln(measured / model), robust.

    Each residual r counts as 2 (sqrt(1 + r^2) - 1) in units of `SOFT`, so that outliers count
    linearly. A parameter that no point knows of stays at its start.

    Args:
        points: Measured leaves of one backend.
        keeps: Whether the backend keeps what passes between parts on the chip.
        start: Where to begin, if not at `START`.
        rounds: Evaluations of the derivatives at most.
    """
    from scipy.optimize import least_squares

    names, begin = list(START), start or START
    anchors = np.log([START[name] for name in names])
    measured = np.log([point.measured_s for point in points])

    def errors(logs: Floats) -> Floats:
        parameters = _from_logs(names, logs)
        model = np.log([predicted_s(parameters, point, keeps=keeps) for point in points])
        r = (measured - model) / SOFT
        soft = np.sign(r) * np.sqrt(2 * (np.sqrt(1 + r**2) - 1))
        return np.concatenate([soft, (logs - anchors) / PRIOR])

    used = _used(names, points, keeps=keeps)

    def jacobian(logs: Floats) -> Floats:
        base = errors(logs)
        columns = np.zeros((len(base), len(names)))
        for place, name in enumerate(names):
            columns[len(points) + place, place] = 1 / PRIOR
            if name in used:
                moved = logs.copy()
                moved[place] += STEP
                columns[:, place] = (errors(moved) - base) / STEP
        return columns

    found = least_squares(
        errors,
        np.log([begin[name] for name in names]),
        jac=jacobian,
        max_nfev=rounds,
        xtol=1e-4,
        ftol=1e-5,
    )
    return _from_logs(names, found.x)


def _from_logs(names: Sequence[str], logs: Floats) -> dict[str, float]:
    return {
        name: min(1.0, math.exp(log)) if name.endswith(".whole") else math.exp(log)
        for name, log in zip(names, logs, strict=True)
    }


def _used(names: Sequence[str], points: Sequence[Point], *, keeps: bool) -> set[str]:
    """The parameters on which some point depends."""
    base = [predicted_s(START, point, keeps=keeps) for point in points]
    used = set()
    for name in names:
        moved = {**START, name: START[name] * 1.5}
        if [predicted_s(moved, point, keeps=keeps) for point in points] != base:
            used.add(name)
    return used
