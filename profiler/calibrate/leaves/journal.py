"""The journal beside a calibration of leaves: each event on a line, appended as it comes.

So an interrupt, a crash or the end of the time loses only what was being measured, and another
occasion goes on from there. The first line says which backend and which list of shapes it is of.
The calibration's file is made from the journal, again and again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from costmodel.costs.step import step_costs
from costmodel.errors import InputError, WorkError, shown
from costmodel.inputs.workload import Backend
from costmodel.layers.site import region_leaves
from costmodel.recordings.leaf_calibration import LeafCalibration, Work
from costmodel.strict import validated
from profiler.calibrate.leaves.shapes import Shape, shape_table
from profiler.instruments.machine import now

Event = dict[str, Any]
KEPT = ("session", "point", "measured", "lacking", "anchors", "idle", "loop")  # other events pass


@dataclass(slots=True)
class Journal:
    """The events of one backend's calibration, in a file that grows by lines.

    Attributes:
        path: Of the file.
        backend: Whose kernels run.
        shapes: The list that numbers in it are of.
    """

    path: Path
    backend: Backend
    shapes: Sequence[Shape]
    events: list[Event] = field(default_factory=list)

    def open(self, *, resume: bool) -> None:
        """Begin the file, or read what it holds.

        Raises:
            InputError: It exists and is not to be resumed, or it is of something else.
            WorkError: The system does not let us write.
        """
        first = {
            "event": "calibration of leaves",
            "backend": self.backend,
            "shapes": _digest(self.shapes),
        }
        if self.path.exists():
            if not resume:
                raise InputError(
                    f"out={shown(str(self.path))}: exists; --resume measures what it lacks"
                )
            self.events = self._read(first)
        else:
            self._append(first)

    def _read(self, first: Event) -> list[Event]:
        """The events; a last line that was cut off is left out."""
        try:
            lines = self.path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"out={shown(str(self.path))}: cannot be read: {error}") from None
        events: list[Event] = []
        for number, line in enumerate(lines, 1):
            try:
                event = json.loads(line)
            except ValueError:
                if number == len(lines):
                    self.path.write_text("".join(f"{kept}\n" for kept in lines[:-1]))
                    break
                raise InputError(f"out={shown(str(self.path))}: line {number} is no JSON") from None
            if not isinstance(event, dict) or not isinstance(event.get("event"), str):
                raise InputError(f"out={shown(str(self.path))}: line {number} is no event")
            events.append(event)
        if not events or events[0] != first:
            raise InputError(
                f"out={shown(str(self.path))}: is a journal of another backend or list of shapes"
            )
        return events[1:]

    def _append(self, event: Event) -> None:
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(event, allow_nan=False) + "\n")
        except OSError as error:
            raise WorkError(f"{shown(str(self.path))}: cannot be written: {error}") from None

    def add(self, event: Event) -> None:
        """Append an event, if it is of a kind that is kept."""
        if event.get("event") in KEPT:
            self._append(event)
            self.events.append(event)

    def add_line(self, line: bytes) -> Event:
        """Append the event of a worker's line, and return it.

        Raises:
            WorkError: The line is no event.
        """
        try:
            event = json.loads(line)
            known = isinstance(event["event"], str)
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise WorkError(f"a worker said what is no event: {shown(line.decode()[:80])}")
        self.add(event)
        checked: Event = event
        return checked

    def done(self, run: str) -> set[int]:
        """The numbers of the shapes that a kind of run has measured, or given up."""
        return {
            event["shape"]
            for event in self.events
            if event["event"] in ("measured", "lacking") and event["run"] == run
        }

    @property
    def has_loops(self) -> bool:
        """Whether energy was measured."""
        return any(event["event"] == "loop" for event in self.events)

    def calibration(self) -> LeafCalibration:
        """All that the journal holds, checked by the schema.

        Raises:
            WorkError: Nothing was measured.
            InputError: An event breaks a rule of the schema.
        """
        events = self.events
        numbers = sorted({e["shape"] for e in events if e["event"] in ("measured", "point")})
        if not numbers and not self.has_loops:
            reasons = [e["reason"] for e in events if e["event"] == "lacking"]
            raise WorkError(f"nothing was measured: {reasons[-1] if reasons else 'no time'}")
        sessions = [event["session"] for event in events if event["event"] == "session"]
        alike = {json.dumps({**s, "started": ""}): s for s in reversed(sessions)}
        table = {
            "schema_version": 1,
            "kind": "leaves",
            "backend": self.backend,
            "sessions": list(reversed(alike.values())),
            "finished": now(),
            "shapes": [self._shape(number) for number in numbers],
            "loops": [event["loop"] for event in events if event["event"] == "loop"],
            "anchors": [
                anchor
                for event in events
                if event["event"] == "anchors"
                for anchor in event["anchors"]
            ],
            "idle_w": next((e["idle_w"] for e in events if e["event"] == "idle"), None),
        }
        return validated(LeafCalibration, table, where=f"journal {shown(self.path.name)}")

    def _shape(self, number: int) -> dict[str, Any]:
        """One shape with its points; of a run made twice, the later one."""
        shape, points = self.shapes[number], dict[str, dict[str, Any]]()
        lacking, conditions, accesses = {}, {}, {}
        for event in self.events:
            if event.get("shape") != number:
                continue
            run = event["run"]
            if event["event"] == "point":
                points.setdefault(event["path"], {})[run] = event["reading"]
            elif event["event"] == "lacking":
                lacking[run] = event["reason"]
            else:
                conditions[run], accesses = event["conditions"], event["accesses"]
        works = works_of(shape, self.backend)
        return {
            **shape_table(shape),
            "seed": number,
            "points": [
                {"path": path, "work": _work(works, path), "readings": readings}
                for path, readings in points.items()
            ],
            "lacking": lacking,
            "conditions": conditions,
            "accesses": accesses,
        }


def works_of(shape: Shape, backend: Backend) -> dict[str, dict[str, float]]:
    """The cost model's counts of each leaf of the second layer, and of those beside the layers."""
    step = shape.workload.to_workload(backend=backend).step()
    costs = step_costs(shape.model, step)
    kernels = costs.kernels(backend)
    return {
        f"layers.1.{operator.leaf}" if operator.layers else operator.path: {
            "compulsory_bytes": float(operator.compulsory_bytes),
            "activation_bytes": float(operator.total("activation_bytes")),
            "intermediate_bytes": float(operator.total("intermediate_bytes")),
            "flops": float(operator.total("flops")),
            "launches": float(kernels.operator_launches(operator) or 0),
        }
        for operator in costs.operators
        if not operator.layers or 1 in operator.layers
    }


def _work(works: dict[str, dict[str, float]], path: str) -> dict[str, float] | None:
    """The sum over the leaves of a path; None where one of them is unknown."""
    leaves = region_leaves(path)
    if any(leaf not in works for leaf in leaves):
        return None
    return {name: sum(works[leaf][name] for leaf in leaves) for name in Work.__dataclass_fields__}


def _digest(shapes: Sequence[Shape]) -> str:
    tables = [shape_table(shape) for shape in shapes]
    return sha256(json.dumps(tables).encode()).hexdigest()[:16]
