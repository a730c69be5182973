"""Heads and cells of tables of predicted quantities, by their JSON names."""

from typing import Any

from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.show.text import folded


def head(name: str) -> str:
    """The head of a column of numbers: the quantity's label, folded."""
    return folded(STEP_QUANTITIES[name].label)


def cell(name: str, value: Any) -> str:  # noqa: ANN401 - a number, a verdict or a word
    """A value of the quantity in its unit; n/a where it is not known."""
    return STEP_QUANTITIES[name].shown(value)
