"""One automaton for all patterns of a list: names are matched in time linear in their length.

Python's `re` backtracks, and a hostile pattern makes it run for years. Here the patterns become one
non-deterministic automaton, which is run as a deterministic one whose states are made when a name
first needs them (Thompson, CACM 11(6), 1968). The number of states and the work of all matches
together are bounded.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from costmodel.errors import InputError

MAX_STATES = 100_000  # of all patterns of a list
MAX_WORK = 500_000  # states that all matches of a list may look at: half a second

_ACCEPT: Final = 0

Piece: TypeAlias = Callable[["Automaton", int], int]
"""Adds a piece of a pattern to an automaton: told the state that follows it, returns its first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A state of the deterministic automaton: the states in which the other one may be."""

    states: frozenset[int]
    matches: bool
    steps: dict[str, "_Place"] = field(default_factory=dict)  # made when first needed


class Automaton:
    """Patterns of which a name may match any."""

    def __init__(self, called: str) -> None:
        """`called` is what messages call the list."""
        self._called = called
        self._letters: list[tuple[frozenset[str], int] | None] = [None]  # of each state: on, to
        self._free: list[list[int]] = [[]]  # states that follow without a character
        self._at_start: list[list[int]] = [[]]  # that follow where the name begins
        self._at_end: list[list[int]] = [[]]  # that follow where it ends
        self._first: list[int] = []  # of each pattern
        self._places: dict[frozenset[int], _Place] = {}
        self._begin: _Place | None = None
        self._work = 0

    def add(self, pattern: Piece) -> None:
        """Add a pattern, which matches where its last state is reached.

        Raises:
            InputError: The patterns need more than `MAX_STATES`.
        """
        self._first.append(pattern(self, _ACCEPT))
        self._places.clear()
        self._begin = None

    def match(self, name: str) -> bool:
        """Whether any pattern matches the name.

        Raises:
            InputError: The patterns cost more than `MAX_WORK` over all names.
        """
        if self._begin is None:
            self._begin = self._place(self._first, self._at_start)
        place = self._begin
        for character in name:
            if place.matches or not place.states:
                return place.matches
            following = place.steps.get(character)
            if following is None:
                targets = []
                for state in place.states:
                    edge = self._letters[state]
                    if edge is not None and character in edge[0]:
                        targets.append(edge[1])
                self._spend(len(place.states))
                following = place.steps[character] = self._place(targets, None)
            place = following
        end = place.steps.get("")  # no character: the name ends here
        if end is None:
            end = place.steps[""] = self._place(list(place.states), self._at_end)
        return end.matches

    def state(self) -> int:
        """A new state, from which nothing follows yet."""
        if len(self._letters) > MAX_STATES:
            raise InputError(f"{self._called}: its patterns need more than {MAX_STATES:,} states")
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

    def _place(self, states: list[int], border: list[list[int]] | None) -> "_Place":
        """The place of `states` and all that follow them without a character.

        `border` adds what follows where the name begins or ends.
        """
        reached, waiting = set(states), list(states)
        while waiting:
            state = waiting.pop()
            following = self._free[state] + (border[state] if border else [])
            waiting.extend(after for after in following if after not in reached)
            reached.update(following)
        self._spend(1 + len(reached))
        key = frozenset(reached)
        return self._places.setdefault(key, _Place(states=key, matches=_ACCEPT in key))

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise InputError(f"{self._called}: its patterns take too long to match")
