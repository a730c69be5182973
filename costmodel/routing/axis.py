"""Several routings as the first axis of a sweep's arrays."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from costmodel.routing.expectation import Expected, Floats, ItemKind, Trials
from costmodel.routing.popularity import Routing


@dataclass(frozen=True, slots=True)
class RoutingAxis:
    """Routings whose answers are stacked, in the order in which they are given."""

    routings: tuple[Routing, ...]

    @property
    def label(self) -> str:
        """The labels, joined by commas."""
        return ",".join(routing.label for routing in self.routings)

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
        """The expectation of each routing, stacked along a new first axis."""
        return self._stacked(
            lambda routing: routing.expected_distinct(
                population, draws, trials, kind=kind, copies=copies, hot=hot
            )
        )

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> Expected:
        """The share of each routing, stacked along a new first axis."""
        return self._stacked(lambda routing: routing.hot_share(population, draws, kept, kind=kind))

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """The probabilities of each routing, stacked along a new first axis."""
        return np.stack(
            [
                routing.touched_by_rank(population, draws, trials, kind=kind, copies=copies)
                for routing in self.routings
            ]
        )

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """The expectation of each routing, stacked along a new first axis."""
        return self._stacked(
            lambda routing: routing.expected_distinct_hashed(population, trials, order=order)
        )

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> Expected:
        """The share of each routing, stacked along a new first axis."""
        return self._stacked(
            lambda routing: routing.hot_share_hashed(population, kept, order=order)
        )

    def _stacked(self, answer: Callable[[Routing], Expected]) -> Expected:
        return np.stack([np.asarray(answer(routing)) for routing in self.routings])
