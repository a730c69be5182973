"""A routing that works out the same question once: designs that differ elsewhere ask it again."""

import numpy as np

from costmodel.routing.popularity import Expected, Kind, Routing, Trials


class Remembered:
    """Another routing with its answers kept, for as long as one sweep: they are not bounded."""

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._answers: dict[object, Expected] = {}

    @property
    def label(self) -> str:
        """That of the routing itself."""
        return self._routing.label

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: Kind, copies: int = 1
    ) -> Expected:
        """What the routing itself says; an array of it is shared, and read-only."""
        asked: object = trials
        if isinstance(trials, np.ndarray):
            asked = trials.shape, trials.dtype.str, trials.tobytes()
        key = population, draws, kind, copies, asked
        answer = self._answers.get(key)
        if answer is None:
            answer = self._routing.expected_distinct(
                population, draws, trials, kind=kind, copies=copies
            )
            if isinstance(answer, np.ndarray):
                answer.flags.writeable = False
            self._answers[key] = answer
        return answer
