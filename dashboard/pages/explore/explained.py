"""Explanations for the Explore page: what can be chosen, and the lines and rows to be drawn."""

from collections.abc import Callable
from functools import partial
from typing import Any

from costmodel import units
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.explain.explanation import Column, Explanation, Terms, Value
from costmodel.explain.numbers import explain_operator, explain_step, explained_numbers
from costmodel.explain.request import explain_request
from costmodel.explain.tables import equation_lines, letter_text
from costmodel.questions.request import Served
from costmodel.show.request_json import numbers
from costmodel.show.text import capitalised

PREFIXES = {"s": "u"}  # of the unit of a column


def explanations(
    prediction: Prediction, served: Served | None
) -> dict[str, Callable[[], Explanation]]:
    """Every number of the step, of the requests and every operator, by what a reader calls it.

    On several GPUs no operator: its formula is that of one.
    """
    choices: dict[str, Callable[[], Explanation]] = {
        capitalised(STEP_QUANTITIES[number].label): partial(explain_step, prediction, number)
        for number in explained_numbers(prediction)
    }
    if served is not None:
        choices |= {
            capitalised(REQUEST_QUANTITIES[number].label): partial(explain_request, served, number)
            for number in numbers(served)
        }
    return choices | {
        operator.path: partial(explain_operator, prediction, operator.path)
        for operator in prediction.costs.operators
        if prediction.gpus == 1
    }


def lines(explanation: Explanation) -> str:
    """The equations one below the other; nothing where the number is not known."""
    return "\n\n".join("\n".join(equation_lines(equation)) for equation in explanation.equations)


def letter_rows(explanation: Explanation) -> list[dict[str, str]]:
    """The letters of all equations, each value and meaning once."""
    rows = [
        {"Letter": letter.name, "Value": letter_text(letter.value), "Meaning": letter.meaning}
        for equation in explanation.equations
        for letter in equation.letters
    ]
    return [row for place, row in enumerate(rows) if row not in rows[:place]]


def term_rows(terms: Terms) -> list[dict[str, Any]]:
    """The rows of a table of terms, in the units of their headers."""
    return [
        {
            _head(column): _cell(value, column)
            for value, column in zip(row, terms.columns, strict=True)
        }
        for row in terms.rows
    ]


def _head(column: Column) -> str:
    symbol = units.scale(column.unit, PREFIXES.get(column.unit, ""))[0]
    bare = column.unit in ("count", "text", "bool", "tokens", "parameters")
    return capitalised(column.header if bare else f"{column.header}, {symbol}")


def _cell(value: Value, column: Column) -> Any:  # noqa: ANN401 - a number or a text
    if isinstance(value, bool):
        return "yes" if value else ""
    if value is None or isinstance(value, str) or column.unit not in PREFIXES:
        return value
    return float(value) / units.scale(column.unit, PREFIXES[column.unit])[1]
