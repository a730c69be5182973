"""A recording: what a profile measured, case by case, as plain JSON that nobody has to trust.

A case is one workload of the model. It is measured in runs of their own (`time`, `trace`,
`counters`, `energy`), since each disturbs the others. A run gives quantities of the whole step and
columns of quantities by operator, aligned with `paths`. What could not be had is `Missing`, with
its reason.
Reading one needs no torch.
"""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import FailFast, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.inputs.files import read_json_object, read_text
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import MAX_EXPONENT
from costmodel.inputs.workload import MAX_BATCH, MAX_CONTEXT, MAX_NEW_TOKENS
from costmodel.recordings.machine import Commit, Conditions, Label, Machine, Moment, Reason
from costmodel.recordings.measured import (
    Accesses,
    Amount,
    Column,
    Exact,
    ExactColumn,
    Measured,
    Missing,
    Path_,
    Source,
    Spread,
    SpreadColumn,
)
from costmodel.recordings.quantities import RUNS, Level, RunName, measured_in, unknown_names
from costmodel.strict import STRICT, explained

__all__ = [  # the numbers of `measured` and the names of `quantities` are met here as well
    "RUNS",
    "Accesses",
    "Amount",
    "Case",
    "CaseWorkload",
    "Check",
    "Column",
    "Exact",
    "ExactColumn",
    "Measured",
    "Missing",
    "Recording",
    "Run",
    "RunName",
    "Session",
    "Source",
    "Spread",
    "SpreadColumn",
    "load_recording",
    "recording_json",
    "recording_text",
]

SCHEMA_VERSION = 1
MAX_CASES = 4096
MAX_PATHS = 65536
# What a reader does with a recording grows with these; ours hold 50 cases of 500 leaves.
MAX_ROUTINGS = 8  # different ones
MAX_LAYER_KINDS = 1024  # cases times the differing sorts of layers of the model
MAX_ZIPF_KINDS = 128  # of them in cases under Zipf, whose sums take longest
MAX_LEAVES = 2**18  # cases times leaves
LIMITS = (  # of a file's marks: what they count, and how many; 25 cases of 400 leaves hold a sixth
    (",", "values", 1_200_000),
    (":", "fields", 100_000),
    ("[{", "lists and objects", 400_000),
)
MAX_EXPLAINED = 100_000  # broken rules, before telling which takes seconds
LEAVES_PER_LAYER = 16  # no layer kind has more


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Run:
    """One finished run of a case, and the state of the machine during it."""

    session: Annotated[int, Field(ge=0, lt=MAX_CASES)]  # index into `Recording.sessions`
    conditions: Conditions
    step: dict[Label, Measured] = Field(default_factory=dict)
    operators: dict[Label, Column] = Field(default_factory=dict)
    accesses: dict[Path_, Accesses] = Field(default_factory=dict)  # of the leaves that choose


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class CaseWorkload:
    """The workload of a case. `routing` is uniform, zipf:EXPONENT or scores (the model's own)."""

    phase: Literal["decode", "prefill"]
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)]
    context: Annotated[int, Field(ge=0, le=MAX_CONTEXT)]
    new_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)]
    dtype: Literal["bf16", "fp32"]
    routing: Annotated[str, Field(pattern=r"^(uniform|scores|zipf:\d{1,2}(\.\d{1,6})?)$")]

    def __post_init__(self) -> None:
        if self.phase == "decode" and self.new_tokens != 1:
            raise ValueError(f"new_tokens={self.new_tokens}: is 1 in a decode step")
        if self.routing.startswith("zipf:") and float(self.routing[5:]) > MAX_EXPONENT:
            raise ValueError(
                f"routing={shown(self.routing)}: the exponent is at most {MAX_EXPONENT:g}"
            )


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Case:
    """One workload: its finished runs, and why the others are not there."""

    workload: CaseWorkload
    seed: Annotated[int, Field(ge=0, lt=2**63)]  # of ids, cache and declared choices
    runs: dict[RunName, Run] = Field(default_factory=dict)
    lacking: dict[RunName, Reason] = Field(default_factory=dict)  # skipped, or failed


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Check:
    """Known work measured: how far the ways of measuring can be trusted on this machine."""

    name: Label  # "copy: bytes read"
    known: Amount
    measured: Amount | None
    tolerance: Annotated[float, Field(ge=0, le=1)]  # relative; 0 is exact
    reason: Reason | None = None  # why nothing was measured

    def __post_init__(self) -> None:
        if (self.measured is None) != (self.reason is not None):
            raise ValueError("reason: stands exactly where nothing was measured")

    @property
    def passed(self) -> bool | None:
        """Whether it holds; None where nothing was measured."""
        if self.measured is None:
            return None
        return abs(self.measured - self.known) <= self.tolerance * self.known


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Session:
    """One start of the profiler: the machine, the code and the self-check of its runs."""

    started: Moment
    machine: Machine
    sparsecost_version: Label
    commit: Commit | None
    self_check: Annotated[tuple[Check, ...], Field(max_length=64)] = ()


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Recording:
    """All that was measured of one model."""

    schema_version: Annotated[int, Field(ge=SCHEMA_VERSION, le=SCHEMA_VERSION)]
    preset: Label | None  # the preset's name, where the model is one
    model: ModelConfig
    weights_seed: Annotated[int, Field(ge=0, lt=2**63)]
    paths: Annotated[tuple[Path_, ...], Field(min_length=1, max_length=MAX_PATHS), FailFast()]
    sessions: Annotated[tuple[Session, ...], Field(min_length=1, max_length=MAX_CASES)]
    cases: Annotated[tuple[Case, ...], Field(max_length=MAX_CASES)]

    def __post_init__(self) -> None:
        """Every column is as long as `paths`, every run names a session, no case comes twice."""
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
        """What a reader predicts and joins for every case stays a matter of seconds."""
        cases, model = len(self.cases), self.model
        leaves = len(self.paths) + LEAVES_PER_LAYER * model.num_hidden_layers
        sorts = 1 + len(model.overrides) + len(model.memory)
        routings = [case.workload.routing for case in self.cases]
        zipf = sum(routing.startswith("zipf") for routing in routings)
        for field, found, most in (
            ("routings", len(set(routings)), MAX_ROUTINGS),
            ("layer kinds in all", cases * sorts, MAX_LAYER_KINDS),
            ("layer kinds under Zipf", zipf * sorts, MAX_ZIPF_KINDS),
            ("leaves in all", cases * leaves, MAX_LEAVES),
        ):
            if found > most:
                raise ValueError(f"cases: hold {found:,} {field}; at most {most:,} are read")

    def _check_run(self, run: Run, name: RunName, where: str) -> None:
        if run.session >= len(self.sessions):
            raise ValueError(f"{where}.session={run.session}: there are {len(self.sessions)}")
        levels: tuple[tuple[Level, dict[str, Any]], ...] = (
            ("step", run.step),
            ("operators", run.operators),
        )
        for level, given in levels:
            for unknown in unknown_names(given, name, level):
                raise ValueError(
                    f"{where}.{level}: {shown(unknown)} is no quantity of this run;"
                    f" known: {', '.join(measured_in(name, level)) or 'none'}"
                )
        known = set(self.paths)
        for path in run.accesses:
            if path not in known:
                raise ValueError(f"{where}.accesses: {shown(path)} is not one of paths")
        for quantity, column in run.operators.items():
            held = len(self.paths)  # of a missing column
            if isinstance(column, ExactColumn):
                held = len(column.values)
            elif isinstance(column, SpreadColumn):
                held = len(column.median)
            if held != len(self.paths):
                raise ValueError(
                    f"{where}.operators.{quantity}: holds {held} values;"
                    f" paths hold {len(self.paths)}"
                )


def load_recording(path: Path) -> Recording:
    """The recording in a JSON file.

    Raises:
        InputError: The file is not a valid recording: field, value and rule are named.
    """
    text = read_text(path)
    where = f"recording {shown(path.name)}"
    for mark, what, most in LIMITS:
        found = sum(map(text.count, mark))
        if found > most:
            raise InputError(f"{where}: holds over {most:,} {what}; that many are not read")
    read_json_object(path)  # refuses what pydantic's reader would let pass: keys twice, NaN
    try:
        return _reader().validate_json(text)
    except ValidationError as error:
        if error.error_count() > MAX_EXPLAINED:
            raise InputError(f"{where}: breaks {error.error_count():,} rules") from None
        raise InputError(f"{where}: {explained(error)}") from None


@cache
def _reader() -> TypeAdapter[Recording]:
    return TypeAdapter(Recording)


def recording_json(recording: Recording) -> dict[str, Any]:
    """The recording as plain dicts and lists, as the file holds it."""
    found: dict[str, Any] = _reader().dump_python(recording, mode="json")
    return found


def recording_text(recording: Recording) -> str:
    """The file's text: compact JSON, whole numbers without a fraction."""
    data = _whole(recording_json(recording))
    return json.dumps(data, allow_nan=False, separators=(",", ":")) + "\n"


def _whole(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Numbers that are whole as integers: bytes and FLOPs are most of a file."""
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
