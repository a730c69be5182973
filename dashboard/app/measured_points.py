"""Measured points of one model, taken from recordings: of a step, or along batch or context."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from costmodel.errors import InputError
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_routing
from costmodel.inputs.workload import Backend, Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.mesh import ONE_GPU
from costmodel.recordings.measured import Exact, Spread
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Case, Recording, Run
from costmodel.validation.machines import PRESETS, machine_of
from costmodel.validation.recorded_routing import chosen_kinds, recorded_routing
from dashboard.app.recordings import load, matching

Along = Literal["batch", "context"]  # what varies along a chart
Recorded: TypeAlias = dict[str, Recording]
"""The recordings of a model, by file name."""
MEASURED = ("time.predicted_s", "hbm_bytes.compulsory", "energy.predicted_j")  # of a step


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A measured value, the name of its recording, and what measured it."""

    x: int  # batch or context
    value: float
    source: str
    device: str  # as its driver states it
    backend: str

    @property
    def maker(self) -> str:
        """What measured it: the machine and the backend."""
        return f"{self.device}, {self.backend}"


def recorded(model: ModelConfig) -> Recorded:
    """The recordings of a model by file name; a file that cannot be read is left out."""
    recordings = {}
    for name in matching(model):
        try:
            recordings[name] = load(name)
        except InputError:
            continue  # the page Measured says what is wrong with it
    return recordings


def _cases(recording: Recording, workload: Workload, axis: Along) -> Iterator[tuple[int, Case]]:
    """The cases that differ from `workload` along the axis only, each with its place there."""
    fixed: Along = "context" if axis == "batch" else "batch"
    for case in recording.cases if workload.caches_as_run else ():
        recorded_workload = case.workload
        if (
            getattr(recorded_workload, fixed) == getattr(workload, fixed)
            and recorded_workload.phase == workload.phase
            and recorded_workload.new_tokens == workload.new_tokens
            and recorded_workload.dtype == workload.dtype_label
            and workload.kv_dtype == DTYPES[recorded_workload.dtype]
            and recorded_workload.places_tables_as(workload.placement)
            and recorded_workload.routing != "scores"
            and parse_routing(recorded_workload.routing, files=False) == workload.routing
        ):
            yield getattr(recorded_workload, axis), case


def measured_quantity(name: str, workload: Workload) -> tuple[RunName, str] | None:
    """The run and the measured quantity for a predicted one, by its name; None: there is none."""
    time = "graph_s" if workload.phase == "decode" else "eager_s"
    known: dict[str, tuple[RunName, str]] = {
        "time.predicted_s": ("time", time),
        "hbm_bytes.compulsory": ("counters", "hbm_read_bytes"),
        "energy.predicted_j": ("energy", "energy_j"),
    }
    return known.get(name)


def points(recordings: Recorded, name: str, workload: Workload, axis: Along) -> list[Point]:
    """The medians of a quantity along an axis, as recordings of the backend hold it, of any GPU."""
    counterpart = measured_quantity(name, workload)
    if counterpart is None:
        return []
    run_name, quantity = counterpart
    measured = []
    for source, recording in recordings.items():
        for x, case in _cases(recording, workload, axis):
            run = case.runs.get(run_name)
            if run is None or run.backend != workload.backend:
                continue
            value = run.step.get(quantity)
            if isinstance(value, Spread | Exact):
                number = value.median if isinstance(value, Spread) else value.value
                measured.append(_point(x, float(number), source, recording, run))
    return sorted(measured, key=lambda point: point.x)


def on_gpu(points: Sequence[Point], hardware_name: str) -> list[Point]:
    """The points that the GPU of a preset measured."""
    return [point for point in points if PRESETS.get(point.device) == hardware_name]


def measured_step(recordings: Recorded, workload: Workload, hardware_name: str) -> dict[str, Point]:
    """What was measured of this very step on this GPU by this backend, by the predicted quantity.

    Of several recordings the first one's; empty on several GPUs, of which there is none.
    """
    if workload.mesh != ONE_GPU:
        return {}
    measured = {}
    for name in MEASURED:
        of_step = [
            point
            for point in on_gpu(points(recordings, name, workload, "batch"), hardware_name)
            if point.x == workload.batch
        ]
        if of_step:
            measured[name] = of_step[0]
    return measured


def left_out(
    recordings: Sequence[Recorded],
    name: str,
    workloads: Sequence[Workload],
    axis: Along,
    hardware_name: str,
) -> list[str]:
    """What measured the same steps on another GPU or by another backend, each once."""
    makers: dict[str, None] = {}
    for of_model, workload in zip(recordings, workloads, strict=True):
        for backend in get_args(Backend):
            for point in points(of_model, name, replace(workload, backend=backend), axis):
                if PRESETS.get(point.device) != hardware_name or backend != workload.backend:
                    makers[point.maker] = None
    return list(makers)


def _point(x: int, value: float, source: str, recording: Recording, run: Run) -> Point:
    device = machine_of(recording, [run]).name
    return Point(x=x, value=value, source=source, device=device, backend=run.backend)


def distinct_points(recordings: Recorded, workload: Workload) -> dict[str, list[Point]]:
    """Distinct experts and rows of a layer over batch, as recorded: means over the layers.

    The routing and the model make the choices, neither the GPU nor the backend.
    """
    measured: dict[str, list[Point]] = {"experts": [], "rows": []}
    for source, recording in recordings.items():
        kinds = chosen_kinds(recording.model)
        for x, case in _cases(recording, workload, "batch"):
            for run in case.runs.values():
                routing = recorded_routing(recording, run, kinds)
                if routing is None:
                    continue
                for kind, value in (("experts", routing.experts), ("rows", routing.rows)):
                    if value is not None:
                        measured[kind].append(_point(x, value, source, recording, run))
                break  # all runs of a case make the same choices
    return {kind: sorted(of_kind, key=lambda point: point.x) for kind, of_kind in measured.items()}
