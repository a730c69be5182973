"""The cards of one case, and its rates, utilisation and routing cost, measured and predicted."""

from dataclasses import dataclass

from costmodel import units
from costmodel.costs.quantities.utilisation import UTILISATION_QUANTITIES
from costmodel.recordings.quantities import QUANTITIES
from costmodel.show.text import capitalised
from costmodel.show.told_times import digits_of
from costmodel.units import Unit
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.utilisation import Figure, predicted_utilisation
from dashboard.app.widgets import not_measured
from dashboard.pages.measured.data import ComparedCase

MEASURED = ("graph_s", "eager_s", "hbm_read_bytes", "energy_j")  # that have cards
FIGURES = ("mbu", "mfu", "tokens_per_s", "routing_share")  # that have cards
NO_ROW = "leaves_read_bytes"  # the table has its share of the step's reads


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCard:
    """A measured number and its counterpart, as text; None where there is none."""

    label: str
    measured: str | None
    counterpart: str | None
    meaning: str
    reason: str = ""  # why it was not measured; from a file, so not for Markdown


def measured_cards(case: ComparedCase) -> tuple[MeasuredCard, ...]:
    """The cards of a case: measured numbers of the step, and rates and utilisation."""
    cards, digits = [], digits_of(case.side.times)
    for name in MEASURED:
        row = case.step(name)
        predicted = None if row.predicted is None else float(row.predicted)
        cards.append(
            _card(
                QUANTITIES[name].title,
                Figure(value=row.measured, reason=row.reason),
                predicted,
                QUANTITIES[name].unit,
                digits=digits,
                basis=row.basis,
                meaning=row.basis,
            )
        )
    for name in FIGURES:
        quantity = UTILISATION_QUANTITIES[name]
        measured, predicted = _figures(case, name)
        cards.append(
            _card(
                quantity.label,
                measured,
                predicted,
                quantity.unit,
                digits=digits,
                basis=PREDICTED,
                meaning=quantity.counts,
            )
        )
    return tuple(cards)


def achieved_rows(case: ComparedCase) -> list[dict[str, str]]:
    """Rates, utilisation and the cost of routing: measured or why not, predicted, their ratio."""
    rows, digits = [], digits_of(case.side.times)
    for name, quantity in UTILISATION_QUANTITIES.items():
        if name == NO_ROW:
            continue
        figure, predicted = _figures(case, name)
        rows.append(
            {
                "Figure": capitalised(quantity.label),
                "Measured": not_measured(figure.reason or "")
                if figure.value is None
                else units.formatted(figure.value, quantity.unit),
                "Predicted": "" if predicted is None else _shown(predicted, quantity.unit, digits),
                "Ratio": units.ratio(figure.value / predicted)
                if figure.value and predicted
                else "",
                "What it counts": quantity.counts,
            }
        )
    return rows


def _shown(predicted: float, unit: Unit, digits: int) -> str:
    """A predicted number, with the digits of its time where it follows from one."""
    counted = unit in {"count", "bytes", "flops"}
    return units.formatted(predicted if counted else units.rounded(predicted, digits), unit)


def _figures(case: ComparedCase, name: str) -> tuple[Figure, float | None]:
    """A figure of the step as measured, and as predicted where it is."""
    measured: Figure = getattr(case.achieved, name)
    predicted: float | None = getattr(
        predicted_utilisation(case.side, case.achieved.time_of), name, None
    )
    return measured, predicted


def _card(
    label: str,
    measured: Figure,
    predicted: float | None,
    unit: Unit,
    *,
    digits: int,
    basis: str,
    meaning: str,
) -> MeasuredCard:
    counterpart = None
    if predicted is not None:
        ratio = units.ratio(measured.value / predicted) if measured.value and predicted else ""
        name = basis.split(",", maxsplit=1)[0].removesuffix(" bytes")
        value = _shown(predicted, unit, digits) if basis.startswith(PREDICTED) else None
        counterpart = f"{name} {value or units.formatted(predicted, unit)}" + (
            f" ({ratio})" if ratio else ""
        )
    return MeasuredCard(
        label=capitalised(label),
        measured=None if measured.value is None else units.formatted(measured.value, unit),
        counterpart=counterpart,
        meaning=meaning,
        reason=measured.reason or "",
    )
