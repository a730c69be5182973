"""Served requests on the Explore page: the cards of a user and a payer, and the table.

Numbers are those of `sparsecost request`, formatted by `costmodel.units`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.questions.request import Estimate, Served
from costmodel.show.tables.request import request_tables
from dashboard.app.widgets import Card

NO_FLOOR = "no floor"  # of energy
ServedNumber = Estimate | float | Unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedCard:
    """A number of served requests that has a card."""

    label: str
    meaning: str
    value: Callable[[Served], ServedNumber]
    form: Callable[[float], str]


SERVED = (
    ServedCard(
        label="TTFT",
        meaning="Time to first token: the prefill of the whole batch",
        value=lambda served: served.ttft_s,
        form=units.seconds,
    ),
    ServedCard(
        label="TPOT",
        meaning="Time per output token after the first: the mean decode step",
        value=lambda served: served.tpot_s,
        form=units.seconds,
    ),
    ServedCard(
        label="Output speed",
        meaning="Output tokens of the batch over its latency",
        value=lambda served: served.tokens_per_s,
        form=lambda rate: units.scaled(rate, "token/s"),
    ),
    ServedCard(
        label="Latency of a request",
        meaning="From the start of the prefill to the last token",
        value=lambda served: served.latency_s,
        form=units.seconds,
    ),
    ServedCard(
        label="Energy per 1M output",
        meaning="Energy of prefill and decode per million output tokens",
        value=lambda served: served.j_per_million_output_tokens,
        form=lambda joules: units.scaled(joules, "J"),
    ),
    ServedCard(
        label="Cost per 1M output",
        meaning="Price of the GPU for prefill and decode per million output tokens",
        value=lambda served: served.usd_per_million_output_tokens,
        form=lambda usd: f"{units.significant(usd)} USD",
    ),
)


def request_cards(served: Served) -> list[Card]:
    """The numbers of `SERVED` as cards; the help of each has its roofline bound."""
    cards = []
    for card in SERVED:
        value, at_best = card.value(served), ""
        if isinstance(value, Estimate):
            if not isinstance(value.floor, Unknown):
                at_best = f" Roofline bound: {card.form(value.floor)}."
            value = value.predicted
        cards.append(
            Card(
                label=card.label,
                value=units.NOT_KNOWN if isinstance(value, Unknown) else card.form(value),
                help=f"{card.meaning}, as predicted.{at_best}",
            )
        )
    return cards


def request_rows(served: Served) -> tuple[list[dict[str, str]], list[str]]:
    """The table of served requests as `sparsecost request` prints it; why numbers are missing."""
    answers = request_tables(served)[0]
    rows, quantity = [], ""
    for name, what, floor, predicted in answers.rows:
        quantity = name or quantity
        least = NO_FLOOR if floor == "-" else floor
        rows.append(
            {"Quantity": quantity, "What": what, "By the floor": least, "Predicted": predicted}
        )
    return rows, [note for note in answers.notes if note.startswith(units.NOT_KNOWN)]
