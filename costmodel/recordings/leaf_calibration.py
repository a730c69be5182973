"""The schema of a calibration of leaves: what leaves and regions of random models take on a GPU.

A shape is a model of many equal layers and one step of it. A point is one leaf or region of it:
numbers of one copy of many in a CUDA graph, each on a layer of its own, with weights, keys, values
and table rows that L2 does not hold, and with inputs that it does. Each number stands with its
source, or is `Missing` with the reason, or null where that kind of run has not been made. `bytes`
and `flops` are the cost model's, so that a fit needs no model to be built again. `loops` are steady
loops of seconds for a fit of energy. Reading a file needs no torch.
"""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from costmodel.errors import shown
from costmodel.inputs.files import read_json_object
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.energy_loop import EnergyLoop
from costmodel.recordings.machine import Anchor, Conditions, Label, Moment, Reason
from costmodel.recordings.measured import (
    Accesses,
    Amount,
    LeafPath,
    Measured,
    Missing,
    OperatorPath,
)
from costmodel.recordings.recording import Seed, Session
from costmodel.strict import STRICT, validated

MAX_SHAPES = 1024
MAX_SESSIONS = 64
MAX_POINTS = 256  # of a shape

KernelNames: TypeAlias = Annotated[
    tuple[tuple[Label, Annotated[float, Field(gt=0, le=1e6)]], ...], Field(max_length=256)
]
"""Kernels by name, each with how often one copy launches it."""
LeafRunName: TypeAlias = Literal["time", "trace", "counters"]
RUNS: tuple[LeafRunName, ...] = ("time", "trace", "counters")
"""In the order in which they are made."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Reading:
    """What one kind of run measured of a point, for one of its `copies`.

    `sets` says on how many different sets of weights the copies ran: with one set they are larger
    than L2, or warm. `kernels` may be a fraction, where copies differ.
    """

    copies: Annotated[int, Field(ge=1, le=10**6)]
    sets: Annotated[int, Field(ge=1, le=10**6)]
    step_s: Measured | None = None
    kernels: Annotated[float, Field(ge=0, le=1e6)] | None = None
    kernel_s: Measured | None = None
    kernel_names: KernelNames = ()
    hbm_read_bytes: Measured | None = None
    hbm_written_bytes: Measured | None = None
    flops_tensor: Measured | None = None

    def __post_init__(self) -> None:
        if self.sets > self.copies:
            raise ValueError(f"sets={self.sets}: exceeds copies={self.copies}")

    @property
    def has_values(self) -> bool:
        """Whether a number was measured."""
        numbers = (self.step_s, self.kernel_s, self.hbm_read_bytes)
        return any(number is not None and not isinstance(number, Missing) for number in numbers)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Work:
    """What the cost model counts for one copy: a leaf, or the leaves of a region together."""

    compulsory_bytes: Amount
    activation_bytes: Amount  # in and out of each leaf
    intermediate_bytes: Amount  # between the parts of each leaf
    flops: Amount  # useful ones
    launches: Amount  # that the backend is said to make


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class LeafPoint:
    """One leaf or region of a shape: its work, and what each kind of run read."""

    path: OperatorPath
    work: Work | None  # None: the cost model has no such leaf
    readings: dict[LeafRunName, Reading]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class MeasuredShape:
    """One model and step, its points, and why some kind of run is absent."""

    family: Label
    model: ModelConfig
    workload: CaseWorkload
    seed: Seed
    points: Annotated[tuple[LeafPoint, ...], Field(max_length=MAX_POINTS)]
    lacking: dict[LeafRunName, Reason] = Field(default_factory=dict)
    conditions: dict[LeafRunName, Conditions] = Field(default_factory=dict)
    accesses: dict[LeafPath, Accesses] = Field(default_factory=dict)  # of one layer; all are alike

    def __post_init__(self) -> None:
        paths = [point.path for point in self.points]
        if len(set(paths)) != len(paths):
            raise ValueError("points: hold a path twice")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class LeafCalibration:
    """All points of one backend on one kind of GPU."""

    schema_version: Literal[1]
    kind: Literal["leaves"]
    backend: Backend
    sessions: Annotated[tuple[Session, ...], Field(min_length=1, max_length=MAX_SESSIONS)]
    finished: Moment
    shapes: Annotated[tuple[MeasuredShape, ...], Field(max_length=MAX_SHAPES)]
    loops: Annotated[tuple[EnergyLoop, ...], Field(max_length=64)] = ()
    anchors: Annotated[tuple[Anchor, ...], Field(max_length=1024)] = ()
    idle_w: Annotated[float, Field(gt=0, le=1e5)] | None = None  # before any load

    def __post_init__(self) -> None:
        """All sessions are of one kind of machine."""
        names = {session.machine.name for session in self.sessions}
        if len(names) > 1:
            raise ValueError(f"sessions: are of different machines: {', '.join(sorted(names))}")


def load_leaf_calibration(path: Path) -> LeafCalibration:
    """The calibration of leaves in a JSON file.

    Raises:
        InputError: The file is not a valid one: field, value and rule are named.
    """
    where = f"calibration of leaves {shown(path.name)}"
    return validated(LeafCalibration, read_json_object(path), where=where)


@cache
def _writer() -> TypeAdapter[LeafCalibration]:
    return TypeAdapter(LeafCalibration)


def leaf_calibration_text(calibration: LeafCalibration) -> str:
    """The file's text, a shape on a line, so that a diff can compare calibrations."""
    fields = _writer().dump_python(calibration, mode="json")
    lines = [f"{json.dumps(name)}: {_listed(value)}" for name, value in fields.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _listed(value: object) -> str:
    if not isinstance(value, list):
        return json.dumps(value, allow_nan=False)
    return "[\n" + ",\n".join(json.dumps(each, allow_nan=False) for each in value) + "\n]"
