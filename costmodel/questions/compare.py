"""Models side by side on one workload over several batches, and where an advantage ends."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from costmodel.costs.beyond_histogram import is_unknown
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.step import step_costs
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import MAX_BATCH, Backend, Workload
from costmodel.layers.mesh import ONE_GPU
from costmodel.questions.compare_mesh import mesh_sentences
from costmodel.questions.crossings import (
    CALIBRATED,
    METRICS,
    Metric,
    Metrics,
    metric_words,
    where_lower,
)
from costmodel.questions.sparse_attention import payoff_sentences
from costmodel.routing.by_population import histograms_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantage:
    """Batches (first, last) over which `model` needs less of `metric` than `reference`.

    Found by a scan in steps of 2 % of the batch and a search within each change of sign, so that a
    pair of crossings less than 2 % apart would be missed. `last` is None where the advantage holds
    up to `known_to`: the largest batch sought, that of the tokens that a histogram holds or else
    `MAX_BATCH`. `max_batch` is the largest batch at which both models fit the GPU. A predicted time
    is that of `backend`: other kernels have other times.
    """

    model: str
    reference: str
    metric: Metric
    intervals: tuple[tuple[int, int | None], ...]
    max_batch: int
    backend: Backend
    known_to: int = MAX_BATCH

    @property
    def metric_words(self) -> str:
        """The label of the metric; of a predicted time with its backend."""
        return metric_words(self.metric, self.backend)

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
    """Predictions by batch, then by model in the order given; advantages over the first model.

    On several GPUs there are no advantages: a mesh need not divide every batch, and what holds at
    those compared is told instead.
    """

    batches: tuple[int, ...]
    predictions: tuple[tuple[Prediction, ...], ...]
    advantages: tuple[Advantage, ...]

    @property
    def is_meshed(self) -> bool:
        """Whether some step runs on several GPUs."""
        return any(prediction.gpus > 1 for row in self.predictions for prediction in row)

    def findings(self) -> list[str]:
        """Which model is ahead at which batch, and where its attention pays, in words.

        The latter at the first and the last batch, of models that choose what they attend to.
        """
        ahead = mesh_sentences(self.predictions) if self.is_meshed else sentences(self.advantages)
        ends = dict.fromkeys((0, len(self.predictions) - 1))
        chosen = [
            sentence
            for place in range(len(self.predictions[0]))
            for row in ends
            for sentence in payoff_sentences(self.predictions[row][place])
        ]
        return ahead + list(dict.fromkeys(chosen))  # models may come twice


def sentences(advantages: Sequence[Advantage]) -> list[str]:
    """The advantages in words, and which batches fit; metrics of equal ranges share a sentence."""
    groups: dict[tuple[object, ...], list[Advantage]] = {}
    for one in advantages:
        key = (one.model, one.reference, one.intervals, one.max_batch, one.known_to)
        groups.setdefault(key, []).append(one)
    written = []
    for group in groups.values():
        model, reference, intervals = group[0].model, group[0].reference, group[0].intervals
        metrics = dict.fromkeys(same.metric_words for same in group)  # models may come twice
        head = f"{model} has lower {' and '.join(metrics)} than {reference}"
        known_to = group[0].known_to
        beyond = "" if known_to == MAX_BATCH else f" Batches beyond {known_to:,} are not known."
        if not intervals:
            written.append(f"{head} at no batch up to {known_to:,}.{beyond}")
            continue
        written.append(f"{head} {range_words(intervals)}. {group[0].what_fits()}{beyond}")
    return written


def range_words(ranges: Sequence[tuple[int, int | None]]) -> str:
    """Ranges of batches: `at batch 4 and from batch 7 to 151`; one without an end goes up."""
    return " and ".join(
        f"from batch {first:,} up"
        if last is None
        else f"at batch {first:,}"
        if first == last
        else f"from batch {first:,} to {last:,}"
        for first, last in ranges
    )


def compare(
    models: Sequence[ModelConfig],
    workload: Workload,
    hardware: Hardware,
    *,
    batches: Sequence[int],
    calibration: Curves | Unknown = NOT_ASKED,
) -> Comparison:
    """All models at all batches, and each model's advantage over the first.

    A mesh that is left to be chosen is chosen for each model and batch.
    """
    rows = tuple(
        tuple(
            predict(model, replace(workload, batch=batch), hardware, calibration)
            for model in models
        )
        for batch in batches
    )
    plain = Comparison(batches=tuple(batches), predictions=rows, advantages=())
    if plain.is_meshed:
        return plain
    workload = replace(workload, mesh=ONE_GPU)
    first = rows[0]
    timed = not any(isinstance(prediction.time, Unknown) for prediction in first)
    metrics = METRICS + CALIBRATED if timed else METRICS
    known_to = [known_batches(model, workload) for model in models]
    by_batch = [Metrics(model, workload, hardware, calibration) for model in models]
    return replace(
        plain,
        advantages=tuple(
            Advantage(
                model=models[i].name,
                reference=models[0].name,
                metric=metric,
                intervals=where_lower(
                    by_batch[i], by_batch[0], metric, min(known_to[0], known_to[i])
                ),
                max_batch=int(min(first[0].memory.max_batch, first[i].memory.max_batch)),
                backend=workload.backend,
                known_to=min(known_to[0], known_to[i]),
            )
            for i in range(1, len(models))
            for metric in metrics
        ),
    )


def known_batches(model: ModelConfig, workload: Workload) -> int:
    """The largest batch whose bytes the routing can give: `MAX_BATCH`, but for a histogram."""
    work = workload.of_model(model)

    def unknown(batch: int) -> bool:
        costs = step_costs(model, work.step(batch=batch))
        return is_unknown(costs.totals.compulsory_bytes)

    if not histograms_of(workload.routing) or not unknown(MAX_BATCH):
        return MAX_BATCH
    known, beyond = 0, MAX_BATCH
    while beyond - known > 1:
        middle = (known + beyond) // 2
        known, beyond = (known, middle) if unknown(middle) else (middle, beyond)
    return known


def advantage(
    model: ModelConfig,
    reference: ModelConfig,
    workload: Workload,
    hardware: Hardware,
    metric: Metric,
    *,
    calibration: Curves | Unknown = NOT_ASKED,
    known_to: int = MAX_BATCH,
) -> tuple[tuple[int, int | None], ...]:
    """The ranges of batches over which `model` needs less of `metric` than `reference`.

    Batches beyond `known_to` are not sought.
    """
    mine, others = (Metrics(each, workload, hardware, calibration) for each in (model, reference))
    return where_lower(mine, others, metric, known_to)
