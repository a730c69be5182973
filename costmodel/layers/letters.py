"""The words of formulas: letters with their values, and sums of those terms that a layer has.

A formula is a text in letters, such as `2 N D (H + 2 K) d`: letters and numbers side by side are
multiplied, `^` is a power, and one blank separates what would else read as one letter. It gives
the FLOPs of one layer. Further clauses stand after semicolons: `compares: N E`, which is a formula
too, and `bytes: ...`, which is a sentence. `costmodel/explain` puts values in and computes.
"""

from dataclasses import dataclass
from typing import Literal

from costmodel.layers.numbers import Number


@dataclass(frozen=True, slots=True)
class Letter:
    """What a letter of a formula stands for: its value in one layer and step, and its meaning."""

    name: str
    value: Number
    meaning: str


def sum_of(*terms: str | Literal[False]) -> str:
    """The terms that a layer has, joined by plus signs; `0` without any.

    A term that depends on the configuration is written `has_bias and "N D"`.
    """
    return " + ".join(term for term in terms if term) or "0"
