"""The journal of a held-out measurement: readings of anchors and parts, a line each, as they come.

A part is one kind of run of what is still to be measured, in a folder of its own. The readings
before and after it say whether it counts: a part is void if an anchor moved between them. A part
that was cut off before its closing reading is closed by the first reading of the next call, so it
counts only if the GPU is then as it was.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.held_out.anchors import Readings, moved
from benchmarks.held_out.card import Loop
from benchmarks.held_out.commitment import Commitment
from costmodel.errors import InputError, WorkError, shown
from costmodel.recordings.quantities import RunName
from profiler.instruments.machine import now

NAME = "journal.jsonl"
Event = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the measurement.

    Attributes:
        folder: of its recordings, within the measurement's.
        process: 1, 2 or 3 of the processes that measure the same.
        started: the moment.
        before: the last reading of the anchors before it.
        after: the first reading after it; None: there is none yet.
    """

    folder: str
    run: RunName
    process: int
    started: str
    before: Readings
    after: Readings | None

    @property
    def moved(self) -> dict[str, float]:
        """The anchors that moved too far, with the share; none of a part that is not closed."""
        return {} if self.after is None else moved(self.before, self.after)

    @property
    def counts(self) -> bool:
        """Whether it is closed, and not void."""
        return self.after is not None and not self.moved


@dataclass(slots=True)
class Journal:
    """The events of a measurement, in a file that grows by lines."""

    out: Path
    events: list[Event] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The file."""
        return self.out / NAME

    def open(self, commitment: Commitment, *, resume: bool) -> None:
        """Begin the file, or read what it holds.

        Raises:
            InputError: It exists and is not to be resumed, or it is of another commitment.
            WorkError: The system does not let us write.
        """
        first = {
            "event": "held-out",
            "committed": commitment.committed,
            "digests": commitment.digests,
        }
        if not self.path.exists():
            self.add(first)
            return
        where = f"out={shown(str(self.out))}"
        if not resume:
            raise InputError(f"{where}: holds a measurement; --resume goes on with it")
        self.events = read_events(self.path)
        if not self.events or self.events[0] != first:
            raise InputError(f"{where}: holds a measurement of another commitment")

    def add(self, event: Event) -> None:
        """Append an event."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event, allow_nan=False) + "\n")
        except OSError as error:
            raise WorkError(f"{shown(str(self.path))}: cannot be written: {error}") from None
        self.events.append(event)

    def add_anchors(self, seconds: Readings) -> None:
        """Note a reading of the anchors."""
        self.add({"event": "anchors", "at": now(), "seconds": seconds})

    def add_card(self, loops: Sequence[Loop]) -> None:
        """Note the card's energy loops."""
        self.add({"event": "card", "at": now(), "loops": list(loops)})

    @property
    def card(self) -> list[Loop]:
        """The last energy loops of the card; empty: there are none."""
        noted = [event["loops"] for event in self.events if event["event"] == "card"]
        return noted[-1] if noted else []

    def begin(self, run: RunName, process: int) -> Path:
        """Note that a part begins; the folder for its recordings."""
        number = 1 + sum(event["event"] == "part" for event in self.events)
        folder = f"{number:02d}-{run}-{process}"
        part = {"event": "part", "folder": folder, "run": run, "process": process, "at": now()}
        self.add(part)
        return self.out / folder

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts so far, each between two readings."""
        return parts_of(self.events)


def read_events(path: Path) -> list[Event]:
    """The events of a file; a last line that was cut off is removed from it.

    Raises:
        InputError: Another line is no event.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    events: list[Event] = []
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
            known = isinstance(event["event"], str)
        except (ValueError, KeyError, TypeError):
            known = False
        if known:
            events.append(event)
        elif number == len(lines):
            path.write_text("".join(f"{kept}\n" for kept in lines[:-1]), encoding="utf-8")
        else:
            raise InputError(f"{path.name}: line {number} is no event")
    return events


def parts_of(events: list[Event]) -> tuple[Part, ...]:
    """The parts among events, in order."""
    parts = []
    for index, event in enumerate(events):
        if event["event"] != "part":
            continue
        before = [each["seconds"] for each in events[:index] if each["event"] == "anchors"]
        after = [each["seconds"] for each in events[index:] if each["event"] == "anchors"]
        parts.append(
            Part(
                folder=event["folder"],
                run=event["run"],
                process=event["process"],
                started=event["at"],
                before=before[-1] if before else {},
                after=after[0] if after else None,
            )
        )
    return tuple(parts)
