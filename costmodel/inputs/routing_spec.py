"""What a user writes for a routing: `uniform`, `zipf:1.0`, or the path of a measured histogram.

A histogram file is JSON, with at least one of its two sections:

    {"schema_version": 1, "source": "where the counts come from",
     "experts": {"population": 64, "trials": 1000, "draws": 8, "counts": [[125, 64]]},
     "rows": {...}}

`counts` lists how many items were drawn how often: `[accesses of an item, items with as many]`.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.inputs.files import STRICT, read_json_object, validated
from costmodel.routing.popularity import AccessCounts, Histogram, Routing, Uniform, Zipf

MAX_EXPONENT = 10.0  # measured popularities lie below 2
MAX_COUNT = 2**50  # so that products with `draws` stay exact in every reader
MAX_DRAWS = 2**20
MAX_ENTRIES = 500_000  # different access counts; a table of 1e6 rows showed a few thousand
MAX_SOURCE = 2000  # characters

RULE = "expected uniform, zipf:EXPONENT or a histogram file"
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Positive = Annotated[int, Field(ge=1, le=MAX_COUNT)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Section:
    """The access counts of one population, as the file gives them."""

    population: Positive
    trials: Positive
    draws: Annotated[int, Field(ge=1, le=MAX_DRAWS)]
    counts: Annotated[tuple[tuple[Count, Count], ...], Field(min_length=1, max_length=MAX_ENTRIES)]

    def __post_init__(self) -> None:
        if self.draws > self.population:
            raise ValueError(f"draws={self.draws}: exceeds population={self.population}")
        items = sum(items for _, items in self.counts)
        if items != self.population:
            raise ValueError(f"counts: hold {items} items; population={self.population}")
        most = max(accesses for accesses, _ in self.counts)
        if most > self.trials:
            raise ValueError(f"counts: hold an item of {most} accesses; trials={self.trials}")
        accesses = sum(accesses * items for accesses, items in self.counts)
        if accesses != self.trials * self.draws:
            raise ValueError(
                f"counts: hold {accesses} accesses; trials * draws = {self.trials * self.draws}"
            )

    def plain(self) -> AccessCounts:
        """The same, as the cost formulas take it."""
        return AccessCounts(
            population=self.population, trials=self.trials, draws=self.draws, counts=self.counts
        )


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class HistogramFile:
    """A histogram file."""

    schema_version: Literal[1]
    source: Annotated[str, Field(max_length=MAX_SOURCE)]
    experts: Section | None = None
    rows: Section | None = None

    def __post_init__(self) -> None:
        if self.experts is None and self.rows is None:
            raise ValueError("experts, rows: at least one of the two is needed")


def parse_routing(text: str) -> Routing:
    """The routing that `text` names."""
    if text == "uniform":
        return Uniform()
    keyword, colon, exponent = text.partition(":")
    if colon and keyword == "zipf":
        return _zipf(text, exponent)
    path = Path(text)
    try:
        exists = path.exists()
    except (OSError, ValueError):  # a name too long for the file system, or with a null byte
        exists = False
    if not text or not exists:
        raise InputError(f"routing={shown(text)}: {RULE}")
    where = f"file={shown(text)}"
    given = validated(HistogramFile, read_json_object(path), where=where)
    name = re.sub(r"[^A-Za-z0-9._-]", "", path.stem) or "unnamed"
    return Histogram(
        label=f"histogram:{name}",
        source=given.source,
        experts=given.experts.plain() if given.experts else None,
        rows=given.rows.plain() if given.rows else None,
    )


def _zipf(text: str, exponent: str) -> Zipf:
    if DECIMAL.fullmatch(exponent):
        value = float(exponent) + 0.0  # -0 becomes 0
        if 0 <= value <= MAX_EXPONENT:
            return Zipf(value)
    raise InputError(
        f"routing={shown(text)}: the exponent must be a number from 0 to {MAX_EXPONENT:g}"
    )
