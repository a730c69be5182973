"""Where predictions of steps are off: their errors by batch, by context, by new tokens, by model.

Of the quantities that people ask for, of each backend and phase by itself. Steps that only have a
bound are left out: nothing is expected to equal it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from costmodel.recordings.error_measures import Errors, errors_of
from costmodel.recordings.quantities import RunName
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.error_stats import Origin
from costmodel.validation.joined import JoinedColumn

QUANTITIES: tuple[tuple[str, RunName], ...] = (
    ("graph_s", "time"),
    ("kernel_s", "trace"),
    ("energy_j", "energy"),
)
By: TypeAlias = Literal["batch", "context", "new_tokens", "model"]
BY: Mapping[str, tuple[By, ...]] = {  # by phase; a prompt of the plans is one, after nothing
    "decode": ("batch", "context", "model"),
    "prefill": ("new_tokens", "model"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The errors of the steps that agree in one thing: in `by`, which is `value`.

    `model` is the short name of a model.
    """

    quantity: str
    backend: str
    phase: str
    by: By
    value: int | str
    errors: Errors


def breakdowns(
    columns: Mapping[tuple[str, RunName], Sequence[tuple[Origin, JoinedColumn]]],
) -> Iterator[Breakdown]:
    """The errors of every quantity, backend and phase, by one thing after another, in order."""
    for key in QUANTITIES:
        ratios: dict[tuple[str, str], list[tuple[Origin, float]]] = {}
        for origin, ratio in predicted_ratios(columns.get(key, ())):
            ratios.setdefault((origin.backend, origin.workload.phase), []).append((origin, ratio))
        for (backend, phase), of_steps in sorted(ratios.items(), reverse=True):
            for by in BY[phase]:
                groups: dict[int | str, list[float]] = {}
                for origin, ratio in of_steps:
                    groups.setdefault(_value(origin, by), []).append(ratio)
                for value in sorted(groups, key=lambda value: (isinstance(value, str), value)):
                    yield Breakdown(
                        quantity=key[0],
                        backend=backend,
                        phase=phase,
                        by=by,
                        value=value,
                        errors=errors_of(groups[value]),
                    )


def predicted_ratios(
    columns: Iterable[tuple[Origin, JoinedColumn]],
) -> Iterator[tuple[Origin, float]]:
    """Measured over predicted of each step that has both, however it chose its experts or rows."""
    for origin, column in columns:
        if column.of_step and column.counterparts[0].basis == PREDICTED:
            measured, predicted = column.measured[0], column.counterparts[0].value
            if measured and predicted:
                yield origin, float(measured) / float(predicted)


def _value(origin: Origin, by: By) -> int | str:
    value: int | str = origin.model if by == "model" else getattr(origin.workload, by)
    return value
