"""A routing for each population: experts and table rows may follow different laws."""

from dataclasses import dataclass
from typing import get_args

from costmodel.routing.popularity import Expected, Histogram, ItemKind, Routing, Trials

POPULATIONS: tuple[ItemKind, ...] = get_args(ItemKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByPopulation:
    """One routing of experts and another of table rows."""

    experts: Routing
    rows: Routing

    @property
    def label(self) -> str:
        """Both labels with their populations: `experts=uniform,rows=zipf:1.0`."""
        return f"experts={self.experts.label},rows={self.rows.label}"

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: ItemKind, copies: int = 1
    ) -> Expected:
        """What the routing of this population expects."""
        return routing_of(self, kind).expected_distinct(
            population, draws, trials, kind=kind, copies=copies
        )


def routing_of(routing: Routing, kind: ItemKind) -> Routing:
    """The routing that one population follows."""
    if isinstance(routing, ByPopulation):
        return routing.experts if kind == "experts" else routing.rows
    return routing


def histograms_of(routing: Routing) -> tuple[Histogram, ...]:
    """The measured histograms in a routing, each once."""
    laws = dict.fromkeys(routing_of(routing, kind) for kind in POPULATIONS)
    return tuple(law for law in laws if isinstance(law, Histogram))
