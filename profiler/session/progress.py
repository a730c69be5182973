"""The progress of a profile on stderr: a bar in a terminal, otherwise one line per event.

Programs read the lines, so their form must not change:

    [12/105] olmoe-1b-7b time decode batch=16 ... routing=uniform: done in 3.2 s, about 140 s left
    [13/105] olmoe-1b-7b time decode batch=64 ... routing=uniform: lacking, out of memory

A line without such a number says what is being done meanwhile.
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

# Mean seconds of a run of a case, between the starts of two, in the recordings of an H200 by torch
RECORDED_S: dict[RunName, float] = {"time": 1.5, "trace": 1.3, "counters": 2.0, "energy": 4.0}


def planned_words(pending: Mapping[RunName, int]) -> str:
    """How many runs there are of each kind, and about how long they take on an H200."""
    kinds = ", ".join(f"{count:,} {run}" for run, count in pending.items() if count)
    minutes = sum(RECORDED_S[run] * count for run, count in pending.items()) / 60
    return f"to measure: {kinds}; about {minutes:.0f} min on an H200"


class ProfileProgress:
    """Counts finished runs of cases and estimates the time that the others will take."""

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
        self._pending: dict[RunName, int] = {}
        self._spent: dict[RunName, list[float]] = {}
        self._finished = self._total = 0
        self._began = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def plan(self, pending: Mapping[RunName, int]) -> None:
        """Set how many cases are still to be measured in each kind of run."""
        self._pending = dict(pending)
        self._total = self._finished + sum(pending.values())
        self._bar.update(self._task, total=self._total)
        if any(pending.values()):
            self._line(planned_words(pending))

    def say(self, text: str) -> None:
        """Show what is being done: a start, a build, a self-check."""
        self._bar.update(self._task, description=escape(printable(text)))
        self._line(text)

    def begin(self, label: str) -> None:
        """Note that the run named `label` begins."""
        self._began = self._clock()
        self._bar.update(self._task, description=escape(printable(label)))

    def done(self, run: RunName, label: str) -> None:
        """Note that the run named `label` is measured."""
        seconds = self._clock() - self._began
        self._spent.setdefault(run, []).append(seconds)
        self._finish(run)
        left = f"about {self.left_s:.0f} s left"
        self._bar.update(self._task, left=left)
        self._line(f"{self._number} {label}: done in {seconds:.1f} s, {left}")

    def lacking(self, run: RunName, label: str, reason: str) -> None:
        """Note that the run named `label` cannot be measured."""
        self._finish(run)
        self.tell(f"{self._number} {label}: lacking, {reason}")

    def tell(self, text: str) -> None:
        """Show a message that stays: in a terminal it is printed above the bar."""
        self._line(text)
        if self._console.is_terminal:
            self._bar.print(escape(printable(text)))

    @property
    def left_s(self) -> float:
        """Estimated seconds for all pending runs.

        Each counts as the mean time of its kind so far, or of all kinds if its own has none.
        """
        all_s = [seconds for of_kind in self._spent.values() for seconds in of_kind]
        mean_s = {run: sum(of_kind) / len(of_kind) for run, of_kind in self._spent.items()}
        usual_s = sum(all_s) / len(all_s)
        return sum(count * mean_s.get(run, usual_s) for run, count in self._pending.items())

    @property
    def _number(self) -> str:
        return f"[{self._finished}/{self._total}]"

    def _finish(self, run: RunName) -> None:
        self._finished += 1
        self._pending[run] -= 1
        self._bar.update(self._task, completed=self._finished)

    def _line(self, text: str) -> None:
        if not self._console.is_terminal:
            with suppress(BrokenPipeError):  # the reader of the lines is gone; the work goes on
                self._console.file.write(f"{printable(text)}\n")
                self._console.file.flush()
