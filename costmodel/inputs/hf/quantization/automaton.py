"""One automaton for all patterns of a list: names are matched in time linear in their length.

Python's `re` backtracks, and a hostile pattern makes it run for years. Here the patterns become one
non-deterministic automaton, which is run as a deterministic one whose states are made when a name
first needs them (Thompson, CACM 11(6), 1968). The number of states and the work of all matches
together are bounded.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from costmodel.errors import InputError

MAX_STATES = 100_000  # of all patterns of a list
MAX_WORK = 10_000_000  # states that all matches of a list may look at: a few seconds

_ACCEPT: Final = 0

Piece: TypeAlias = Callable[["Automaton", int], int]
"""Adds a piece of a pattern to an automaton: told the state that follows it, returns its first."""


class Automaton:
    """Patterns of which a name may match any."""

    def __init__(self, field: str) -> None:
        """`field` is what messages call the list."""
        self._field = field
        self._letters: list[tuple[frozenset[str], int] | None] = [None]  # of each state: on, to
        self._free: list[list[int]] = [[]]  # states that follow without a character
        self._at_start: list[list[int]] = [[]]  # that follow where the name begins
        self._at_end: list[list[int]] = [[]]  # that follow where it ends
        self._first: list[int] = []  # of each pattern
        self._steps: dict[frozenset[int], dict[str, frozenset[int]]] = {}
        self._begin: frozenset[int] = frozenset()
        self._work = 0

    def add(self, pattern: Piece) -> None:
        """Add a pattern, which matches where its last state is reached.

        Raises:
            InputError: The patterns need more than `MAX_STATES`.
        """
        self._first.append(pattern(self, _ACCEPT))
        self._steps.clear()
        self._begin = frozenset()

    def match(self, name: str) -> bool:
        """Whether any pattern matches the name.

        Raises:
            InputError: The patterns cost more than `MAX_WORK` over all names.
        """
        if not self._first:
            return False
        if not self._begin:
            self._begin = self._closure(self._first, self._at_start)
        states = self._begin
        for character in name:
            if _ACCEPT in states or not states:
                break
            steps = self._steps.setdefault(states, {})
            following = steps.get(character)
            if following is None:
                targets = [
                    edge[1]
                    for state in states
                    if (edge := self._letters[state]) is not None and character in edge[0]
                ]
                self._spend(len(states))
                following = steps[character] = self._closure(targets, None)
            states = following
        else:
            if _ACCEPT not in states:
                states = self._closure(list(states), self._at_end)
        self._spend(1)
        return _ACCEPT in states

    def state(self) -> int:
        """A new state, from which nothing follows yet."""
        if len(self._letters) > MAX_STATES:
            raise InputError(f"{self._field}: its patterns need more than {MAX_STATES:,} states")
        self._letters.append(None)
        self._free.append([])
        self._at_start.append([])
        self._at_end.append([])
        return len(self._letters) - 1

    def on(self, letters: frozenset[str], then: int) -> int:
        """A new state that one of `letters` leads to `then`."""
        state = self.state()
        self._letters[state] = (letters, then)
        return state

    def fork(self, *then: int) -> int:
        """A new state that leads to each of `then` without a character."""
        state = self.state()
        self._free[state].extend(then)
        return state

    def join(self, state: int, then: int) -> None:
        """Let `state` lead to `then`, too, without a character."""
        self._free[state].append(then)

    def border(self, then: int, *, start: bool) -> int:
        """A new state that leads to `then` only where the name begins, or ends."""
        state = self.state()
        (self._at_start if start else self._at_end)[state].append(then)
        return state

    def _closure(self, states: list[int], border: list[list[int]] | None) -> frozenset[int]:
        """All states that follow without a character; `border` adds those of start or end."""
        reached, waiting = set(states), list(states)
        while waiting:
            state = waiting.pop()
            following = self._free[state] + (border[state] if border else [])
            waiting.extend(after for after in following if after not in reached)
            reached.update(following)
        self._spend(len(reached))
        return frozenset(reached)

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise InputError(f"{self._field}: its patterns take too long to match")
