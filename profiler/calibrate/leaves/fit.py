"""Fit the parameters of `costmodel/costs/part_times.py` on measured leaves."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from costmodel.costs.part_times import part_s
from profiler.calibrate.leaves.points import Point

US, TB, TF = 1e-6, 1e12, 1e12
MULTIPROCESSORS, L2_BYTES = 132.0, 40e6

START: dict[str, float] = {
    "l2_bytes_per_s": 8 * TB,
    "elementwise.launch_s": 1.5 * US,
    "elementwise.hbm_bytes_per_s": 4 * TB,
    "elementwise.l2_bytes_per_s": 8 * TB,
    "rope.launch_s": 1.5 * US,
    "rope.hbm_bytes_per_s": 3 * TB,
    "rope.l2_bytes_per_s": 4 * TB,
    "rope.token_s": 2e-9,
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
    "ranks.launch_s": 3 * US,
    "ranks.flops_per_s": 3 * TF,
    "ranks.element_s": 1e-9,
    "grouped.launch_s": 2 * US,
    "grouped.step_s": 0.1 * US,
    "grouped.hbm_bytes_per_s": 4 * TB,
    "grouped.flops_per_s": 500 * TF,
    "rows.launch_s": 2 * US,
    "rows.row_s": 0.1 * US,
    "rows.bytes_per_s": 3 * TB,
    "rows.read_s": 1e-11,
    "dots.launch_s": 2 * US,
    "dots.bytes_per_s": 3 * TB,
    "top.launch_s": 3 * US,
    "top.begin_s": 2 * US,
    "top.element_s": 1e-9,
    "top.chosen_s": 5e-8,
    "top.elements_per_s": 2e11,
    "top.several_s": 20 * US,
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
}
"""Where a fit begins, and what parameters without points stay at: orders of magnitude."""

FIXED = {"multiprocessors": MULTIPROCESSORS, "l2_bytes": L2_BYTES}
PRIOR = 2.0  # of ln, by which a parameter may leave where it began at the cost of one residual
SOFT = 0.15  # of ln, beyond which a residual counts as an outlier


def predicted_s(parameters: Mapping[str, float], point: Point, *, keeps: bool) -> float:
    """Seconds of a point by the model alone."""
    p = {**FIXED, **parameters}
    return float(
        sum(
            part_s(p, part, launches=launches, tokens=point.tokens, keeps=keeps)
            for part, launches in point.work
        )
    )


def fitted(
    points: Sequence[Point],
    *,
    keeps: bool,
    start: Mapping[str, float] | None = None,
    rounds: int = 60,
) -> dict[str, float]:
    """Parameters that fit the points best: robust least squares of ln(measured / model)."""
    from scipy.optimize import least_squares

    names, begin = list(START), start or START
    anchors = np.log([START[name] for name in names])
    measured = np.log([point.measured_s for point in points])

    def errors(logs: np.ndarray) -> np.ndarray:
        parameters = _from_logs(names, logs)
        model = [math.log(predicted_s(parameters, point, keeps=keeps)) for point in points]
        r = (measured - model) / SOFT
        soft = np.sign(r) * np.sqrt(2 * (np.sqrt(1 + r**2) - 1))
        return np.concatenate([soft, (logs - anchors) / PRIOR])

    used = _used(names, points, keeps=keeps)

    def jacobian(logs: np.ndarray) -> np.ndarray:
        base = errors(logs)
        j = np.zeros((len(base), len(names)))
        for i, name in enumerate(names):
            h = 1e-4
            moved = logs.copy()
            moved[i] += h
            if used[name]:
                j[:, i] = (errors(moved) - base) / h
            else:
                j[len(points) + i, i] = 1 / PRIOR
        return j

    result = least_squares(
        errors,
        np.log([begin[n] for n in names]),
        jac=jacobian,
        max_nfev=rounds,
        xtol=1e-4,
        ftol=1e-5,
    )
    return _from_logs(names, result.x)


def _from_logs(names: Sequence[str], logs: np.ndarray) -> dict[str, float]:
    values = {n: math.exp(v) for n, v in zip(names, logs, strict=True)}
    for n in values:
        if n.endswith(".whole"):
            values[n] = min(1.0, values[n])
    return values


def _used(names: Sequence[str], points: Sequence[Point], *, keeps: bool) -> dict[str, bool]:
    base = [predicted_s(START, p, keeps=keeps) for p in points]
    out = {}
    for n in names:
        moved = {**START, n: START[n] * 1.5}
        out[n] = any(
            abs(predicted_s(moved, p, keeps=keeps) - b) > 1e-15 for p, b in zip(points, base)
        )
    return out
