"""Held-out accuracy as people read it: errors and intervals by phase and backend, and each step."""

from collections.abc import Sequence

from costmodel import units
from costmodel.costs.intervals import COVERAGE
from costmodel.costs.quantities.quantity import DIGITS_OF_TIMES
from costmodel.questions.claims.held_out import (
    PAGE,
    QUANTITIES,
    HeldOutStep,
    Quantity,
    accuracies,
    held_out,
)
from costmodel.recordings.error_measures import LOG_ERROR, LOG_ERROR_MEANS, MAPE, MAPE_MEANS
from costmodel.recordings.quantities import QUANTITIES as MEASURED
from costmodel.show.text import Table, capitalised

PROCESSES = 3  # that the protocol asks of times
INTERVAL = f"{100 * COVERAGE:.0f} % interval"
MEANINGS = f"{MAPE}: {MAPE_MEANS}. {LOG_ERROR.capitalize()}: {LOG_ERROR_MEANS}."
HEADERS = (
    *("model", "backend", "phase", "batch", "context", "new tokens"),
    *("predicted", INTERVAL, "measured", "measured / predicted", "within"),
)
WITHIN = {None: units.NOT_KNOWN, True: "yes", False: "NO"}


def held_out_tables() -> list[Table]:
    """Errors of each measured quantity, then each quantity's steps, worst first."""
    known = [quantity for quantity in QUANTITIES.values() if accuracies(quantity)]
    steps = [step_table(quantity, held_out().select(quantity)) for quantity in known]
    return [*map(accuracy_table, known), *steps]


def accuracy_table(quantity: Quantity) -> Table:
    """Errors of a quantity and how often its intervals held, by phase and backend."""
    return Table(
        title=f"{capitalised(_title(quantity))} of held-out models, predicted and measured",
        headers=("phase", "backend", "steps", MAPE, LOG_ERROR, "worst", "within", "half-width"),
        rows=tuple(
            (
                *(one.phase, one.backend, units.count(one.errors.count)),
                *map(_percent, (one.errors.mape, one.errors.log_error, one.worst)),
                f"{one.within} of {one.intervals}",
                units.NOT_KNOWN if one.half_width is None else _percent(one.half_width),
            )
            for one in accuracies(quantity)
        ),
        text_columns=2,
        notes=(
            protocol(),
            f"{MEANINGS} Within: of their {INTERVAL}; half-width: its median.",
        ),
    )


def step_table(quantity: Quantity, steps: Sequence[HeldOutStep]) -> Table:
    """Each step of a quantity."""
    return Table(
        title=f"Held-out steps: {_title(quantity)}, worst first",
        headers=HEADERS,
        rows=tuple(map(step_cells, steps)),
        text_columns=3,
        ends_in_text=True,
    )


def step_cells(step: HeldOutStep) -> tuple[str, ...]:
    """One step, under `HEADERS`."""
    interval = units.NOT_KNOWN
    if step.low is not None and step.high is not None:
        interval = f"{_predicted(step, step.low)} to {_predicted(step, step.high)}"
    return (
        *(step.model, step.backend, step.phase),
        *map(units.count, (step.batch, step.context, step.new_tokens)),
        _predicted(step, step.predicted),
        interval,
        units.formatted(step.measured, MEASURED[step.quantity].unit),
        units.ratio(step.ratio),
        WITHIN[step.within],
    )


def sentence(title: str) -> str:
    """How far predictions of a quantity, one of `QUANTITIES`, were off on held-out models."""
    told = ", ".join(
        f"{_percent(one.errors.mape)} ({one.phase}, {one.backend})"
        for one in accuracies(QUANTITIES[title])
    )
    if not told:
        return f"Predicted {title} of models never seen: not measured yet"
    return f"Predicted {title} of models never seen is off by {told}, {MAPE}"


def protocol() -> str:
    """Where the held-out steps come from, and what is lacking."""
    shipped = held_out()
    models = len({step.model for step in shipped.steps})
    processes = max(step.processes for step in shipped.select("graph_s"))
    told = (
        f"{models} models drawn at random; nothing of them was used to write or fit the cost model."
        f" Predictions were committed on {shipped.committed[:10]} and measured afterwards on an"
        f" {shipped.gpu.removeprefix('NVIDIA ')}, times in {processes} of {PROCESSES} processes."
    )
    lacking = [title for title, quantity in QUANTITIES.items() if not accuracies(quantity)]
    if lacking:
        told += f" Not measured yet: {', '.join(lacking)}."
    if not shipped.unchanged:
        told += " The cost model has changed since and predicts other numbers now."
    return f"{told} Protocol and targets: {PAGE}."


def _predicted(step: HeldOutStep, value: float) -> str:
    return units.formatted(units.rounded(value, DIGITS_OF_TIMES), MEASURED[step.quantity].unit)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _title(quantity: Quantity) -> str:
    return MEASURED[quantity].title
