"""The schema of a recording: what a profile measured of one model, case by case, as plain JSON.

A case is one workload. It is measured in up to four kinds of run (`time`, `trace`, `counters`,
`energy`), each in a process of its own, since each disturbs the others. A run holds quantities of
the whole step, and columns of quantities by operator, whose values are in the order of `paths`.
What could not be measured is `Missing`, with the reason. A file is checked like any other input,
and reading it needs no torch.
"""

import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

from pydantic import FailFast, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.inputs.files import read_json_object, read_text
from costmodel.inputs.model import ModelConfig
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.machine import Commit, Conditions, Label, Machine, Moment, Reason
from costmodel.recordings.measured import (
    Accesses,
    Amount,
    Column,
    ExactColumn,
    LeafPath,
    Measured,
    OperatorPath,
    SpreadColumn,
)
from costmodel.recordings.quantities import Level, RunName, measured_in, unknown_names
from costmodel.strict import STRICT, explained

SCHEMA_VERSION = 1
MAX_CASES = 4096
MAX_PATHS = 65536
# The work of reading a recording grows with these; the committed ones hold 50 cases of 500 leaves.
MAX_ROUTINGS = 8  # different routings
MAX_LAYER_KINDS = 1024  # cases times the different layers of the model
MAX_ZIPF_KINDS = 128  # of them in cases under Zipf, whose sums take longest
MAX_LEAVES = 2**18  # cases times leaves
LIMITS = (  # characters of a file, what they count, and the most; 25 cases of 400 leaves: a sixth
    (",", "values", 1_200_000),
    (":", "fields", 100_000),
    ("[{", "lists and objects", 400_000),
)
MAX_EXPLAINED = 100_000  # broken rules; to explain more would take seconds
LEAVES_PER_LAYER = 16  # no layer kind has more

Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
BackendName: TypeAlias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]
"""The kernels that ran: `torch` (plain PyTorch) or another backend of the cost model."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class RunResult:
    """What one run of a case measured, and the state of the machine during it.

    `backend` defaults to `torch`, since files that were written before the field existed hold
    measurements of plain PyTorch.
    """

    conditions: Conditions
    backend: BackendName = "torch"
    step: dict[Label, Measured] = Field(default_factory=dict)
    operators: dict[Label, Column] = Field(default_factory=dict)
    accesses: dict[LeafPath, Accesses] = Field(default_factory=dict)  # of the choosing leaves


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Run(RunResult):
    """A run's result in a recording: it also names its session."""

    session: Annotated[int, Field(ge=0, lt=MAX_CASES)]  # index into `Recording.sessions`

    @classmethod
    def of_session(cls, result: RunResult, session: int) -> Self:
        """The result as a recording holds it."""
        values = {field.name: getattr(result, field.name) for field in fields(RunResult)}
        return cls(session=session, **values)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Case:
    """One workload, its finished runs, and the reasons why other runs are absent."""

    workload: CaseWorkload
    seed: Seed  # of token ids, cache contents and synthetic routing
    runs: dict[RunName, Run] = Field(default_factory=dict)
    lacking: dict[RunName, Reason] = Field(default_factory=dict)  # runs that were skipped or failed


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Check:
    """One comparison of a self-check: work of a known size, measured on this machine."""

    name: Label  # "copy: bytes read"
    known: Amount
    measured: Amount | None
    tolerance: Annotated[float, Field(ge=0, le=1)]  # relative to `known`; 0 demands equality
    reason: Reason | None = None  # why nothing was measured

    def __post_init__(self) -> None:
        if (self.measured is None) != (self.reason is not None):
            raise ValueError("reason: stands exactly where nothing was measured")

    @property
    def passed(self) -> bool | None:
        """Whether `measured` lies within the tolerance; None where nothing was measured."""
        if self.measured is None:
            return None
        return abs(self.measured - self.known) <= self.tolerance * self.known


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Session:
    """One start of the profiler: when, on what machine, by what code, and its self-check."""

    started: Moment
    machine: Machine
    sparsecost_version: Label
    commit: Commit | None
    self_check: Annotated[tuple[Check, ...], Field(max_length=64)] = ()


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Recording:
    """All that was measured of one model.

    `paths` are those of the model's leaves, and of regions where a kernel spans several leaves.
    """

    schema_version: Annotated[int, Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)]
    preset: Label | None  # the name of the model's preset; None for a model of the user's own
    model: ModelConfig
    weights_seed: Seed
    paths: Annotated[
        tuple[OperatorPath, ...], Field(min_length=1, max_length=MAX_PATHS), FailFast()
    ]
    sessions: Annotated[tuple[Session, ...], Field(min_length=1, max_length=MAX_CASES)]
    cases: Annotated[tuple[Case, ...], Field(max_length=MAX_CASES)]

    def __post_init__(self) -> None:
        """Check that columns are as long as `paths`, sessions exist, and no case stands twice."""
        if len(set(self.paths)) != len(self.paths):
            raise ValueError("paths: hold a path twice")
        self._check_size()
        seen = set()
        for index, case in enumerate(self.cases):
            if case.workload in seen:
                raise ValueError(f"cases.{index}.workload: stands twice")
            seen.add(case.workload)
            for name, run in case.runs.items():
                self._check_run(run, name, f"cases.{index}.runs.{name}")

    def _check_size(self) -> None:
        """Refuse a recording whose cases would take a reader more than seconds to predict."""
        cases, model = len(self.cases), self.model
        leaves = len(self.paths) + LEAVES_PER_LAYER * model.num_hidden_layers
        layer_kinds = 1 + len(model.overrides) + len(model.shortcuts) + len(model.memory)
        routings = [case.workload.routing for case in self.cases]
        zipf = sum("zipf" in routing for routing in routings)
        for what, count, most in (
            ("routings", len(set(routings)), MAX_ROUTINGS),
            ("layer kinds in all", cases * layer_kinds, MAX_LAYER_KINDS),
            ("layer kinds under Zipf", zipf * layer_kinds, MAX_ZIPF_KINDS),
            ("leaves in all", cases * leaves, MAX_LEAVES),
        ):
            if count > most:
                raise ValueError(f"cases: hold {count:,} {what}; at most {most:,} are read")

    def _check_run(self, run: Run, name: RunName, where: str) -> None:
        if run.session >= len(self.sessions):
            raise ValueError(f"{where}.session={run.session}: there are {len(self.sessions)}")
        levels: tuple[tuple[Level, dict[str, Any]], ...] = (
            ("step", run.step),
            ("operators", run.operators),
        )
        for level, quantities in levels:
            for unknown in unknown_names(quantities, name, level):
                raise ValueError(
                    f"{where}.{level}: {shown(unknown)} is no quantity of this run;"
                    f" known: {', '.join(measured_in(name, level)) or 'none'}"
                )
        paths = set(self.paths)
        for path in run.accesses:
            if path not in paths:
                raise ValueError(f"{where}.accesses: {shown(path)} is not one of paths")
        for quantity, column in run.operators.items():
            length = len(paths)  # of a missing column
            if isinstance(column, ExactColumn):
                length = len(column.values)
            elif isinstance(column, SpreadColumn):
                length = len(column.median)
            if length != len(paths):
                raise ValueError(
                    f"{where}.operators.{quantity}: holds {length} values; paths hold {len(paths)}"
                )


def load_recording(path: Path) -> Recording:
    """The recording in a JSON file.

    Raises:
        InputError: The file is not a valid recording: field, value and rule are named.
    """
    text = read_text(path)
    where = f"recording {shown(path.name)}"
    for characters, what, most in LIMITS:
        if sum(map(text.count, characters)) > most:
            raise InputError(f"{where}: holds over {most:,} {what}; that many are not read")
    read_json_object(path)  # refuses keys that stand twice and NaN, which pydantic's reader takes
    try:
        return _reader().validate_json(text)
    except ValidationError as error:
        if error.error_count() > MAX_EXPLAINED:
            raise InputError(f"{where}: breaks {error.error_count():,} rules") from None
        raise InputError(f"{where}: {explained(error)}") from None


@cache
def _reader() -> TypeAdapter[Recording]:
    return TypeAdapter(Recording)


def recording_text(recording: Recording) -> str:
    """The text of the recording's file: compact JSON, whole numbers without a fraction."""
    data = _whole_as_int(_reader().dump_python(recording, mode="json"))
    return json.dumps(data, allow_nan=False, separators=(",", ":")) + "\n"


def _whole_as_int(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The value with every whole float as an integer: bytes and FLOPs are most of a file."""
    if isinstance(value, dict):
        return {key: _whole_as_int(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_as_int(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
