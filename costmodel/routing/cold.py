"""What a cache of the most popular table rows leaves to be fetched: a routing of the other rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.routing.expectation import Expected, Floats, ItemKind, Trials, along_first
from costmodel.routing.popularity import Routing
from costmodel.routing.union import expected_union

BISECTIONS = 60  # each halves the error of a share below 1


@dataclass(frozen=True, slots=True)
class Cold:
    """A routing that counts table rows outside a cache, which holds a share of the most popular."""

    routing: Routing
    cached_share: float  # of the rows that a layer can reach, from 0 to 1

    @property
    def label(self) -> str:
        """The label of the routing itself."""
        return self.routing.label

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
        """The expected distinct rows that the cache does not hold; of experts, all distinct ones.

        The cache holds a whole number of rows, rounded down.
        """
        if kind == "rows":
            hot = max(hot, int(self.cached_share * population))
        return self.routing.expected_distinct(
            population, draws, trials, kind=kind, copies=copies, hot=hot
        )

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> Expected:
        """What the routing itself says: accesses, those of cached rows among them."""
        return self.routing.hot_share(population, draws, kept, kind=kind)

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """What the routing itself says: of all items, those of a cache among them."""
        return self.routing.touched_by_rank(population, draws, trials, kind=kind, copies=copies)

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """An upper bound on the distinct rows of a column that the cache does not hold.

        Formula: the smaller of d (1 - kept / P), as if cached rows were no more popular than
        others, and of T (1 - h), as if no row were missed twice; d rows are touched in all, and
        `kept` rows take the share h of the T accesses. Exact under uniform routing.
        """
        kept = int(self.cached_share * population)
        whole = self.routing.expected_distinct_hashed(population, trials, order=order)
        share = along_first(self.routing.hot_share_hashed(population, kept, order=order), whole)
        alike = whole * (1 - kept / population)
        if not isinstance(alike, np.ndarray):
            return min(alike, float(trials * (1 - share)))
        least: Expected = np.minimum(alike, trials * (1 - share))
        return least

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> Expected:
        """What the routing itself says."""
        return self.routing.hot_share_hashed(population, kept, order=order)


def hot_shares(
    cached_share: float, rows_total: int, windows: Sequence[tuple[int, int]]
) -> tuple[float, float]:
    """Which rows of a layer a cache holds, where several layers read windows of one table.

    The cache holds the most popular rows of each layer, equally many of each. With L layers whose
    popular rows are independent of one another, h rows of each are
    U(h) = expected_union(rows_total, windows, h) different ones: h follows from U(h) = s rows_total
    by bisection. Of a layer's other rows the cache holds some by chance, since they are popular in
    another layer: in all, a share s of what the layer reaches.

    Leaves out: windows of unequal length, of which the first stands for all.
    Source: linearity of expectation; the assumption is that of `expected_union`.

    Args:
        cached_share: s, the share of the table that the cache holds, from 0 to 1.
        rows_total: rows of the table.
        windows: (start, length) per layer; of a table that one layer reads alone, none.

    Returns:
        The share of the rows in reach that are the layer's own popular ones, and the share of the
        others that the cache holds by chance.
    """
    if len(windows) <= 1 or cached_share >= 1:
        return cached_share, 0.0
    length = windows[0][1]
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        fits = expected_union(rows_total, windows, middle * length) <= cached_share * rows_total
        low, high = (middle, high) if fits else (low, middle)
    return low, max(0.0, (cached_share - low) / (1 - low))
