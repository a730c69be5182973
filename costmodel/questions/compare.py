"""Models side by side on one workload over several batches, and where an advantage ends."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from costmodel.costs.gpu import Gpu
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, Unknown
from costmodel.costs.predict import Prediction, predict, step_costs
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import MAX_BATCH, Workload
from costmodel.layers.numbers import Count, Number

Metric: TypeAlias = Literal["hbm_bytes.compulsory", "time.floor_s", "time.predicted_s"]
METRICS: tuple[Metric, ...] = ("hbm_bytes.compulsory", "time.floor_s")
CALIBRATED: tuple[Metric, ...] = ("time.predicted_s",)

COARSE_RATIO = 1.02  # batches are scanned in steps of 2 %, then each change of sign is bisected


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantage:
    """Batches (first, last) over which `model` needs less of `metric` than `reference`.

    Found by a scan in steps of 2 % of the batch and a bisection of each change of sign, so that a
    pair of crossings less than 2 % apart would be missed. `last` is None where the advantage holds
    up to `MAX_BATCH`. `max_batch` is the largest batch at which both models fit the GPU.
    """

    model: str
    reference: str
    metric: Metric
    intervals: tuple[tuple[int, int | None], ...]
    max_batch: int

    def what_fits(self) -> str:
        """Whether the advantage ends within the batches that fit, in words."""
        if self.max_batch < 1:
            return "Not one sequence of this context fits the GPU with either model."
        fits = (
            f"the {self.max_batch:,} sequences of this context that fit the GPU with either model"
        )
        within = [last for first, last in self.intervals if first <= self.max_batch]
        if not within:
            return f"That begins beyond {fits}."
        last = within[-1]
        if len(within) == 1 and (last is None or last >= self.max_batch):
            end = "" if last is None else f": the crossover after batch {last:,} lies beyond that"
            return f"Within {fits}, the advantage does not end{end}."
        return f"{'The' if len(self.intervals) == 1 else 'A'} crossover lies within {fits}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Predictions by batch, then by model in the order given; advantages over the first model."""

    batches: tuple[int, ...]
    predictions: tuple[tuple[Prediction, ...], ...]
    advantages: tuple[Advantage, ...]


def sentences(advantages: Sequence[Advantage]) -> list[str]:
    """The advantages in words, and which batches fit; metrics of equal ranges share a sentence."""
    groups: dict[tuple[object, ...], list[Advantage]] = {}
    for one in advantages:
        key = (one.model, one.reference, one.intervals, one.max_batch)
        groups.setdefault(key, []).append(one)
    written = []
    for group in groups.values():
        model, reference, intervals = group[0].model, group[0].reference, group[0].intervals
        metrics = dict.fromkeys(
            STEP_QUANTITIES[same.metric].label for same in group
        )  # models may come twice
        head = f"{model} has lower {' and '.join(metrics)} than {reference}"
        if not intervals:
            written.append(f"{head} at no batch up to {MAX_BATCH:,}.")
            continue
        ranges = " and ".join(
            f"from batch {first:,} up" if last is None else f"from batch {first:,} to {last:,}"
            for first, last in intervals
        )
        written.append(f"{head} {ranges}. {group[0].what_fits()}")
    return written


def compare(
    models: Sequence[ModelConfig],
    workload: Workload,
    hardware: Hardware,
    *,
    batches: Sequence[int],
    calibration: Curves | Unknown = NOT_ASKED,
) -> Comparison:
    """All models at all batches, and each model's advantage over the first."""
    rows = tuple(
        tuple(
            predict(model, replace(workload, batch=batch), hardware, calibration)
            for model in models
        )
        for batch in batches
    )
    first = rows[0]
    timed = not any(isinstance(prediction.time, Unknown) for prediction in first)
    metrics = METRICS + CALIBRATED if timed else METRICS
    return Comparison(
        batches=tuple(batches),
        predictions=rows,
        advantages=tuple(
            Advantage(
                model=models[i].name,
                reference=models[0].name,
                metric=metric,
                intervals=advantage(
                    models[i], models[0], workload, hardware, metric, calibration=calibration
                ),
                max_batch=int(min(first[0].memory.max_batch, first[i].memory.max_batch)),
            )
            for i in range(1, len(models))
            for metric in metrics
        ),
    )


def advantage(
    model: ModelConfig,
    reference: ModelConfig,
    workload: Workload,
    hardware: Hardware,
    metric: Metric,
    *,
    calibration: Curves | Unknown = NOT_ASKED,
) -> tuple[tuple[int, int | None], ...]:
    """The ranges of batches over which `model` needs less of `metric` than `reference`."""
    gpu = Gpu(hardware=hardware, calibration=calibration)

    def cost(config: ModelConfig, batch: Count) -> Number:
        work = workload.of_model(config)
        costs = step_costs(config, work.step(batch=batch))
        sums = costs.totals
        if metric == "hbm_bytes.compulsory":
            return sums.compulsory_bytes
        if metric == "time.floor_s":
            ceilings = gpu.ceilings(work)
            flops = ceilings.at_peak(costs.operators, sums.flops)
            return ceilings.floor_s(sums.compulsory_bytes, flops)
        time = gpu.time(costs.operators, sums, work)
        assert not isinstance(time, Unknown)
        return time.predicted_s

    def wins(batch: int) -> bool:
        return bool(cost(model, batch) < cost(reference, batch))

    points = int(np.ceil(np.log(MAX_BATCH) / np.log(COARSE_RATIO))) + 1
    coarse = sorted({round(batch) for batch in np.geomspace(1, MAX_BATCH, points)})
    grid = np.array(coarse, dtype=object)  # Python integers: no total can wrap
    won = np.asarray(cost(model, grid) < cost(reference, grid), dtype=bool).tolist()
    ranges: list[tuple[int, int | None]] = []
    start = 1 if won[0] else None
    for index in range(1, len(coarse)):
        if won[index] == won[index - 1]:
            continue
        last, first = _change(wins, coarse[index - 1], coarse[index], now=won[index])
        if start is None:
            start = first
        else:
            ranges.append((start, last))
            start = None
    if start is not None:
        ranges.append((start, None))
    return tuple(ranges)


def _change(wins: Callable[[int], bool], low: int, high: int, *, now: bool) -> tuple[int, int]:
    """The last batch before `wins` changes to `now` and the first after, between low and high."""
    while high - low > 1:
        middle = (low + high) // 2
        if wins(middle) == now:
            high = middle
        else:
            low = middle
    return low, high
