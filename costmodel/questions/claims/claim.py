"""The words of a claim, the figures beside it, and a verdict that follows from the figures.

`presets/claims/claims.toml` has the texts. A verdict is never typed: it is made by `by_parts` from
conditions on figures, or says why nothing here can judge the claim.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlencode

from costmodel import units
from costmodel.costs.quantities.quantity import DIGITS
from costmodel.inputs.files import read_toml

FILE = Path(__file__).parents[2] / "presets" / "claims" / "claims.toml"

Word: TypeAlias = Literal["holds", "holds within limits", "does not hold", "cannot be judged here"]
Way: TypeAlias = Literal["computed", "measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The state of a page of the dashboard that shows a claim's numbers."""

    page: str
    query: Mapping[str, str | Sequence[str]]

    @property
    def address(self) -> str:
        """As a link within the dashboard: `compare?model=olmoe-1b-7b&batch=64`."""
        return f"{self.page}?{urlencode(self.query, doseq=True)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim or a question, in our own words.

    Attributes:
        id: `C1` of the paper, `R1` of a reviewer.
        who: The paper, or a reviewer.
        claim: What is said.
        stands: Where.
        judged: The statement about cost that the verdict is of.
        view: Where the dashboard shows it.
    """

    id: str
    who: str
    claim: str
    stands: str
    judged: str
    view: View


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One quantity of one or two sides, computed by the cost model or measured.

    Attributes:
        what: The quantity, and where it is taken.
        unit: Of `units`.
        way: Computed now, or measured.
        sides: What the values are of.
        values: In the order of the sides; None: see `reason`.
        source: The formula's place, or the file of the measurement.
        reason: Why a value is missing.
        digits: Significant ones of the values that a reader sees.
    """

    what: str
    unit: units.Unit
    way: Way
    sides: tuple[str, ...]
    values: tuple[float | None, ...]
    source: str
    reason: str | None = None
    digits: int = DIGITS

    @property
    def ratio(self) -> float | None:
        """The first over the second side: above 1, the second needs less."""
        match self.values:
            case (float(first), float(second)) if second:
                return first / second
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A word, and the figures that it follows from."""

    word: Word
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A claim with its figures and its verdict."""

    claim: Claim
    figures: tuple[Figure, ...]
    verdict: Verdict


def by_parts(parts: Sequence[tuple[bool, str]], *, also: str = "") -> Verdict:
    """The verdict on a statement that is judged part by part.

    Args:
        parts: Whether each part holds, and its figure in words.
        also: What the verdict leaves open.
    """
    assert parts
    held, broken = ([words for holds, words in parts if holds is kept] for kept in (True, False))
    word: Word = "holds" if not broken else "holds within limits" if held else "does not hold"
    texts = [
        f"{label}: {'; '.join(words)}"
        for label, words in (("Holds", held), ("does not", broken))
        if words
    ]
    because = ". ".join(text[0].upper() + text[1:] for text in texts) + "."
    return Verdict(word=word, because=f"{because} {also}".strip())


def not_judged(because: str) -> Verdict:
    """No number of this project can judge it."""
    return Verdict(word="cannot be judged here", because=because)


@cache
def claims() -> Mapping[str, Claim]:
    """All claims by id, in the order of the file."""
    found = {}
    for entry in read_toml(FILE)["claim"]:
        view = entry.pop("view")
        page = view.pop("page")
        found[entry["id"]] = Claim(**entry, view=View(page=page, query=view))
    return found
