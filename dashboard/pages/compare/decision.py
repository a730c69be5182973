"""What a reader of the page Compare decides by: times, crossover, fit and cost, in one sentence.

Times are predicted where a calibration predicts them, else roofline bounds; measured ones are of
the very step on the same GPU, by each backend that a recording has.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

from costmodel import units
from costmodel.costs.intervals import COVERAGE
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.workload import MAX_BATCH, Backend
from costmodel.layers.mesh import ONE_GPU
from costmodel.questions.compare import Advantage, range_words
from costmodel.questions.request import HOUR_S, MILLION
from costmodel.show.text import capitalised
from costmodel.show.told_times import digits_of, interval_words, transfer_words
from dashboard.app.measured_points import Recorded, measured_step, points

TIME = "time.predicted_s"
DIGITS = STEP_QUANTITIES[TIME].digits
BOUND = STEP_QUANTITIES["time.floor_s"].label

Measured = Mapping[Backend, Sequence[float | None]]
"""The measured times of all models, in seconds, by the backend whose kernels ran."""


def timed(predictions: Sequence[Prediction]) -> bool:
    """Whether the times of all models are predicted."""
    return not any(isinstance(prediction.time, Unknown) for prediction in predictions)


def times(predictions: Sequence[Prediction]) -> list[float]:
    """Seconds of each model's step: predicted if all are, else roofline bounds."""
    if not timed(predictions):
        return [float(prediction.floor_s) for prediction in predictions]
    return [
        float(prediction.time.predicted_s)
        for prediction in predictions
        if not isinstance(prediction.time, Unknown)
    ]


def measured_times(
    predictions: Sequence[Prediction], recordings: Sequence[Recorded], hardware_name: str
) -> Measured:
    """The measured times of the sidebar's step; backends without any are left out.

    `recordings` are those of each model.
    """
    measured: dict[Backend, list[float | None]] = {}
    for backend in get_args(Backend):
        points = [
            measured_step(of_model, replace(one.workload, backend=backend), hardware_name).get(TIME)
            for one, of_model in zip(predictions, recordings, strict=True)
        ]
        if any(points):
            measured[backend] = [None if point is None else point.value for point in points]
    return measured


def not_predicted(predictions: Sequence[Prediction], recordings: Sequence[Recorded]) -> str:
    """Why times are not predicted or transferred, and what was measured of the same step.

    Empty where all are predicted from measurements. On another GPU than that of the page, the words
    name it.
    """
    reasons = [one.time.reason for one in predictions if isinstance(one.time, Unknown)]
    words = f"not predicted: {reasons[0]}" if reasons else transfer_words(predictions)
    if not words:
        return ""
    workload = predictions[0].workload
    by_maker: dict[str, list[str]] = defaultdict(list)
    both = zip(predictions, recordings, strict=True)
    for one, of_model in both if workload.mesh == ONE_GPU else ():
        for backend in get_args(Backend):
            same_step = replace(one.workload, backend=backend)
            for point in points(of_model, TIME, same_step, "batch"):
                if point.x == workload.batch:
                    on = f"{point.device} by the backend {backend}"
                    took = units.seconds(units.rounded(point.value, DIGITS))
                    by_maker[on].append(f"{one.model.name} {took} ({point.source})")
    told = "; ".join(f"on {on}: {', '.join(times)}" for on, times in sorted(by_maker.items()))
    if told:
        told = (
            f" Measured of this step, in {workload.dtype_label} under {workload.routing.label}"
            f" routing, {told}."
        )
    return f"{capitalised(words)}.{told}"


def headline(predictions: Sequence[Prediction]) -> str:
    """The title: the fastest model, and how much less time it takes than the next one."""
    known = sorted(zip(times(predictions), (one.model.name for one in predictions), strict=True))
    (least, model), (following, other) = known[:2]
    basis = (
        f"predicted with the backend {predictions[0].workload.backend}{_transferred(predictions)}"
        if timed(predictions)
        else f"by the {BOUND}"
    )
    at = f"at batch {predictions[0].workload.batch:,}, {basis}"
    shown = digits(predictions)
    if units.rounded(least, shown) == units.rounded(following, shown):
        return f"{model} and {other} take the same time {at}"
    return f"{model} takes {_ratio(least / following, shown)} the time of {other} {at}"


def sentence(
    predictions: Sequence[Prediction],
    measured: Measured,
    advantages: Sequence[Advantage],
    price_per_hour: float | None,
) -> str:
    """Times as predicted and measured, crossover, fit and cost of all models, in their order."""
    names = " / ".join(one.model.name for one in predictions)
    basis = "predicted" if timed(predictions) else f"at least ({BOUND})"
    parts = [f"{basis} {_each(times(predictions), digits(predictions))}"]
    ends = [one.time.interval_s for one in predictions if isinstance(one.time, StepTime)]
    known = [interval_words(interval) for interval in ends if interval is not None]
    if timed(predictions) and known:
        parts.append(f"intervals of {COVERAGE:.0%}: {' / '.join(known)}")
    if words := transfer_words(predictions):
        parts.append(f"these are {words}")
    parts += [f"measured with {backend} {_each(values)}" for backend, values in measured.items()]
    if not measured:
        parts.append("not measured in this step on this GPU")
    parts += _crossovers(advantages, predictions[0].model.name)
    fits = " / ".join(units.count(int(one.memory.max_batch)) for one in predictions)
    lacking = [one.model.name for one in predictions if not one.memory.fits]
    parts.append(
        f"fits up to batch {fits}" + (f" (NOT here: {', '.join(lacking)})" if lacking else "")
    )
    if price_per_hour is not None:
        least = "" if timed(predictions) else "at least "
        usd = [
            one.gpus * price_per_hour * seconds / HOUR_S / _tokens(one) * MILLION
            for one, seconds in zip(predictions, times(predictions), strict=True)
        ]
        each = " / ".join(units.significant(value, digits(predictions)) for value in usd)
        parts.append(f"{least}{each} USD a million tokens")
    return f"{names}: {'; '.join(parts)}."


def _tokens(prediction: Prediction) -> int:
    return prediction.workload.batch * prediction.workload.new_tokens


def _ratio(value: float, digits: int) -> str:
    """A ratio of two times, with the digits of a prediction: 0.90x in two."""
    return units.ratio(value, digits)


def digits(predictions: Sequence[Prediction]) -> int:
    """Significant digits of the times: fewer where an interval is wide; bounds have no interval."""
    return digits_of(*(one.time for one in predictions)) if timed(predictions) else DIGITS


def _transferred(predictions: Sequence[Prediction]) -> str:
    words = transfer_words(predictions)
    return f" ({words})" if words else ""


def _each(values: Sequence[float | None], digits: int = DIGITS) -> str:
    """Times of all models, each but the first with its ratio to the first."""
    first, words = values[0], []
    for index, value in enumerate(values):
        text = units.NOT_KNOWN if value is None else units.seconds(units.rounded(value, digits))
        if index and value and first:
            text += f" ({_ratio(value / first, digits)})"
        words.append(text)
    return " / ".join(words)


def _crossovers(advantages: Sequence[Advantage], reference: str) -> list[str]:
    """Over which batches each model is faster than the first."""
    return [
        f"{one.model} is the faster {range_words(one.intervals)}"
        if one.intervals
        else f"{reference} is the faster at every batch up to {min(one.known_to, MAX_BATCH):,}"
        for one in advantages
    ]
