"""The progress of a calibration on stderr: a bar in a terminal, plain lines in a pipe."""

import sys
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from costmodel.show.text import printable

SPEED_S = 30.0  # over which the speed is averaged


class StderrProgress:
    """Shows how many of `points` points are done; a context manager."""

    def __init__(self, points: int, *, clock: Callable[[], float] = monotonic) -> None:
        console = Console(file=sys.stderr, markup=False, highlight=False, emoji=False)
        self.bar: Bar | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description:10}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self.bar = Bar(*columns, console=console, speed_estimate_period=SPEED_S, transient=True)
            self.task = self.bar.add_task("", total=points)
        self.points, self.done, self.clock = points, 0, clock
        self.began_s = clock()

    def __enter__(self) -> Self:
        """Show the bar."""
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.stop()

    def begin(self, stage: str) -> None:
        """Show that a stage begins: a curve, the launch costs or the power."""
        if self.bar is not None:
            self.bar.update(self.task, description=stage)
        else:
            after_s = self.clock() - self.began_s
            left = f", about {self._left_s(after_s):.0f} s left" if self.done else ""
            self.say(f"{after_s:.0f} s: {stage} ({self.done} of {self.points} points done{left})")

    def advance(self) -> None:
        """Count one more point, measured or left out."""
        self.done += 1
        if self.bar is not None:
            self.bar.advance(self.task)

    def say(self, message: str) -> None:
        """Show a message on a line of its own."""
        line = printable(message)
        if self.bar is not None:
            self.bar.console.print(line, soft_wrap=True)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def _left_s(self, after_s: float) -> float:
        return after_s / self.done * (self.points - self.done)
