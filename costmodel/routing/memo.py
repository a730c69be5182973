"""A memo of a routing's answers, for a sweep that asks for the same expectation many times."""

from collections.abc import Callable, Hashable

import numpy as np

from costmodel.routing.expectation import Expected, Floats, ItemKind, Trials
from costmodel.routing.popularity import Routing


class RoutingMemo:
    """A routing that works out each expectation once; it keeps all of them, without a limit.

    An array is the same one each time, and read-only.
    """

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._expectations: dict[Hashable, Expected] = {}

    @property
    def label(self) -> str:
        """The label of the routing itself."""
        return self._routing.label

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
        """What the routing itself expects."""
        return self._kept(
            (population, draws, kind, copies, hot, _key(trials)),
            lambda: self._routing.expected_distinct(
                population, draws, trials, kind=kind, copies=copies, hot=hot
            ),
        )

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> Expected:
        """What the routing itself says."""
        return self._routing.hot_share(population, draws, kept, kind=kind)

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """What the routing itself says."""
        return self._routing.touched_by_rank(population, draws, trials, kind=kind, copies=copies)

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """What the routing itself expects."""
        return self._kept(
            (population, order, _key(trials)),
            lambda: self._routing.expected_distinct_hashed(population, trials, order=order),
        )

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> Expected:
        """What the routing itself says."""
        return self._routing.hot_share_hashed(population, kept, order=order)

    def _kept(self, key: Hashable, work_out: Callable[[], Expected]) -> Expected:
        expectation = self._expectations.get(key)
        if expectation is None:
            expectation = work_out()
            if isinstance(expectation, np.ndarray):
                expectation.flags.writeable = False
            self._expectations[key] = expectation
        return expectation


def _key(trials: Trials) -> Hashable:
    if isinstance(trials, np.ndarray):
        return trials.shape, trials.dtype.str, trials.tobytes()
    return trials
