"""A routing for each population: experts, table rows and n-grams may follow different laws."""

from dataclasses import dataclass
from typing import get_args

from costmodel.routing.expectation import Expected, Floats, ItemKind, Trials
from costmodel.routing.histogram import Histogram
from costmodel.routing.popularity import NgramLaw, Routing

POPULATIONS: tuple[ItemKind, ...] = get_args(ItemKind)
NGRAMS = "ngrams"  # the population of what tokens address; rows in tables all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPopulation:
    """A routing of experts, one of the rows that scores choose, and a law of n-grams."""

    experts: Routing
    rows: Routing
    ngrams: NgramLaw | None = None  # None: the law of the rows

    @property
    def label(self) -> str:
        """All labels with their populations: `experts=uniform,rows=zipf:1.0`."""
        ngrams = "" if self.ngrams is None else f",{NGRAMS}={self.ngrams.label}"
        return f"experts={self.experts.label},rows={self.rows.label}{ngrams}"

    def expected_distinct(
        self,
        population: int,
        draws: int,
        trials: Trials,
        *,
        kind: ItemKind,
        copies: int = 1,
        hot: int = 0,
    ) -> Expected:
        """What the routing of this population expects."""
        return routing_of(self, kind).expected_distinct(
            population, draws, trials, kind=kind, copies=copies, hot=hot
        )

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> Expected:
        """What the routing of this population says."""
        return routing_of(self, kind).hot_share(population, draws, kept, kind=kind)

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """What the routing of this population says."""
        return routing_of(self, kind).touched_by_rank(
            population, draws, trials, kind=kind, copies=copies
        )

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """What the law of n-grams expects."""
        return ngram_law_of(self).expected_distinct_hashed(population, trials, order=order)

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> Expected:
        """What the law of n-grams says."""
        return ngram_law_of(self).hot_share_hashed(population, kept, order=order)


def routing_of(routing: Routing, kind: ItemKind) -> Routing:
    """The routing that one population follows."""
    if isinstance(routing, ByPopulation):
        return routing.experts if kind == "experts" else routing.rows
    return routing


def ngram_law_of(routing: Routing) -> NgramLaw:
    """The law that n-grams follow."""
    if isinstance(routing, ByPopulation):
        return routing.rows if routing.ngrams is None else routing.ngrams
    return routing


def histograms_of(routing: Routing) -> tuple[Histogram, ...]:
    """The measured histograms in a routing, each once."""
    laws: dict[NgramLaw, None] = dict.fromkeys(routing_of(routing, kind) for kind in POPULATIONS)
    laws[ngram_law_of(routing)] = None
    return tuple(law for law in laws if isinstance(law, Histogram))
