"""Statistics of held-out predictions: coverage, a bootstrap over shapes, winners, crossovers.

Cases of one shape are alike in what makes them wrong, so the shape is the unit: a bootstrap draws
whole shapes. numpy only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
SEED = 7
CONFIDENCE = 0.95
GAP = 0.05  # share of the time by which a measured pair must differ to have a winner

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A measured number with its prediction, and the ends of its interval where it has one."""

    measured: float
    predicted: float
    low: float | None = None
    high: float | None = None

    @property
    def inside(self) -> bool | None:
        """Whether the measured number lies within the interval, ends included; None without."""
        if self.low is None or self.high is None:
            return None
        return self.low <= self.measured <= self.high

    @property
    def half_width(self) -> float | None:
        """Half the interval over the prediction, as a share; None without an interval."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / 2 / self.predicted


def coverage(rows: Sequence[Row]) -> tuple[int, int]:
    """How many of the rows with an interval lie within it, and how many there are."""
    inside = [row.inside for row in rows if row.inside is not None]
    return sum(inside), len(inside)


def cluster_bootstrap(
    clusters: Mapping[str, Sequence[float]], statistic: Callable[[Sequence[float]], float]
) -> Interval:
    """The 95 % percentile interval of a statistic when whole clusters are drawn with replacement.

    Source: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8.

    Args:
        clusters: Values by cluster, each at least one.
        statistic: Of all values of the drawn clusters together.
    """
    groups = [list(values) for values in clusters.values() if values]
    assert groups, "a cluster"
    generator = np.random.default_rng(SEED)
    picks = generator.integers(len(groups), size=(DRAWS, len(groups)))
    reached = [statistic([value for g in pick for value in groups[g]]) for pick in picks]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(reached, (tail, 1 - tail))
    return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRow:
    """An MoE and a memory model on the same workload, of a batch."""

    batch: int
    moe: Row
    memory: Row

    @property
    def measured_ratio(self) -> float:
        """The MoE's measured number over the memory model's; above 1 the memory model wins."""
        return self.moe.measured / self.memory.measured

    @property
    def predicted_ratio(self) -> float:
        """The same of the predictions."""
        return self.moe.predicted / self.memory.predicted

    @property
    def decided(self) -> bool:
        """Whether the measured numbers differ by more than `GAP` of the smaller one."""
        ratio = self.measured_ratio
        return max(ratio, 1 / ratio) > 1 + GAP

    @property
    def named(self) -> bool:
        """Whether the prediction names the measured winner."""
        return (self.measured_ratio > 1) == (self.predicted_ratio > 1)

    @property
    def predicted_range(self) -> Interval | None:
        """The least and the most that the ratio may be by both intervals; None without them."""
        ends = (self.moe.low, self.moe.high, self.memory.low, self.memory.high)
        if None in ends:
            return None
        moe_low, moe_high, memory_low, memory_high = ends
        assert moe_low and moe_high and memory_low and memory_high  # noqa: PT018 - one fact
        return moe_low / memory_high, moe_high / memory_low


def crossovers(batches: Sequence[int], ratios: Sequence[float]) -> tuple[float, ...]:
    """The batches at which a ratio passes 1, between measured batches (ln against ln, linear)."""
    passed = []
    logs, places = np.log(ratios), np.log(batches)
    for index in range(len(ratios) - 1):
        one, two = logs[index], logs[index + 1]
        if (one > 0) != (two > 0):
            share = one / (one - two)
            passed.append(
                float(np.exp(places[index] + share * (places[index + 1] - places[index])))
            )
    return tuple(passed)


def crossover_interval(rows: Sequence[PairedRow]) -> Interval | None:
    """The batches between which the predicted ratio may pass 1; None: nowhere, or no intervals.

    From the last batch at which one side surely wins to the first at which the other may be sure.
    `rows` are sorted by batch.
    """
    ranges = [row.predicted_range for row in rows]
    if any(reach is None for reach in ranges) or not rows:
        return None
    low = np.array([reach[0] for reach in ranges if reach])
    high = np.array([reach[1] for reach in ranges if reach])
    open_ = (low <= 1) & (high >= 1)
    sides = [(-1 if h < 1 else 1) if not o else 0 for h, o in zip(high, open_, strict=True)]
    sure = [side for side in sides if side]
    if not open_.any() and len(set(sure)) == 1:
        return None
    batches = [row.batch for row in rows]
    unsure = [i for i, side in enumerate(sides) if not side]
    flips = [i for i in range(len(sides) - 1) if sides[i] * sides[i + 1] < 0]
    first = min([max(0, i - 1) for i in unsure[:1]] + flips[:1])
    last = max([min(len(batches) - 1, i + 1) for i in unsure[-1:]] + [i + 1 for i in flips[-1:]])
    return float(batches[first]), float(batches[last])
