"""The sentence that opens a report: which model is the fastest, by how much, under what."""

from collections import defaultdict

from costmodel import units
from costmodel.costs.quantities.quantity import DIGITS_OF_TIMES
from costmodel.show.told_times import shown
from dashboard.report.document import Report, StepCosts
from dashboard.report.quantities import REPORTED
from dashboard.report.words import (
    mesh_words,
    points,
    step_digits,
    step_words,
    steps_at,
    workload_words,
)

PREDICTED, BOUND = REPORTED["time.predicted_s"], REPORTED["time.floor_s"]
MOST_POINTS = 3  # of batch and context that one sentence lists; of more it gives their number


def verdict(report: Report) -> str:
    """Who wins, and what was assumed.

    Times are predicted where all of the report are, else roofline bounds. A model whose step does
    not fit the memory wins nothing.
    """
    predicted = all(step.values.get(PREDICTED.name) is not None for step in report.steps)
    basis = PREDICTED.label if predicted else f"{BOUND.label}, since not all times are predicted"
    gpu = f"on {report.inputs.hardware.name}{mesh_words(report.inputs.workload.mesh)}"
    by_answer: dict[str, list[str]] = defaultdict(list)
    for point in points(report):
        answer, ratio = _answer(steps_at(report, point), predicted=predicted)
        by_answer[answer].append(step_words(*point) + (f" ({ratio})" if ratio else ""))
    answers = "; ".join(f"{answer} {_at(places)}" for answer, places in by_answer.items())
    return f"In short: {answers}, {gpu}, by {basis}, assuming {workload_words(report)}."


def _answer(steps: list[StepCosts], *, predicted: bool) -> tuple[str, str]:
    """Who wins at one batch and context, and how its time compares with the next one's."""
    quantity = PREDICTED if predicted else BOUND
    times = {step.model: float(step.values[quantity.name] or 0) for step in steps}
    fitting = sorted(
        (times[step.model], step.model) for step in steps if step.values["memory.fits"]
    )
    if not fitting:
        return f"{'no model fits' if len(steps) > 1 else 'the step does NOT fit'} the memory", ""
    least_s, first = fitting[0]
    digits = min(map(step_digits, steps)) if predicted else DIGITS_OF_TIMES
    time = f"{'' if predicted else 'at least '}{shown(quantity, least_s, digits)} a step"
    if len(steps) == 1:
        return f"a step of {first} fits the memory", time
    if len(fitting) == 1:
        return f"only {first} fits the memory", time
    next_s, second = fitting[1]
    if units.rounded(least_s, digits) == units.rounded(next_s, digits):
        return f"{first} and {second} take the same time", time
    share = units.ratio(least_s / next_s, digits)
    best = "fastest" if len(steps) > len((first, second)) else "faster"
    return f"{first} is the {best}", f"{time}, {share} the time of {second}"


def _at(places: list[str]) -> str:
    if len(places) <= MOST_POINTS:
        return f"at {' and at '.join(places)}"
    return f"at {len(places)} of the batches and contexts"
