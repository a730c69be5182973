"""An explanation as people read it: sentence, equations with their letters, terms, source."""

from costmodel import units
from costmodel.costs.predict import Prediction
from costmodel.explain.explanation import Equation, Explanation, Terms, Value
from costmodel.explain.working import number_text
from costmodel.layers.numbers import Number
from costmodel.questions.request import Served
from costmodel.show.tables.mesh import mesh_words
from costmodel.show.tables.notes import (
    calibration_note,
    format_words,
    request_words,
    workload_words,
)
from costmodel.show.text import Table, capitalised
from costmodel.units import Unit

THOUSAND = 1000  # from where on digits are grouped
EXACT: tuple[Unit, ...] = ("count", "parameters", "tokens", "flops", "bytes", "capacity")
"""Units whose values are written in full, so that they can be checked."""


def explanation_tables(explanation: Explanation, of: Prediction | Served) -> list[Table]:
    """The tables of an explanation; `of` is what the number is of: a step, or requests."""
    tables = [
        Table(
            title=f"{_heading(explanation)}, {_words(of)}",
            headers=(),
            rows=(),
            notes=sentences(explanation),
        )
    ]
    tables += [_equation_table(equation) for equation in explanation.equations]
    if explanation.terms is not None and explanation.terms.rows:
        tables.append(_terms_table(explanation.terms))
    paragraphs = tuple(" ".join(text.split()) for text in explanation.doc.split("\n\n") if text)
    step = of if isinstance(of, Prediction) else of.prefill_step
    source = Table(
        title=f"Source: {explanation.source}",
        headers=(),
        rows=(),
        notes=(*paragraphs, *calibration_note(step)) if explanation.calibrated else paragraphs,
    )
    return [*tables, source]


def sentences(explanation: Explanation) -> tuple[str, ...]:
    """What the number counts, what it leaves out, and why it is not known."""
    parts = [f"{capitalised(explanation.sentence)}."]
    if explanation.leaves_out:
        parts.append(f"Leaves out: {explanation.leaves_out}.")
    if explanation.reason:
        parts.append(f"{units.NOT_KNOWN}: {explanation.reason}.")
    return tuple(parts)


def _heading(explanation: Explanation) -> str:
    """The label of a number with its name in the JSON; of an operator its path."""
    if explanation.label in explanation.number:
        return explanation.number
    return f"{capitalised(explanation.label)} ({explanation.number})"


def _words(of: Prediction | Served) -> str:
    """The model, the step or the requests, the GPU, and a backend other than plain PyTorch."""
    step = of if isinstance(of, Prediction) else of.prefill_step
    workload = step.workload
    what = (
        f"{workload_words(workload)}, batch {workload.batch:,}"
        if isinstance(of, Prediction)
        else f"{request_words(of.request)}, {format_words(workload)}"
    )
    backend = "" if workload.backend == "torch" else f", backend {workload.backend}"
    return f"{step.model.name}: {what}, on {step.hardware.name}{mesh_words(workload)}{backend}"


def equation_lines(equation: Equation) -> tuple[str, ...]:
    """Formula, formula with values, and result, a line each."""
    lines = [f"{equation.name} = {equation.formula}"]
    if equation.values and equation.values != equation.formula:
        lines.append(f"= {equation.values}")
    return (*lines, f"= {result_text(equation.result, equation.unit)}")


def result_text(value: Value, unit: Unit) -> str:
    """A value in its unit, and in full where the unit is scaled: `16,384 (16.38 kB)`."""
    short = units.formatted(value, unit)
    if unit not in EXACT or value is None:
        return short
    full = exact(value, unit)
    return full if full == short else f"{full} ({short})"


def exact(value: Value, unit: Unit) -> str:
    """A value in full, without its unit where the unit only scales it."""
    if unit in EXACT and isinstance(value, int | float):
        return units.count(value)
    return units.formatted(value, unit)


def letter_text(value: Number) -> str:
    """The value of a letter: whole numbers in full, others to six digits or more."""
    text = number_text(value)
    return units.count(float(text)) if "e" not in text and float(text) >= THOUSAND else text


def _equation_table(equation: Equation) -> Table:
    first, *others = equation_lines(equation)
    return Table(
        title=capitalised(first),
        headers=("letter", "value", "meaning"),
        rows=tuple(
            (letter.name, letter_text(letter.value), letter.meaning) for letter in equation.letters
        ),
        ends_in_text=True,
        notes=tuple(others),
    )


def header(name: str, unit: Unit) -> str:
    """The head of a column; a unit whose values are in full stands there, not in the cells."""
    return f"{name}, {units.scale(unit)[0]}" if unit in ("flops", "bytes", "capacity") else name


def _terms_table(terms: Terms) -> Table:
    rows = [
        tuple(
            exact(value, column.unit) if value is not None else ""
            for value, column in zip(row, terms.columns, strict=True)
        )
        for row in terms.rows
    ]
    last = len(rows) - 1
    totals = [column.total for column in terms.columns]
    if any(total is not None for total in totals):
        sums = [
            "" if column.total is None else exact(column.total, column.unit)
            for column in terms.columns
        ]
        rows.append(("sum", *sums[1:]))
    leading = next(
        (place for place, column in enumerate(terms.columns) if column.unit != "text"),
        len(terms.columns),
    )
    return Table(
        title=capitalised(terms.title),
        headers=tuple(header(column.header, column.unit) for column in terms.columns),
        rows=tuple(rows),
        text_columns=leading,
        sections=frozenset({last}) if len(rows) > last + 1 else frozenset(),
    )
