"""A memo of a routing's answers, for a sweep that asks for the same expectation many times."""

import numpy as np

from costmodel.routing.popularity import Expected, ItemKind, Routing, Trials


class RoutingMemo:
    """A routing that works out each expectation once; it keeps all of them, without a limit."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._expectations: dict[object, Expected] = {}

    @property
    def label(self) -> str:
        """The label of the routing itself."""
        return self._routing.label

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: ItemKind, copies: int = 1
    ) -> Expected:
        """What the routing itself expects; an array is the same one each time, and read-only."""
        trials_key: object = trials
        if isinstance(trials, np.ndarray):
            trials_key = trials.shape, trials.dtype.str, trials.tobytes()
        key = population, draws, kind, copies, trials_key
        expectation = self._expectations.get(key)
        if expectation is None:
            expectation = self._routing.expected_distinct(
                population, draws, trials, kind=kind, copies=copies
            )
            if isinstance(expectation, np.ndarray):
                expectation.flags.writeable = False
            self._expectations[key] = expectation
        return expectation
