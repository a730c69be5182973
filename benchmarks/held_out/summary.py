"""A held-out measurement in one file: what was measured of each case, in which sessions and parts.

The command writes `held_out.json` beside the recordings; a copy of it as `h200.json` in this folder
is what `docs/accuracy.md` tells of.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.held_out.card import loops_of
from benchmarks.held_out.commitment import QUANTITIES, Predicted, of_card
from benchmarks.held_out.journal import Journal
from benchmarks.held_out.measure import part_recordings
from benchmarks.held_out.shapes import FOLDER, HeldOutModel
from costmodel.inputs.files import read_json_object
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.measured import Spread
from costmodel.validation.counterparts import PREDICTED

FILE = FOLDER / "h200.json"
NAME = "held_out.json"

Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One quantity of one case: measured, and predicted before.

    Attributes:
        measured: the median over processes of their medians.
        processes: how many there are.
        low: end of the predicted 90 % interval, or None.
        high: the other end, or None.
    """

    model: HeldOutModel
    backend: Backend
    case: CaseWorkload
    quantity: str
    measured: float
    processes: int
    predicted: float
    low: float | None
    high: float | None

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured / self.predicted


def summary(journal: Journal, models: Iterable[HeldOutModel]) -> dict[str, Any]:
    """The whole measurement; only parts that count give `values`, the others `void_values`.

    With the card's energy loops, `of_card` holds the energies that the committed predictor gives
    with them.
    """
    models = tuple(models)
    names = {model.model.name: model.name for model in models}
    values: dict[bool, dict[tuple[str, str, str, str], list[float]]] = {True: {}, False: {}}
    sessions, parts = [], []
    for part in journal.parts:
        parts.append(asdict(part) | {"moved": part.moved, "counts": part.counts})
        for backend, recording in part_recordings(journal.out, part):
            for session in recording.sessions:
                stated = {"started": session.started, "commit": session.commit}
                stated |= {"name": session.machine.name, "driver": session.machine.driver}
                if stated not in sessions:
                    sessions.append(stated)
            for case in recording.cases:
                for run in case.runs.values():
                    name = names[recording.model.name]
                    for quantity, of_run in QUANTITIES.items():
                        reading = run.step.get(quantity)
                        if of_run == part.run and isinstance(reading, Spread):
                            key = name, backend, case.workload.label, quantity
                            values[part.counts].setdefault(key, []).append(reading.median)
    begun = journal.events[0]
    return {
        "schema_version": 1,
        "committed": begun["committed"],
        "digests": begun["digests"],
        "sessions": sessions,
        "parts": parts,
        "card": journal.card,
        "of_card": [asdict(each) for each in of_card(loops_of(journal.card), models)],
        "void_values": _rows(values[False]),
        "values": _rows(values[True]),
    }


def _rows(values: Mapping[tuple[str, str, str, str], list[float]]) -> list[dict[str, Any]]:
    return [
        {"model": m, "backend": b, "case": c, "quantity": q, "medians": medians}
        for (m, b, c, q), medians in values.items()
    ]


def summary_text(table: Summary) -> str:
    """The file's text, a value on a line."""
    long = ("of_card", "void_values", "values")
    rest = {name: value for name, value in table.items() if name not in long}
    text = json.dumps(rest, indent=1, allow_nan=False).removesuffix("\n}")
    for name in long:
        rows = ",\n".join(json.dumps(row) for row in table[name])
        text += f',\n "{name}": [\n{rows}\n]'
    return text + "\n}\n"


def committed_summary(path: Path = FILE) -> Summary | None:
    """The committed measurement; None: there is none yet."""
    return read_json_object(path) if path.exists() else None


def anchored(measured: Summary) -> tuple[Predicted, ...]:
    """The energies predicted with the card's own loops."""
    return tuple(Predicted(**row) for row in measured["of_card"])


def points(
    measured: Summary,
    predictions: Iterable[Predicted],
    models: Iterable[HeldOutModel],
    of: str = "values",
) -> tuple[Point, ...]:
    """Every measured value that a prediction (not a bound of time) was committed for.

    Of the parts that count, or `of` "void_values" those of the others.
    """
    by_name = {model.name: model for model in models}
    predicted = {(p.model, p.backend, p.case, p.quantity): p for p in predictions}
    found = []
    for value in measured[of]:
        model = by_name[value["model"]]
        key = value["model"], value["backend"], value["case"], value["quantity"]
        stated = predicted.get(key)
        bound_of_time = stated is not None and stated.basis != PREDICTED
        if stated is None or (bound_of_time and value["quantity"] != "hbm_read_bytes"):
            continue
        found.append(
            Point(
                model=model,
                backend=value["backend"],
                case=next(case for case in model.cases if case.label == value["case"]),
                quantity=value["quantity"],
                measured=median(value["medians"]),
                processes=len(value["medians"]),
                predicted=stated.value,
                low=stated.low,
                high=stated.high,
            )
        )
    return tuple(found)
