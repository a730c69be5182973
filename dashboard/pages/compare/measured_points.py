"""What recordings hold for a chart over batch or context: points of one quantity of one model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from costmodel.errors import InputError
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_routing
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import DTYPES
from costmodel.recordings.measured import Exact, Spread
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Case, Recording
from costmodel.validation.recorded_routing import recorded_routing
from dashboard.app.recordings import load, matching

Axis = Literal["batch", "context"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A measured value at one place of an axis, and the recording that holds it."""

    x: int
    value: float
    source: str


def recorded(model: ModelConfig) -> dict[str, Recording]:
    """The recordings of a model by file name; a file that cannot be read is left out."""
    found = {}
    for name in matching(model):
        try:
            found[name] = load(name)
        except InputError:
            continue  # the page Measured says what is wrong with it
    return found


def _alike(recording: Recording, workload: Workload, axis: Axis) -> Iterator[tuple[int, Case]]:
    """The cases that differ from `workload` in nothing but the axis."""
    for case in recording.cases:
        held = case.workload
        if (
            held.phase == workload.phase
            and held.new_tokens == workload.new_tokens
            and held.dtype == workload.dtype.name
            and workload.kv_dtype == DTYPES[held.dtype]
            and held.routing != "scores"
            and parse_routing(held.routing) == workload.routing
        ):
            if axis == "batch" and held.context == workload.context:
                yield held.batch, case
            if axis == "context" and held.batch == workload.batch:
                yield held.context, case


def quantity(name: str, workload: Workload) -> tuple[RunName, str] | None:
    """The run and the quantity that measure what the page calls `name`; None: none does."""
    time = "graph_s" if workload.phase == "decode" else "eager_s"
    known: dict[str, tuple[RunName, str]] = {
        "predicted time": ("time", time),
        "HBM bytes": ("counters", "hbm_read_bytes"),
        "energy": ("energy", "energy_j"),
    }
    return known.get(name)


def points(
    recordings: dict[str, Recording], name: str, workload: Workload, axis: Axis
) -> list[Point]:
    """The medians of a quantity along an axis, where recordings hold it."""
    wanted = quantity(name, workload)
    if wanted is None:
        return []
    run_name, measure = wanted
    found = []
    for source, recording in recordings.items():
        for x, case in _alike(recording, workload, axis):
            run = case.runs.get(run_name)
            value = None if run is None else run.step.get(measure)
            if isinstance(value, Spread):
                found.append(Point(x=x, value=float(value.median), source=source))
            elif isinstance(value, Exact):
                found.append(Point(x=x, value=float(value.value), source=source))
    return sorted(found, key=lambda point: point.x)


def distinct_points(recordings: dict[str, Recording], workload: Workload) -> dict[str, list[Point]]:
    """Distinct experts and rows over batch, means over layers, as the recorded choices had them."""
    found: dict[str, list[Point]] = {"experts": [], "rows": []}
    for source, recording in recordings.items():
        for x, case in _alike(recording, workload, "batch"):
            for run in case.runs.values():
                chosen = recorded_routing(recording, run)
                if chosen is None:
                    continue
                for kind, value in (("experts", chosen.experts), ("rows", chosen.rows)):
                    if value is not None:
                        found[kind].append(Point(x=x, value=value, source=source))
                break  # the runs of a case make the same choices
    return {kind: sorted(each, key=lambda point: point.x) for kind, each in found.items()}
