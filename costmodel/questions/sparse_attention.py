"""From which context attention to chosen tokens pays, and what the choice of a long prompt holds.

A model with such layers stands beside its dense twin: the same model whose layers attend to all
tokens (`MixerKind.dense_twin`). It saves reads and FLOPs beyond the tokens that it may choose, and
pays for the choice: weights, keys and scores of all tokens.
"""

from dataclasses import dataclass, replace

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.inputs.model import ModelConfig, Override
from costmodel.inputs.workload import MAX_CONTEXT, Backend
from costmodel.layers.base import MixerKind
from costmodel.questions.crossings import (
    CALIBRATED,
    METRICS,
    Metric,
    Metrics,
    Ranges,
    metric_words,
    where_lower,
)

TELLS_APART = 1.05
TELLS_FROM_BYTES = 10**9  # logits of fewer bytes are no news


@dataclass(frozen=True, slots=True, kw_only=True)
class Payoff:
    """Cached tokens a sequence over which the chosen attention needs less than the dense one."""

    metric: Metric
    contexts: Ranges  # of 1 to `MAX_CONTEXT`
    batch: int
    backend: Backend


def dense_twin(model: ModelConfig) -> ModelConfig | None:
    """The model with dense attention wherever it chooses tokens; None: it never chooses.

    Its formats are those of the workload: it has no storage of its own.
    """

    def dense(mixer: MixerKind) -> MixerKind:
        return mixer.dense_twin() or mixer

    if all(mixer.dense_twin() is None for mixer, _ in model.attention_groups):
        return None
    return replace(
        model,
        attention=dense(model.attention),
        overrides=tuple(_dense(override) for override in model.overrides),
        storage=None,
    )


def _dense(override: Override) -> Override:
    mixer = override.attention
    return override if mixer is None else replace(override, attention=mixer.dense_twin() or mixer)


def payoffs(prediction: Prediction) -> tuple[Payoff, ...]:
    """Where the step of a prediction needs less than that of its dense twin, by each metric.

    Batch, new tokens and all else stay as they are. None for a model that chooses no tokens; on
    several GPUs, of all of them together. A predicted time is compared where there is one.
    """
    twin, workload = dense_twin(prediction.model), prediction.workload
    if twin is None:
        return ()
    sides = [
        Metrics(model, workload, prediction.hardware, prediction.calibration, axis="context")
        for model in (prediction.model, twin)
    ]
    timed = not isinstance(prediction.time, Unknown)
    return tuple(
        Payoff(
            metric=metric,
            contexts=where_lower(sides[0], sides[1], metric, MAX_CONTEXT),
            batch=workload.batch,
            backend=workload.backend,
        )
        for metric in (METRICS + CALIBRATED if timed else METRICS)
    )


def payoff_sentences(prediction: Prediction) -> list[str]:
    """From which context attention to chosen tokens pays, in words; none where none is chosen."""
    alike: dict[Ranges, list[Payoff]] = {}
    for payoff in payoffs(prediction):
        alike.setdefault(payoff.contexts, []).append(payoff)
    mixers = [mixer for mixer, _ in prediction.model.attention_groups]
    sparse = {mixer.sparse_words for mixer in mixers if mixer.dense_twin() is not None}
    words = " and ".join(sorted(sparse))
    return [
        f"At batch {group[0].batch:,}, {words} ({prediction.model.name}) has"
        f" lower {' and '.join(metric_words(one.metric, one.backend) for one in group)} than dense"
        f" attention {ranges_words(contexts)}."
        for contexts, group in alike.items()
    ]


def ranges_words(contexts: Ranges) -> str:
    """`from about 33,800 cached tokens up`; ranges less than 5 % apart are one.

    Entries that become whole, and blocks that open, make the needs of single contexts uneven.
    """
    contexts = _joined(contexts)
    if not contexts:
        return f"at no context up to {MAX_CONTEXT:,}"
    if contexts == ((1, None),):
        return "at every context"
    return " and ".join(
        f"from about {_about(first)} cached tokens {'up' if last is None else f'to {_about(last)}'}"
        for first, last in contexts
    )


def _joined(ranges: Ranges) -> Ranges:
    joined: list[tuple[int, int | None]] = []
    for first, last in ranges:
        before = joined[-1] if joined else None
        if before is not None and before[1] is not None and first <= before[1] * TELLS_APART:
            joined[-1] = before[0], last
        else:
            joined.append((first, last))
    return tuple(joined)


def _about(tokens: int) -> str:
    return f"{float(f'{tokens:.3g}'):,.0f}"


def logits_note(prediction: Prediction) -> tuple[str, ...]:
    """What the scores of a choice hold while a step makes it, in words, where that is a lot.

    They stand in the footprint; of several GPUs, on each the sequences that it has.
    """
    step = prediction.workload.step()
    most = max(mixer.logits_bytes(step) for mixer, _ in prediction.model.attention_groups)
    if most < TELLS_FROM_BYTES:
        return ()
    new, held = f"{step.new_tokens:,}", f"{step.cached + step.new_tokens:,}"
    each = units.formatted(most / (step.tokens * (step.cached + step.new_tokens)), "bytes")
    note = (
        f"The scores of {new} new tokens with {held} held ones, {each} each, take"
        f" {units.formatted(most, 'bytes')} in every layer that chooses what it attends to, one"
        " layer at a time. The footprint holds them whole; a prompt in chunks of fewer new tokens"
        " needs less."
    )
    return (note,)
