"""A measured routing as a JSON file: how often each expert, or each table row, was drawn.

The file holds at least one of the sections `experts`, `rows` and `ngrams`:

    {"schema_version": 1, "source": "where the counts come from",
     "experts": {"population": 64, "trials": 1000, "draws": 8, "counts": [[125, 64]]},
     "rows": {...},
     "ngrams": {"2": {"population": 700, "trials": 1000, "draws": 1, "counts": [...]}}}

`counts` pairs a number of accesses with the number of items that were drawn so often. Each order of
n-grams has a section whose items are n-grams, not rows: the different ones of a text.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import shown
from costmodel.inputs.files import read_json_object
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.ngrams import MAX_ORDER
from costmodel.strict import STRICT, validated

MAX_COUNT = 2**50  # so that products with `draws` stay exact in every reader
MAX_DRAWS = 2**20
MAX_ENTRIES = 500_000  # different access counts; a table of 1e6 rows showed a few thousand
MAX_SOURCE = 2000  # characters

NonNegative = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Positive = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Order = Annotated[str, Field(pattern=rf"^[1-{MAX_ORDER}]$")]  # the tokens of an n-gram


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Section:
    """The access counts of one population, as the file gives them."""

    population: Positive  # experts of a layer, or rows of a table, drawn or not
    trials: Positive  # tokens, or pairs of a token and a head
    draws: Annotated[int, Field(ge=1, le=MAX_DRAWS)]  # items per trial
    counts: Annotated[
        tuple[tuple[NonNegative, NonNegative], ...], Field(min_length=1, max_length=MAX_ENTRIES)
    ]

    def __post_init__(self) -> None:
        """The counts must add up to the population, and to trials times draws."""
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

    def access_counts(self) -> AccessCounts:
        """The same numbers in the type that the routing formulas take."""
        return AccessCounts(
            population=self.population, trials=self.trials, draws=self.draws, counts=self.counts
        )


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class HistogramFile:
    """The whole file."""

    schema_version: Literal[1]
    source: Annotated[str, Field(max_length=MAX_SOURCE)]
    experts: Section | None = None
    rows: Section | None = None
    ngrams: Annotated[dict[Order, Section], Field(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if self.experts is None and self.rows is None and self.ngrams is None:
            raise ValueError("experts, rows, ngrams: at least one of these is needed")
        for order, section in (self.ngrams or {}).items():
            if section.draws != 1:
                raise ValueError(
                    f"ngrams.{order}.draws={section.draws}: a token ends one n-gram, so it is 1"
                )


def read_histogram(path: Path) -> Histogram:
    """The routing that a histogram file describes; its label is `histogram:` and the file's name.

    Raises:
        InputError: The file cannot be read, or breaks a rule of the format.
    """
    file = validated(HistogramFile, read_json_object(path), where=f"file={shown(str(path))}")
    name = re.sub(r"[^A-Za-z0-9._-]", "", path.stem) or "unnamed"
    return Histogram(
        label=f"histogram:{name}",
        source=file.source,
        experts=file.experts.access_counts() if file.experts else None,
        rows=file.rows.access_counts() if file.rows else None,
        ngrams=tuple(
            (int(order), section.access_counts())
            for order, section in sorted((file.ngrams or {}).items())
        ),
    )
