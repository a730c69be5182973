"""The messages between the profiler and its worker process: one JSON object per line.

The profiler sends `Setup`; the worker answers `Hello` and `Checked`. The profiler sends `Work`; the
worker reports each step as an event, until `End`. Every line is validated when it is read. A worker
that sends a line which is no event is ended.
"""

import json
from typing import Annotated, Any, Literal, NoReturn, TypeAlias, TypeVar

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload, Dtype
from costmodel.recordings.machine import Commit, Label, Machine, Reason
from costmodel.recordings.measured import OperatorPath
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import MAX_CASES, MAX_PATHS, Check, RunResult, Seed
from costmodel.strict import STRICT, validated

DeviceChoice: TypeAlias = Literal["auto", "cpu", "cuda"]
Index: TypeAlias = Annotated[int, Field(ge=0, lt=MAX_CASES)]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Setup:
    """The kind of run of a worker, and its device: `auto` is the GPU if torch finds one."""

    run: RunName
    device: DeviceChoice
    self_check: bool


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class CaseJob:
    """One case to measure, and the seed of its token ids, cache contents and routing."""

    workload: CaseWorkload
    seed: Seed


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ModelJob:
    """One model to build, whose kernels run, and the cases to measure of it."""

    model: ModelConfig
    backend: Backend
    cases: tuple[CaseJob, ...]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Work:
    """All that a worker is to measure, one model after another."""

    dtype: Dtype
    weights_seed: Seed
    jobs: tuple[ModelJob, ...]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Hello:
    """The machine and code of the worker, and why kinds of run are impossible there."""

    machine: Machine
    commit: Commit | None
    version: Label
    unmeasurable: dict[RunName, Reason]
    kind: Literal["hello"] = "hello"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Checked:
    """The result of the self-check; without checks where none was requested."""

    checks: tuple[Check, ...]
    unmeasurable: Annotated[str, Field(min_length=1)] | None  # why no case can be measured
    kind: Literal["checked"] = "checked"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Building:
    """The worker has freed the model before and begins to build this one."""

    job: Index
    kind: Literal["building"] = "building"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Paths:
    """The model is built. Columns of its cases are in the order of these leaves and regions."""

    job: Index
    paths: Annotated[tuple[OperatorPath, ...], Field(min_length=1, max_length=MAX_PATHS)]
    kind: Literal["paths"] = "paths"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Began:
    """The worker begins to measure a case."""

    job: Index
    case: Index
    kind: Literal["began"] = "began"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Done:
    """A case is measured."""

    job: Index
    case: Index
    result: RunResult
    kind: Literal["done"] = "done"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Lacking:
    """A case cannot be measured; the worker goes on with the next."""

    job: Index
    case: Index
    reason: Annotated[str, Field(min_length=1)]
    kind: Literal["lacking"] = "lacking"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Refused:
    """Nothing can be measured, by this worker or another."""

    mistake: bool  # of the user; otherwise the machine lacks something
    message: str
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Broken:
    """The worker ends, since its device or its process may be damaged after this error."""

    reason: str
    kind: Literal["broken"] = "broken"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class End:
    """All of the work has been tried."""

    kind: Literal["end"] = "end"


Event: TypeAlias = (
    Hello | Checked | Building | Paths | Began | Done | Lacking | Refused | Broken | End
)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class _Line:
    event: Annotated[Event, Field(discriminator="kind")]


def encoded(message: Setup | Work | Event) -> bytes:
    """The line that carries a message."""
    plain = TypeAdapter(type(message)).dump_python(message, mode="json")
    return json.dumps(plain, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decoded(cls: type[T], line: bytes) -> T:
    """The message of class `cls` in a line of the profiler.

    Raises:
        InputError: The line is no JSON object, or a field breaks a rule.
    """
    return validated(cls, _object(line), where="the worker's orders")


def decoded_event(line: bytes) -> Event:
    """The event in a line of the worker.

    Raises:
        InputError: The line is no event, or a field breaks a rule.
    """
    return validated(_Line, {"event": _object(line)}, where="the worker's line").event


def _object(line: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        data = json.loads(line, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise InputError(f"the line {shown(line.decode(errors='replace'))} is no JSON") from None
    if not isinstance(data, dict):
        raise InputError(f"the line {shown(line.decode(errors='replace'))} is no JSON object")
    return data
