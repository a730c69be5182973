"""Formulas as texts: read, computed, and written with their values put in.

    sum      = product (("+" | "-") product)*
    product  = power (("*" | "/")? power)*          side by side is multiplied: 2 N D
    power    = operand ("^" power)?
    operand  = number | letter | function "(" sum ("," sum)* ")" | "(" sum ")" | "-" operand
    function = "max" | "min" | "floor"

A text is only ever read by this grammar; nothing in it is run. Whole numbers stay exact: a quotient
of two is a fraction until the end.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from costmodel.layers.numbers import Number

TOKEN = re.compile(
    r"\s*(?:(\d+(?:\.\d+)?(?:e[+-]?\d{1,3})?(?!\w))|([A-Za-z]\w*)|([-+*/^(),]))", re.ASCII
)
MAX_CHARS = 20_000
MAX_DEPTH = 40  # of parentheses, powers and signs
MAX_POWER = 64
MAX_BITS = 4096  # of a power
LEAST_ROUNDED, LARGEST_FLOAT = 1e4, 1e15  # of floats that are written with two decimals
ARGUMENTS = {"max": 2, "min": 2, "floor": 1}


class FormulaError(ValueError):
    """A text that is no formula, or a letter without a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """A formula with its values: the text that a calculator takes, and what it gives."""

    values: str
    result: Number


def worked(formula: str, values: Mapping[str, Number]) -> Worked:
    """The formula computed, and written with a `*` wherever factors stand side by side.

    Raises:
        FormulaError: The text is no formula, or `values` lacks a letter.
    """
    reader = _Reader(formula, values)
    try:
        result = reader.sum(0)
    except (OverflowError, ZeroDivisionError):
        raise FormulaError(f"{formula!r}: leaves the range of numbers") from None
    if reader.ahead:
        raise FormulaError(f"{formula!r}: {reader.ahead!r} cannot stand there")
    return Worked(values="".join(reader.written), result=_plain(result))


def letters_of(formula: str) -> tuple[str, ...]:
    """The letters of a formula in the order of their first use."""
    names = [name for _, name, _ in _tokens(formula) if name and name not in ARGUMENTS]
    return tuple(dict.fromkeys(names))


def number_text(value: Number) -> str:
    """A value as it stands among others: whole numbers in full, others to six digits or more."""
    if isinstance(value, int):
        return str(value)
    as_float = float(value)
    if abs(as_float) >= LARGEST_FLOAT:
        return f"{as_float:.6g}"
    if as_float.is_integer():
        return str(int(as_float))
    return f"{as_float:.2f}" if abs(as_float) >= LEAST_ROUNDED else f"{as_float:.6g}"


def _plain(value: float | Fraction) -> float:
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return value


def _bits(value: int | Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _tokens(formula: str) -> list[tuple[str, str, str]]:
    """(number, letter, sign) of each token, two of them empty."""
    if len(formula) > MAX_CHARS:
        raise FormulaError(f"a formula of {len(formula)} characters is too long")
    tokens, place = [], 0
    text = formula.rstrip()
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            raise FormulaError(
                f"{formula!r}: {text[place:].strip()[:20]!r} is no part of a formula"
            )
        number, name, sign = match.groups(default="")
        tokens.append((number, name, sign))
        place = match.end()
    return tokens


class _Reader:
    """Recursive descent over the tokens; `written` grows with what was read."""

    def __init__(self, formula: str, values: Mapping[str, Number]) -> None:
        self.formula, self.values = formula, values
        self.tokens = [*_tokens(formula), ("", "", "")]
        self.place = 0
        self.written: list[str] = []

    @property
    def ahead(self) -> str:
        """The next token; empty at the end."""
        return "".join(self.tokens[self.place])

    def take(self, text: str | None = None) -> str:
        """Step over the next token, and write it, or the text for it."""
        token = self.ahead
        self.place += 1
        self.written.append(token if text is None else text)
        return token

    def need(self, sign: str) -> None:
        if self.ahead != sign:
            raise FormulaError(f"{self.formula!r}: {sign!r} is missing")
        self.take()

    def sum(self, depth: int) -> int | float | Fraction:
        """Products, added and subtracted from left to right."""
        total = self.product(depth)
        while self.ahead in ("+", "-"):
            sign = self.take(f" {self.ahead} ")
            term = self.product(depth)
            total = total + term if sign == "+" else total - term
        return total

    def product(self, depth: int) -> int | float | Fraction:
        """Powers, multiplied and divided from left to right."""
        product = self.power(depth)
        while self.ahead and self.ahead not in ("+", "-", ")", ",", "^"):
            divides = self.ahead == "/"
            if self.ahead in ("*", "/"):
                self.take(f" {self.ahead} ")
            else:
                self.written.append(" * ")
            factor = self.power(depth)
            if not divides:
                product = product * factor
            elif isinstance(product, float) or isinstance(factor, float):
                product = product / factor
            else:
                product = Fraction(product) / factor
        return product

    def power(self, depth: int) -> int | float | Fraction:
        """An operand, or its power."""
        base = self.operand(depth)
        if self.ahead != "^":
            return base
        self.take()
        exponent = self.power(depth + 1)
        if exponent not in range(MAX_POWER + 1):
            raise FormulaError(f"{self.formula!r}: a power is a whole number up to {MAX_POWER}")
        if not isinstance(base, float) and _bits(base) * exponent > MAX_BITS:
            raise OverflowError
        return base ** int(exponent)

    def operand(self, depth: int) -> int | float | Fraction:
        """A number, a letter, a function, or a sum in parentheses."""
        if depth > MAX_DEPTH:
            raise FormulaError(f"a formula is nested deeper than {MAX_DEPTH}")
        number, name, sign = self.tokens[self.place]
        if number:
            self.take()
            return int(number) if number.isdecimal() else Fraction(number)
        if name in ARGUMENTS:
            return self.function(depth)
        if name:
            if name not in self.values:
                raise FormulaError(f"{self.formula!r}: {name} has no value")
            value = self.values[name]
            assert isinstance(value, int | float | Fraction), "of one step, not of a grid"
            self.take(number_text(value))
            return value
        if sign == "-":
            self.take()
            return -self.operand(depth + 1)
        if sign != "(":
            raise FormulaError(f"{self.formula!r}: a number or a letter is missing")
        self.take()
        total = self.sum(depth + 1)
        self.need(")")
        return total

    def function(self, depth: int) -> int | float | Fraction:
        """The largest or the smallest of several sums, or one rounded down."""
        name = self.take()
        self.need("(")
        arguments = [self.sum(depth + 1)]
        while self.ahead == ",":
            self.take(", ")
            arguments.append(self.sum(depth + 1))
        self.need(")")
        if len(arguments) != ARGUMENTS[name]:
            raise FormulaError(f"{self.formula!r}: {name} takes {ARGUMENTS[name]}")
        if name == "floor":
            return floor(arguments[0])
        return max(arguments) if name == "max" else min(arguments)
