"""What stands beside the numbers of Explore's cards: measured ones, and bounds of unknown ones.

A measured number is one of the very step: the model, workload, GPU and backend of the sidebar.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from costmodel import units
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.show.text import capitalised
from dashboard.app.measured_points import Point
from dashboard.app.widgets import Card

JSON = dict[str, Any]
Measured = Mapping[str, Point]  # of the very step, by the predicted quantity
BOUND = STEP_QUANTITIES["time.floor_s"].label
AT_LEAST, AT_MOST = "\u2265", "\u2264"
WORDS = {AT_LEAST: "at least", AT_MOST: "at most"}
BOUNDS = {  # of numbers that may not be predicted: the sign, and the bound in the JSON
    "time.predicted_s": (AT_LEAST, "floor_s"),
    "time.tokens_per_s": (AT_MOST, "floor_tokens_per_s"),
}
MEASURED = {  # by the number of a card: the measured one, and what it is called
    "time.predicted_s": ("time.predicted_s", "measured"),
    "energy.j_per_token": ("energy.predicted_j", "measured"),
    "hbm_bytes.compulsory": ("hbm_bytes.compulsory", "measured reads"),
}


def beside(cards: Sequence[Card], data: JSON, measured: Measured) -> list[Card]:
    """The cards of a step, with what was measured and with bounds in place of unknown numbers."""
    changed = {_label(name): name for name in {**BOUNDS, **MEASURED}}
    return [
        _beside(card, changed[card.label], data, measured) if card.label in changed else card
        for card in cards
    ]


def _label(name: str) -> str:
    quantity = STEP_QUANTITIES[name]
    return capitalised(quantity.short or quantity.label)


def _beside(card: Card, name: str, data: JSON, measured: Measured) -> Card:
    section, field = name.split(".")
    value, unit = data[section][field], STEP_QUANTITIES[name].unit
    if value is None and name in BOUNDS:
        card = bounded(card, *_bound(name, data))
    source, words = MEASURED.get(name, ("", ""))
    point = measured.get(source)
    if point is None:
        return card
    workload = data["workload"]
    tokens = workload["batch"] * workload["new_tokens"] if source != name else 1
    seen = point.value / tokens
    ratio = f" ({units.ratio(seen / value)})" if value else ""
    return replace(
        card,
        note=f"{words} {units.formatted(seen, unit)}{ratio}",
        help=f"{card.help} Below: {words} by {point.maker}, in {point.source}, and that over this"
        " number.",
    )


def _bound(name: str, data: JSON) -> tuple[str, str]:
    sign, field = BOUNDS[name]
    return sign, units.formatted(data["time"][field], STEP_QUANTITIES[name].unit)


def bounded(card: Card, sign: str, bound: str) -> Card:
    """A card of a number that is not known, with its bound and what sort of bound that is."""
    return replace(
        card,
        value=f"{sign} {bound}",
        note=f"{WORDS[sign]}: {BOUND}",
        help=f"Not predicted: {card.help}. {capitalised(WORDS[sign])} this, by the {BOUND}.",
    )
