"""One number to reproduce: as printed, as we compute it, and whether the printed digits agree."""

from dataclasses import dataclass

from costmodel.layers.numbers import Number

UNITS = {"B": 1e9, "M": 1e6, "G": 1e9, "GB": 1e9, "MB": 1e6, "": 1}


@dataclass(frozen=True, slots=True)
class Target:
    """A published or hand-derived number beside ours."""

    what: str
    published: str
    ours: float  # an int where it is a count
    shown: str  # ours, rounded to the printed digits
    agrees: bool
    convention: str  # what is counted and what is left out; the reason where they disagree
    source: str


def compared(what: str, published: str, ours: Number, convention: str, source: str) -> Target:
    """A target in the unit and to the digits of `published`, such as "6.08 B" or "4,239"."""
    assert isinstance(ours, int | float)  # targets are single numbers, never grids
    number, _, unit = published.partition(" ")
    digits = len(number.partition(".")[2])
    shown = f"{ours / UNITS[unit] if unit else ours:,.{digits}f}"
    return Target(
        what=what,
        published=published,
        ours=ours,
        shown=f"{shown} {unit}".strip(),
        agrees=shown.replace(",", "") == number.replace(",", ""),
        convention=convention,
        source=source,
    )
