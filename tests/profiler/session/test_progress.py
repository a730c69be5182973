"""Progress: lines that a program can read, a bar in a terminal, a time left by hand."""

import io
import re
from datetime import datetime
from itertools import pairwise
from statistics import fmean

import pytest
from rich.console import Console

from costmodel.recordings.quantities import RUNS, RunName
from profiler.session.progress import RECORDED_S, ProfileProgress, planned_words
from tests.committed import FIRST, has_anchors, recording


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_lines_and_the_time_left() -> None:
    out, clock = io.StringIO(), Clock()
    with ProfileProgress(Console(file=out), clock) as progress:
        progress.plan({"time": 3, "energy": 2})
        progress.say("building a\x1b[31m")
        progress.begin("one")
        clock.now += 3.21
        progress.done("time", "one")  # 3.21 s each for 2 more and 2 of another kind: 12.84
        progress.lacking("time", "two", "out of memory")
        progress.begin("three")
        clock.now += 1.79
        progress.done("time", "three")  # mean of all 2.5 s, for the 2 of which nothing is known
        progress.begin("four")
        clock.now += 10
        progress.done("energy", "four")  # its own kind's mean, 10 s, for the last
        progress.begin("five")
        clock.now += 20
        progress.done("energy", "five")
    assert out.getvalue().splitlines() == [
        "to measure: 3 time, 2 energy; about 0 min on an H200",  # 12.2 s
        "building a [31m",
        "[1/5] one: done in 3.2 s, about 13 s left",
        "[2/5] two: lacking, out of memory",
        "[3/5] three: done in 1.8 s, about 5 s left",
        "[4/5] four: done in 10.0 s, about 10 s left",
        "[5/5] five: done in 20.0 s, about 0 s left",
    ]


def test_a_terminal_has_a_bar() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with ProfileProgress(console, Clock()) as progress:
        progress.plan({"time": 2})
        progress.begin("one [red]")
        progress.lacking("time", "one [red]", "out of memory")
        progress.tell("self-check failed: copy")
        progress.begin("two")
        progress.done("time", "two")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "[1/2] one [red]: lacking, out of memory" in text
    assert "self-check failed: copy" in text
    assert "2/2" in text
    assert "about 0 s left" in text
    assert "done in" not in text


class Gone(io.StringIO):
    def write(self, _: str) -> int:
        raise BrokenPipeError


def test_the_work_goes_on_when_nobody_reads_the_lines() -> None:
    with ProfileProgress(Console(file=Gone()), Clock()) as progress:
        progress.plan({"time": 1})
        progress.begin("one")
        progress.done("time", "one")


def test_a_plan_says_its_runs_and_their_minutes_on_an_h200() -> None:
    """The gaps between starts in the committed recordings: 40 x 1.7 + 33 x 2.1 + 10 x 4.0 s."""
    pending: dict[RunName, int] = {"time": 40, "trace": 0, "counters": 33, "energy": 10}
    said = "to measure: 40 time, 33 counters, 10 energy; about 3 min on an H200"
    assert planned_words(pending) == said


@pytest.mark.parametrize("run", RUNS)
def test_the_pace_of_the_recordings_is_that_of_their_starts(run: RunName) -> None:
    """Mean seconds from one start to the next in one session, where no other model ran between.

    Of the recordings by today's profiler, which measures anchors; the older one took other rounds.
    """
    gaps: list[float] = []
    for path in FIRST:
        if not has_anchors(path.name):
            continue
        for index, _ in enumerate(recording(path.name).sessions):
            starts = sorted(
                datetime.fromisoformat(case.runs[run].conditions.started)
                for case in recording(path.name).cases
                if run in case.runs and case.runs[run].session == index
            )
            gaps += [(b - a).total_seconds() for a, b in pairwise(starts)]
    usual = [gap for gap in gaps if gap < 60]
    assert len(usual) > 30
    assert RECORDED_S[run] == pytest.approx(fmean(usual), rel=0.05)
