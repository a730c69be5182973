"""What explains a number: equations with their values put in, terms that sum to it, its source."""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from typing import TypeAlias

from costmodel.costs.quantities.quantity import Quantity
from costmodel.explain.letters import used
from costmodel.explain.working import worked
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number
from costmodel.units import Unit

Value: TypeAlias = Number | bool | str | None

SECTIONS = ("Args:", "Attributes:", "Returns:", "Raises:")
"""How those parts of a docstring begin that speak to a caller in Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """What a number equals: a formula in letters, the same with values, and the result.

    Attributes:
        name: What it gives, such as the label of a quantity.
        formula: In letters, or in words where a table is summed.
        values: The formula as a calculator takes it; empty where the table has the values.
        result: In `unit`.
        letters: Those of the formula, in the order in which it uses them.
    """

    name: str
    formula: str
    values: str
    result: Value
    unit: Unit
    letters: tuple[Letter, ...] = ()

    @classmethod
    def of(cls, name: str, formula: str, letters: Iterable[Letter], unit: Unit) -> "Equation":
        """The equation of a formula that can be computed: values and result follow."""
        needed = used(formula, letters)
        computed = worked(formula, {letter.name: letter.value for letter in needed})
        return cls(
            name=name,
            formula=formula,
            values=computed.values,
            result=computed.result,
            unit=unit,
            letters=needed,
        )

    @classmethod
    def sum_of(cls, name: str, terms: Sequence[Letter], unit: Unit) -> "Equation":
        """A sum of letters; those that are zero are left out."""
        present = [term.name for term in terms if term.value]
        return cls.of(name, " + ".join(present) or "0", terms, unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table of terms; `total`, where it has one, is what its cells sum to."""

    header: str
    unit: Unit
    total: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A table of what a number sums, in the units of its columns."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """How a number follows: its own equation first, then those of letters in it; its terms."""

    equations: tuple[Equation, ...]
    terms: Terms | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One number of the JSON of a prediction or request, or one operator, explained.

    Attributes:
        number: The name in the JSON, or the path of the operator.
        label: What tables call it.
        sentence: What it counts.
        leaves_out: What a reader might expect in it and does not find; may be empty.
        value: The number itself; None where it is not known, for the `reason`.
        equations: How it follows; empty where the number is not known.
        source: Where it is computed, and what that cites.
        calibrated: Whether a calibration gives it, so that it is a prediction.
        doc: What the code says of it, without lists of arguments; the source stands apart.
    """

    number: str
    label: str
    sentence: str
    leaves_out: str
    value: Value
    unit: Unit
    reason: str
    equations: tuple[Equation, ...]
    terms: Terms | None
    source: str
    doc: str
    calibrated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Documented:
    """What the code says of the function that computes a quantity."""

    place: str  # costmodel.costs.roofline, floor_s
    cited: str  # the source that the docstring names; may be empty
    text: str  # the docstring without its lists of arguments and without the source


def documented(quantity: Quantity) -> Documented:
    """The docstring of the function that computes a quantity, and the source that it cites."""
    module, _, name = quantity.formula.partition(":")
    function: object = reduce(getattr, name.split("."), import_module(module))
    text = inspect.getdoc(function.fget if isinstance(function, property) else function) or ""
    before, _, after = text.partition("\nSource:")
    cited, _, rest = after.partition("\n\n")
    return Documented(
        place=f"{module}, {name}",
        cited=" ".join(cited.split()),
        text=prose(f"{before}\n\n{rest}"),
    )


def prose(docstring: str) -> str:
    """The paragraphs of a docstring that speak to a user: no lists of arguments or fields."""
    paragraphs = (paragraph.strip() for paragraph in docstring.split("\n\n"))
    return "\n\n".join(
        paragraph for paragraph in paragraphs if paragraph and not paragraph.startswith(SECTIONS)
    )


def explain_quantity(
    quantity: Quantity, *, value: Value, reason: str, derivation: Derivation
) -> Explanation:
    """The explanation of a quantity of the registry, which says what it counts."""
    doc = documented(quantity)
    return Explanation(
        number=quantity.name,
        label=quantity.label,
        sentence=quantity.counts,
        leaves_out=quantity.leaves_out,
        value=value,
        unit=quantity.unit,
        reason=reason,
        equations=derivation.equations,
        terms=derivation.terms,
        source=f"{doc.place}; {doc.cited}" if doc.cited else doc.place,
        doc=doc.text,
        calibrated=quantity.calibrated,
    )
