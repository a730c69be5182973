"""A routing of the least traffic: every token chooses the same experts, or the same rows."""

from dataclasses import dataclass

import numpy as np

from costmodel.routing.expectation import Expected, Floats, ItemKind, Trials


@dataclass(frozen=True, slots=True)
class Alike:
    """k distinct items, however many tokens there are: no routing touches fewer."""

    @property
    def label(self) -> str:
        """Always `all alike`."""
        return "all alike"

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
        """The k items of one token, less those of them that are hot."""
        del kind
        distinct = float(min(max(draws - hot, 0), (population - hot) * copies))
        if isinstance(trials, np.ndarray):
            return np.full(trials.shape, distinct)
        return distinct

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> float:
        """min(kept, k) / k: the hot items are those that are chosen."""
        del population, kind
        return min(kept, draws) / draws

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """1 of the first k items, 0 of the others; of c copies each takes an equal share."""
        del trials, kind
        return np.where(np.arange(population) < draws, 1 / copies, 0.0)

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """One row: every token has the same n-gram."""
        del order
        return self.expected_distinct(population, 1, trials, kind="rows")

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> float:
        """1 if that row is kept."""
        del order
        return self.hot_share(population, 1, kept, kind="rows")
