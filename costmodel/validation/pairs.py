"""Who is faster, a memory layer or a mixture of experts? Measured, and whether it was predicted.

A pair is a model that chooses rows of memory tables and one that chooses experts, of about the same
number of parameters, measured by the same backend on the same workload. Its ratio is that of the
MoE's number over the memory model's: above 1 the memory model is the faster, or needs less.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from costmodel.inputs.model import ModelConfig
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.error_measures import mape
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Recording
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.error_stats import Origin
from costmodel.validation.joined import JoinedColumn
from costmodel.validation.recorded_routing import chosen_kinds

QUANTITIES: tuple[tuple[str, RunName], ...] = (("graph_s", "time"), ("energy_j", "energy"))
ALIKE = 1.25  # parameters of a pair differ by less than this factor
CLEAR = 1.05  # a measured gap above this factor is one that a prediction must tell

Interval = tuple[int, int]
"""Two batches that follow one another in a plan: between them the faster model changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPoint:
    """One workload of a pair. Ratios are the MoE's number over the memory model's.

    `predicted` is None where one of the two steps has a bound alone.
    """

    quantity: str
    backend: str
    moe: str
    memory: str
    workload: CaseWorkload
    measured: float
    predicted: float | None

    @property
    def clear(self) -> bool:
        """Whether the measured gap is more than 5 %."""
        return max(self.measured, 1 / self.measured) > CLEAR

    @property
    def right(self) -> bool:
        """Whether the predicted winner is the measured one."""
        return self.predicted is not None and (self.predicted > 1) == (self.measured > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnerScore:
    """How often the predicted winner is the measured one.

    Attributes:
        points: workloads of pairs that have a prediction.
        right: those with the right winner.
        clear, clear_right: those with a measured gap of more than 5 %, and the right ones of them.
        ratio_mape: mean |predicted ratio / measured ratio - 1|, of all points.
    """

    quantity: str
    backend: str
    phase: str
    points: int
    right: int
    clear: int
    clear_right: int
    ratio_mape: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossoverSeries:
    """Decode steps of a pair that differ in the batch alone: where the faster model changes.

    Attributes:
        batches: that were measured.
        measured: the intervals of batches with a crossover.
        predicted: the same of the predictions; None where a batch has none.
    """

    backend: str
    moe: str
    memory: str
    context: int
    routing: str
    batches: tuple[int, ...]
    measured: tuple[Interval, ...]
    predicted: tuple[Interval, ...] | None

    @property
    def met(self) -> int:
        """How many measured crossovers are predicted, in the same interval of batches."""
        return len(set(self.measured) & set(self.predicted or ()))

    @property
    def invented(self) -> int:
        """How many predicted crossovers were not measured."""
        return len(set(self.predicted or ()) - set(self.measured))


def pair_points(
    recordings: Sequence[tuple[str, Recording]],
    columns: Mapping[tuple[str, RunName], Sequence[tuple[Origin, JoinedColumn]]],
) -> Iterator[PairPoint]:
    """Every workload of every pair, by quantity."""
    chosen = {name: _chosen(recording.model) for name, recording in recordings}
    sizes = {
        origin.recording: float(column.counterparts[0].value or 0)
        for origin, column in columns["parameters", "time"]
    }
    for key in QUANTITIES:
        steps: dict[str, list[tuple[Origin, float, float | None]]] = {}
        for origin, column in columns[key]:
            counterpart = column.counterparts[0]
            predicted = counterpart.value if counterpart.basis == PREDICTED else None
            if column.of_step and column.measured[0]:
                step = origin, column.measured[0], None if predicted is None else float(predicted)
                steps.setdefault(origin.recording, []).append(step)
        for moe in (name for name in steps if chosen[name] == {"experts"}):
            for memory in (name for name in steps if chosen[name] == {"rows"}):
                if 1 / ALIKE < sizes[moe] / sizes[memory] < ALIKE:
                    yield from _points(key[0], steps[moe], steps[memory])


def winner_scores(points: Sequence[PairPoint]) -> Iterator[WinnerScore]:
    """The scores of each quantity, backend and phase; of points without a prediction none."""
    groups: dict[tuple[str, str, str], list[PairPoint]] = {}
    for point in points:
        if point.predicted is not None:
            key = point.quantity, point.backend, point.workload.phase
            groups.setdefault(key, []).append(point)
    for (quantity, backend, phase), some in groups.items():
        clear = [point for point in some if point.clear]
        yield WinnerScore(
            quantity=quantity,
            backend=backend,
            phase=phase,
            points=len(some),
            right=sum(point.right for point in some),
            clear=len(clear),
            clear_right=sum(point.right for point in clear),
            ratio_mape=mape([point.measured / (point.predicted or 1) for point in some]),
        )


def crossovers(points: Sequence[PairPoint]) -> Iterator[CrossoverSeries]:
    """Every series of decode times of a pair over at least two batches."""
    series: dict[tuple[str, str, str, CaseWorkload], list[PairPoint]] = {}
    for point in points:
        if point.quantity == "graph_s" and point.workload.phase == "decode":
            of_any_batch = replace(point.workload, batch=1)
            key = point.backend, point.moe, point.memory, of_any_batch
            series.setdefault(key, []).append(point)
    for (backend, moe, memory, workload), some in series.items():
        if len(some) > 1:
            ordered = sorted(some, key=lambda point: point.workload.batch)
            batches = tuple(point.workload.batch for point in ordered)
            predicted = [point.predicted for point in ordered if point.predicted is not None]
            yield CrossoverSeries(
                backend=backend,
                moe=moe,
                memory=memory,
                context=workload.context,
                routing=workload.routing,
                batches=batches,
                measured=intervals(batches, [point.measured for point in ordered]),
                predicted=intervals(batches, predicted) if len(predicted) == len(ordered) else None,
            )


def intervals(batches: Sequence[int], ratios: Sequence[float]) -> tuple[Interval, ...]:
    """The neighbouring batches between which ratios pass 1; one of exactly 1 is no winner yet."""
    sides = [(batch, ratio > 1) for batch, ratio in zip(batches, ratios, strict=True) if ratio != 1]
    return tuple((low, high) for (low, before), (high, after) in pairwise(sides) if before != after)


def _chosen(model: ModelConfig) -> set[str]:
    """What a model chooses: experts, rows, both or nothing."""
    return set(chosen_kinds(model).values())


def _points(
    quantity: str,
    of_moe: Sequence[tuple[Origin, float, float | None]],
    of_memory: Sequence[tuple[Origin, float, float | None]],
) -> Iterator[PairPoint]:
    memory_steps = {(step[0].workload, step[0].backend): step for step in of_memory}
    for origin, measured, predicted in of_moe:
        step = memory_steps.get((origin.workload, origin.backend))
        if step is not None:
            other, other_measured, other_predicted = step
            yield PairPoint(
                quantity=quantity,
                backend=origin.backend,
                moe=origin.model,
                memory=other.model,
                workload=origin.workload,
                measured=measured / other_measured,
                predicted=predicted / other_predicted if predicted and other_predicted else None,
            )
