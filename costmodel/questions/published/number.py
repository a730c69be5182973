"""One published number: as printed, as computed here, and whether the printed digits agree."""

from dataclasses import dataclass

from costmodel.layers.numbers import Number

UNITS = {"B": 1e9, "M": 1e6, "G": 1e9, "GB": 1e9, "MB": 1e6, "": 1}


@dataclass(frozen=True, slots=True)
class PublishedNumber:
    """A published or hand-derived number, and the one that the cost model gives."""

    what: str
    published: str
    ours: float  # an int where it is a count
    shown: str  # ours, rounded to the printed digits
    agrees: bool
    convention: str  # what is counted and what is left out; the reason where they disagree
    source: str


def set_beside(
    what: str, published: str, ours: Number, convention: str, source: str
) -> PublishedNumber:
    """Our number in the unit and to the digits of `published`, such as "6.08 B" or "4,239"."""
    assert isinstance(ours, int | float)  # a single number, never a grid
    number, _, unit = published.partition(" ")
    digits = len(number.partition(".")[2])
    shown = f"{ours / UNITS[unit] if unit else ours:,.{digits}f}"
    return PublishedNumber(
        what=what,
        published=published,
        ours=ours,
        shown=f"{shown} {unit}".strip(),
        agrees=shown.replace(",", "") == number.replace(",", ""),
        convention=convention,
        source=source,
    )
