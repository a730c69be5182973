"""Served requests on the Explore page: the cards of a user and a payer, and the table."""

from dataclasses import replace

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.questions.request import Served
from costmodel.show.request_answers import Answer, answers, reasons
from costmodel.show.text import capitalised
from costmodel.show.told_times import interval_notes, transfer_words
from dashboard.app.widgets import Card
from dashboard.pages.explore.beside import AT_LEAST, AT_MOST, WORDS, bounded

CARDS = (  # those of the answers that have a card, by their names in the JSON of a request
    "ttft.predicted_s",
    "tpot.predicted_s",
    "cost.predicted_usd_per_million_output_tokens",
    "throughput.predicted_tokens_per_s",
    "latency.predicted_s",
    "energy.j_per_million_output_tokens",
)
BOUND = STEP_QUANTITIES["time.floor_s"].label
NO_BOUND = f"no {BOUND}"  # of energy


def request_cards(served: Served) -> list[Card]:
    """What a user and a payer ask first, as predicted; the help of a card has its bound."""
    cards = []
    for answer in map(answers(served).__getitem__, CARDS):
        bound = answer.bound_words
        card = Card(
            label=capitalised(answer.quantity.label),
            value=answer.predicted_words,
            help=f"{capitalised(answer.quantity.counts)}."
            + ("" if bound is None else f" {capitalised(BOUND)}: {bound}."),
        )
        if isinstance(answer.predicted, Unknown) and isinstance(answer.bound, int | float):
            card = bounded(replace(card, help=answer.predicted.reason), _sign(answer), str(bound))
        cards.append(card)
    return cards


def _sign(answer: Answer) -> str:
    """Whether the bound is the least or the most that the answer can be."""
    return AT_MOST if answer.quantity.unit == "tokens_per_s" else AT_LEAST


def _predicted(answer: Answer) -> str:
    """The predicted value; where there is none, its bound, named as one."""
    if isinstance(answer.predicted, Unknown) and isinstance(answer.bound, int | float):
        return f"{WORDS[_sign(answer)]} {answer.bound_words} ({BOUND})"
    return answer.predicted_words


def request_rows(served: Served) -> tuple[list[dict[str, str]], list[str]]:
    """Every answer, where no time is predicted by its bound, and why some are not known."""
    rows = [
        {
            "Quantity": capitalised(answer.quantity.label),
            "Predicted": _predicted(answer),
            capitalised(BOUND): answer.bound_words or NO_BOUND,
            "What it counts": answer.quantity.counts,
        }
        for answer in answers(served).values()
    ]
    notes = [f"{units.NOT_KNOWN}: {reason}." for reason in reasons(served)]
    if words := transfer_words([served.prefill_step]):
        notes = [f"Predicted times are {words}.", *interval_notes(served), *notes]
    return rows, notes
