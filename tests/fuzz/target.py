"""What every target of the fuzz test is: inputs drawn by a seed, and what each attempt must hold.

An attempt passes if the input is accepted and all relations hold, or if it is refused as a user's
mistake is to be refused. Anything that it raises is a fault.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType

from costmodel.errors import InputError, WorkError

CPU_S, WALL_S = 30, 600  # of one input; on a quiet machine the slowest take a second
MAX_MESSAGE = 3000  # characters of a refusal


class TooLongError(BaseException):
    """An input took more time than `CPU_S` or `WALL_S`; passes every `except Exception`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input, ready to be tried."""

    text: str  # for the report of a failure
    attempt: Callable[[], bool]  # whether it was accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One kind of input. `make` draws a case, and may write into the folder."""

    name: str
    make: Callable[[Random, Path], Case]
    share: int  # of all cases, relative to the other targets


def refused(attempt: Callable[[], object]) -> bool:
    """Whether an attempt is refused, in one printable line of bounded length."""
    try:
        attempt()
    except (InputError, WorkError) as error:
        check_message(str(error))
        return True
    return False


def check_message(text: str) -> None:
    """Assert that a refusal is one printable line of bounded length."""
    assert text, "the refusal says nothing"
    assert text.isprintable(), f"the refusal is not one printable line: {text[:200]!r}"
    assert len(text) <= MAX_MESSAGE, f"the refusal has {len(text)} characters: {text[:200]!r}"


@contextmanager
def limited() -> Iterator[None]:
    """End what takes too long by `TooLongError`. Only the main thread can use it."""

    def stop(number: int, _: FrameType | None) -> None:
        raise TooLongError(f"over {CPU_S} s of CPU" if number == signal.SIGPROF else f"{WALL_S} s")

    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, CPU_S),
        (signal.SIGALRM, signal.ITIMER_REAL, WALL_S),
    )
    before = [signal.signal(number, stop) for number, _, _ in timers]
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
