"""Where one model needs less than another along batch or context: ranges, found by a scan."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np

from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend, Workload
from costmodel.questions.grid import Column
from costmodel.questions.sweep import sweep

Metric: TypeAlias = Literal["hbm_bytes.compulsory", "time.floor_s", "time.predicted_s"]
METRICS: tuple[Metric, ...] = ("hbm_bytes.compulsory", "time.floor_s")
CALIBRATED: tuple[Metric, ...] = ("time.predicted_s",)
Axis: TypeAlias = Literal["batch", "context"]
Ranges: TypeAlias = tuple[tuple[int, int | None], ...]
"""First and last values of each range; a last of None: up to all that is sought."""

COARSE_RATIO = 1.02  # an axis is scanned in steps of 2 %, then each change of sign is narrowed
TRIED = 256  # values between two of the scan that are tried at once


def metric_words(metric: Metric, backend: Backend) -> str:
    """The label of a metric; of a predicted time with its backend, as others have other times."""
    label = STEP_QUANTITIES[metric].label
    return f"{label} with the backend {backend}" if metric in CALIBRATED else label


class Metrics:
    """The metrics of one model along an axis; those of the coarse scan are computed once."""

    def __init__(
        self,
        model: ModelConfig,
        workload: Workload,
        hardware: Hardware,
        calibration: Curves | Unknown,
        axis: Axis = "batch",
    ) -> None:
        self._model, self._workload, self._hardware = model, workload, hardware
        self._calibration, self._axis = calibration, axis
        self._scans: dict[int, dict[str, Column]] = {}

    def scan(self, known_to: int) -> dict[str, Column]:
        """All metrics at the values of `_coarse`, by name."""
        if known_to not in self._scans:
            self._scans[known_to] = self.at(_coarse(known_to))
        return self._scans[known_to]

    def at(self, values: Sequence[int]) -> dict[str, Column]:
        """All metrics at these values of the axis, by name; none of them wraps (`sweep`)."""
        by_batch = self._axis == "batch"
        grid = sweep(
            self._model,
            self._workload,
            batches=values if by_batch else [self._workload.batch],
            contexts=[self._workload.context] if by_batch else values,
            routings=[self._workload.routing],
            hardwares=[self._hardware],
            calibrations=[self._calibration],
        )
        names = (*METRICS, *CALIBRATED)
        return {
            name: np.broadcast_to(grid.columns[name], grid.shape).ravel()
            for name in names
            if name in grid.columns
        }


def where_lower(mine: Metrics, others: Metrics, metric: Metric, known_to: int) -> Ranges:
    """The ranges from 1 to `known_to` over which `mine` has less of a metric than `others`.

    A pair of crossings less than 2 % apart is missed.
    """
    if not known_to:
        return ()
    coarse = _coarse(known_to)
    won = (mine.scan(known_to)[metric] < others.scan(known_to)[metric]).tolist()

    def wins(values: Sequence[int]) -> list[bool]:
        lower: list[bool] = (mine.at(values)[metric] < others.at(values)[metric]).tolist()
        return lower

    ranges: list[tuple[int, int | None]] = []
    start = 1 if won[0] else None
    for place in range(1, len(coarse)):
        if won[place] == won[place - 1]:
            continue
        last, first = _change(wins, coarse[place - 1], coarse[place], now=won[place])
        if start is None:
            start = first
        else:
            ranges.append((start, last))
            start = None
    if start is not None:
        ranges.append((start, None))
    return tuple(ranges)


def _coarse(known_to: int) -> list[int]:
    """Values from 1 to `known_to`, in steps of 2 %."""
    points = int(np.ceil(np.log(known_to) / np.log(COARSE_RATIO))) + 1
    return sorted({round(value) for value in np.geomspace(1, known_to, points)})


def _change(
    wins: Callable[[Sequence[int]], list[bool]], low: int, high: int, *, now: bool
) -> tuple[int, int]:
    """The last value before `wins` changes to `now` and the first after, between low and high.

    Many values cost hardly more than one, so each round tries `TRIED` of them.
    """
    while high - low > 1:
        tried = range(low + 1, high, -(-(high - low - 1) // TRIED))
        changed = next((place for place, won in enumerate(wins(tried)) if won == now), len(tried))
        if changed < len(tried):
            high = tried[changed]
        if changed:
            low = tried[changed - 1]
    return low, high
