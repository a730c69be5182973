"""What share of the roofline engines reach in public measurements, by model and by batch.

A share is bound / measured. It is lower than the truth where a row was timed over whole requests
(prefill is in it), where all tokens were taken on the same experts (more are read in truth), and
where weights were taken in 4 or 8 bits that an engine leaves in 16.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias, TypeVar

from costmodel.questions.published.public_bounds import Experts, PublicBounds, RowBound
from costmodel.questions.published.public_rows import PublicRow

Key = TypeVar("Key", bound=Hashable)
TimedOver: TypeAlias = Literal["step", "request"]

BATCHES = ((1, 1), (2, 7), (8, 31), (32, 127), (128, None))  # ranges: sequences that decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Shares of some rows."""

    rows: int
    least: float
    median: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShares:
    """The shares that an engine reached with a model on so many GPUs of one sort."""

    model: str
    engine: str
    gpu: str
    gpus: int
    timed: TimedOver  # a decode step, or a whole request over its output tokens
    experts: Experts  # whether tokens were taken on the same
    shares: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShares:
    """The shares that an engine reached over a range of batches, with whatever models and GPUs."""

    engine: str
    several_gpus: bool
    first: int  # sequences that decode
    last: int | None  # None: and more
    models: tuple[str, ...]
    shares: Spread


def by_model(bounds: Iterable[RowBound]) -> tuple[ModelShares, ...]:
    """Median, least and most by model, engine and GPUs, in this order."""

    def key(one: RowBound) -> tuple[str, str, str, int, TimedOver, Experts]:
        setting, row = one.point.setting, one.row
        return (
            *(setting.model, row.engine, setting.gpu, setting.gpus),
            timed_over(one),
            setting.experts,
        )

    return tuple(
        ModelShares(
            model=model,
            engine=engine,
            gpu=gpu,
            gpus=gpus,
            timed=timed,
            experts=experts,
            shares=_spread(some),
        )
        for (model, engine, gpu, gpus, timed, experts), some in _grouped(bounds, key)
    )


def by_batch(bounds: Iterable[RowBound]) -> tuple[BatchShares, ...]:
    """The rule of thumb: an engine's shares by batch, of the rows whose share is not understated.

    Rows over whole requests, and those whose tokens were taken on the same experts, are left out.
    """
    fit = [
        one
        for one in bounds
        if timed_over(one) == "step" and one.point.setting.experts != "the same"
    ]

    def key(one: RowBound) -> tuple[str, bool, int]:
        place = max(i for i, (first, _) in enumerate(BATCHES) if first <= one.point.batch)
        return one.row.engine, one.row.gpus > 1, place

    return tuple(
        BatchShares(
            engine=engine,
            several_gpus=several,
            first=BATCHES[place][0],
            last=BATCHES[place][1],
            models=tuple(sorted({one.point.setting.model for one in some})),
            shares=_spread(some),
        )
        for (engine, several, place), some in _grouped(fit, key)
    )


MIN_ROWS = 10  # of a range of batches, for a rule
INTERCHANGEABLE = 1.1  # medians no farther apart are told as one


def rules(lines: Iterable[BatchShares]) -> tuple[str, ...]:
    """For each engine, in words: what share it reaches and how many times its bound a step takes.

    From the medians of ranges of batches that have `MIN_ROWS` rows at least; of an engine without
    such a range the sentence says that there is no rule.
    """
    groups: dict[tuple[str, bool], list[BatchShares]] = defaultdict(list)
    for line in lines:
        groups[line.engine, line.several_gpus].append(line)
    said = []
    for (engine, several), ranges in groups.items():
        where = f"{engine} on {'several GPUs' if several else 'one GPU'}"
        fit = [line for line in ranges if line.shares.rows >= MIN_ROWS]
        if not fit:
            said.append(f"{where}: no rule, as no range of batches has {MIN_ROWS} rows.")
            continue
        best = max(fit, key=lambda line: line.shares.median)
        worst = min(fit, key=lambda line: line.shares.median)
        times = f"{1 / best.shares.median:.1f}"
        if best.shares.median > INTERCHANGEABLE * worst.shares.median:
            times += f" (from {best.first} sequences) to {1 / worst.shares.median:.1f}"
            times += f" (from {worst.first})"
        rows = sum(line.shares.rows for line in fit)
        said.append(f"{where}: a step takes about {times} times its bound ({rows} rows).")
    return tuple(said)


def timed_over(one: RowBound) -> TimedOver:
    """Whether a row was timed over a decode step or over a whole request."""
    return "request" if one.row.timed == "e2e" else "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many rows of one GPU, engine or model have a bound, and why the others have none."""

    of: Literal["gpu", "engine", "model"]
    name: str
    rows: int
    bounded: int
    skipped: dict[str, int]  # rows by the reason


def coverage(rows: Iterable[PublicRow], found: PublicBounds) -> tuple[Coverage, ...]:
    """Rows with and without a bound by GPU, engine and model, the most rows first."""
    rows = tuple(rows)
    groups: dict[tuple[Literal["gpu", "engine", "model"], str], list[PublicRow]] = defaultdict(list)
    for row in rows:
        groups["gpu", row.gpu].append(row)
        groups["engine", row.engine].append(row)
        groups["model", row.model].append(row)
    lines = []
    for (of, name), some in groups.items():
        reasons = Counter(found.skipped[row.id] for row in some if row.id in found.skipped)
        lines.append(
            Coverage(
                of=of,
                name=name,
                rows=len(some),
                bounded=len(some) - reasons.total(),
                skipped=dict(reasons.most_common()),
            )
        )
    return tuple(sorted(lines, key=lambda line: (line.of, -line.rows, line.name)))


def _grouped(
    bounds: Iterable[RowBound], key: Callable[[RowBound], Key]
) -> list[tuple[Key, list[RowBound]]]:
    groups: dict[Key, list[RowBound]] = defaultdict(list)
    for one in bounds:
        groups[key(one)].append(one)
    return [(name, groups[name]) for name in sorted(groups)]  # type: ignore[type-var]


def _spread(bounds: Iterable[RowBound]) -> Spread:
    shares = [one.share for one in bounds]
    return Spread(rows=len(shares), least=min(shares), median=median(shares), most=max(shares))
