"""How far a profile is, on stderr: a bar in a terminal, one line for each event anywhere else.

The lines are read by programs, so their form is kept:

    [12/105] olmoe-1b-7b time decode batch=16 ... routing=uniform: done in 3.2 s, about 140 s left
    [13/105] olmoe-1b-7b time decode batch=64 ... routing=uniform: lacking, out of memory

Any line without such a number says what is being done meanwhile.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from costmodel.recordings.quantities import RunName
from costmodel.show.text import printable


class Progress:
    """Counts runs of cases as they are finished, and estimates the time that the rest takes."""

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(stderr=True, markup=False, highlight=False, emoji=False)
        self._clock = clock
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, left="")
        self._left: dict[RunName, int] = {}
        self._spent: dict[RunName, list[float]] = {}
        self._finished = self._total = 0
        self._began = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def plan(self, left: Mapping[RunName, int]) -> None:
        """Say how many runs of each kind are to do."""
        self._left = dict(left)
        self._total = self._finished + sum(left.values())
        self._bar.update(self._task, total=self._total)

    def say(self, text: str) -> None:
        """What is being done: importing, building, checking."""
        self._bar.update(self._task, description=escape(printable(text)))
        self._line(text)

    def begin(self, label: str) -> None:
        """A run of a case is in hand."""
        self._began = self._clock()
        self._bar.update(self._task, description=escape(printable(label)))

    def done(self, run: RunName, label: str) -> None:
        """The run in hand is measured."""
        seconds = self._clock() - self._began
        self._spent.setdefault(run, []).append(seconds)
        self._finish(run)
        left = f"about {self.left_s:.0f} s left"
        self._bar.update(self._task, left=left)
        self._line(f"{self._number} {label}: done in {seconds:.1f} s, {left}")

    def lacking(self, run: RunName, label: str, reason: str) -> None:
        """A run cannot be had."""
        self._finish(run)
        self.tell(f"{self._number} {label}: lacking, {reason}")

    def tell(self, text: str) -> None:
        """Say what is not to be missed: in a terminal it stays, above the bar."""
        self._line(text)
        if self._console.is_terminal:
            self._bar.print(escape(printable(text)))

    @property
    def left_s(self) -> float:
        """The mean time of a run of its kind so far, or of any kind, for all that is left."""
        spent = [seconds for each in self._spent.values() for seconds in each]
        mean = {run: sum(each) / len(each) for run, each in self._spent.items()}
        usual = sum(spent) / len(spent)
        return sum(count * mean.get(run, usual) for run, count in self._left.items())

    @property
    def _number(self) -> str:
        return f"[{self._finished}/{self._total}]"

    def _finish(self, run: RunName) -> None:
        self._finished += 1
        self._left[run] -= 1
        self._bar.update(self._task, completed=self._finished)

    def _line(self, text: str) -> None:
        if not self._console.is_terminal:
            with suppress(BrokenPipeError):  # whoever read the lines went away; the work goes on
                self._console.file.write(f"{printable(text)}\n")
                self._console.file.flush()
