"""Regular expressions and globs of untrusted files, as patterns of an `Automaton`.

What is read of a regular expression: literals, `.`, classes, groups, `|`, `* + ? {m,n}`, `^`, `$`.
Look-around, back-references and flags are refused. Length and nesting are bounded.
"""

from typing import Final

from costmodel.errors import InputError, shown
from costmodel.inputs.hf.quantization.automaton import Automaton, Piece

MAX_PATTERN = 1000  # characters of one pattern
MAX_NESTING = 16  # groups within groups
MAX_REPEATS = 200  # n of {m,n}

_ASCII: Final = frozenset(map(chr, range(128)))
_ANY: Final = _ASCII - {"\n"}
_DIGITS: Final = frozenset("0123456789")
_WORD: Final = frozenset(c for c in _ASCII if c.isalnum() or c == "_")
_SPACE: Final = frozenset(" \t\n\r\f\v")
_CLASSES: Final = {
    "d": _DIGITS,
    "D": _ASCII - _DIGITS,
    "w": _WORD,
    "W": _ASCII - _WORD,
    "s": _SPACE,
    "S": _ASCII - _SPACE,
}


def glob(text: str, *, field: str) -> Piece:
    """A glob that a whole name must match: `*` stands for any text, `?` for a character.

    Raises:
        InputError: It is too long; the message calls it `field`.
    """
    if len(text) > MAX_PATTERN:
        raise InputError(f"{field}={shown(text)}: holds more than {MAX_PATTERN:,} characters")

    def build(automaton: Automaton, then: int) -> int:
        state = automaton.border(then, start=False)
        for character in reversed(text):
            if character == "*":
                state = automaton.fork(state)
                automaton.join(state, automaton.on(_ANY, state))
            else:
                state = automaton.on(_ANY if character == "?" else frozenset(character), state)
        return state

    return build


def regex(text: str, *, field: str) -> Piece:
    """An expression that the beginning of a name must match, as in Python's `re.match`.

    Raises:
        InputError: It is too long, malformed, or holds what is not read; the message calls it
            `field`.
    """
    return _Parser(text, field).whole()


def _one_of(letters: frozenset[str]) -> Piece:
    return lambda automaton, then: automaton.on(letters, then)


def _border(*, start: bool) -> Piece:
    return lambda automaton, then: automaton.border(then, start=start)


class _Parser:
    """Reads one regular expression from left to right."""

    def __init__(self, text: str, field: str) -> None:
        self._text, self._field = text, field
        self._place = 0
        self._depth = 0
        if len(text) > MAX_PATTERN:
            raise self._refused(f"holds more than {MAX_PATTERN:,} characters")

    def whole(self) -> Piece:
        piece = self._choice()
        if self._place < len(self._text):
            raise self._refused("closes a group that is not open")
        return piece

    def _choice(self) -> Piece:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self._refused(f"is nested deeper than {MAX_NESTING} groups")
        branches = [self._sequence()]
        while self._next_is("|"):
            branches.append(self._sequence())
        self._depth -= 1
        return lambda automaton, then: automaton.fork(*(b(automaton, then) for b in branches))

    def _sequence(self) -> Piece:
        pieces: list[Piece] = []
        while self._place < len(self._text) and self._text[self._place] not in "|)":
            pieces.append(self._repeated(self._atom()))

        def build(automaton: Automaton, then: int) -> int:
            for piece in reversed(pieces):
                then = piece(automaton, then)
            return then

        return build

    def _repeated(self, piece: Piece) -> Piece:
        least, most = 1, 1
        if self._next_is("*"):
            least, most = 0, -1
        elif self._next_is("+"):
            least, most = 1, -1
        elif self._next_is("?"):
            least, most = 0, 1
        elif self._next_is("{"):
            least, most = self._bounds()
        else:
            return piece
        self._next_is("?")  # a lazy repeat matches the same names
        if self._place < len(self._text) and self._text[self._place] in "*+?{":
            raise self._refused("repeats a repeat")

        def build(automaton: Automaton, then: int) -> int:
            state = automaton.fork(then)
            if most < 0:
                automaton.join(state, piece(automaton, state))
            for _ in range(most - least):
                state = automaton.fork(piece(automaton, state), then)
            for _ in range(least):
                state = piece(automaton, state)
            return state

        return build

    def _bounds(self) -> tuple[int, int]:
        inside, brace, _ = self._text[self._place :].partition("}")
        low, comma, high = inside.partition(",")
        numbers = [part for part in (low, high) if part]
        if not brace or not low or not all(n.isdecimal() and len(n) < 4 for n in numbers):  # noqa: PLR2004 - digits of MAX_REPEATS
            raise self._refused("holds a brace that is no {m}, {m,} or {m,n}")
        self._place += len(inside) + 1
        least = int(low)
        most = (int(high) if high else -1) if comma else least
        if max(least, most) > MAX_REPEATS or 0 <= most < least:
            raise self._refused(f"repeats more than {MAX_REPEATS} times, or from more to fewer")
        return least, most

    def _atom(self) -> Piece:
        character = self._take()
        if character == "(":
            return self._group()
        if character in "^$":
            return _border(start=character == "^")
        if character in "*+?{":
            raise self._refused("repeats nothing")
        if character == "[":
            return _one_of(self._class())
        if character == "\\":
            character = self._take()
            if character in "AZ":
                return _border(start=character == "A")
            return _one_of(self._escaped(character))
        return _one_of(_ANY if character == "." else frozenset(character))

    def _group(self) -> Piece:
        if self._next_is("?") and not self._next_is(":"):
            raise self._refused("holds (?...), and only (?:...) is read")
        inner = self._choice()
        if not self._next_is(")"):
            raise self._refused("leaves a group open")
        return inner

    def _escaped(self, character: str) -> frozenset[str]:
        if character in _CLASSES:
            return _CLASSES[character]
        if character.isalnum():
            raise self._refused(f"holds \\{character}, which is not read")
        return frozenset(character)

    def _class(self) -> frozenset[str]:
        negated = self._next_is("^")
        letters: set[str] = set()
        while (character := self._take()) != "]" or not letters:
            low = self._escaped(self._take()) if character == "\\" else frozenset(character)
            after = self._text[self._place : self._place + 2]
            if len(low) == 1 and len(after) == 2 and after[0] == "-" and after[1] not in "]\\":  # noqa: PLR2004 - a dash and the end of the range
                self._place += 2
                first, last = ord(min(low)), ord(after[1])
                letters.update(c for c in _ASCII if first <= ord(c) <= last)
                if first > last:
                    raise self._refused("holds a range from more to less")
            else:
                letters |= low
        return _ASCII - letters if negated else frozenset(letters)

    def _take(self) -> str:
        if self._place == len(self._text):
            raise self._refused("ends too early")
        self._place += 1
        return self._text[self._place - 1]

    def _next_is(self, character: str) -> bool:
        if self._text[self._place : self._place + 1] != character:
            return False
        self._place += 1
        return True

    def _refused(self, rule: str) -> InputError:
        return InputError(f"{self._field}={shown(self._text)}: as a regular expression it {rule}")
