"""What the profiler and its worker say to each other: one JSON object a line, checked when read.

The profiler sends `Setup`. The worker answers `Hello` and `Checked`. The profiler sends `Work`, and
the worker tells all that happens to it, until `End`. A line of the worker is as little trusted as
any other input: what is no event ends the worker.
"""

import json
from typing import Annotated, Any, Literal, NoReturn, TypeAlias, TypeVar

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.recordings.machine import Commit, Conditions, Label, Machine, Reason
from costmodel.recordings.measured import Accesses, Column, LeafPath, Measured
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import MAX_CASES, MAX_PATHS, CaseWorkload, Check
from costmodel.strict import STRICT, validated

Wanted: TypeAlias = Literal["auto", "cpu", "cuda"]
Dtype: TypeAlias = Literal["bf16", "fp32"]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
Index: TypeAlias = Annotated[int, Field(ge=0, lt=MAX_CASES)]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Setup:
    """What a worker is started for. `auto` is the GPU where torch finds one, else the CPU."""

    run: RunName
    device: Wanted
    self_check: bool


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Asked:
    """One case to measure, and the seed of its ids, cache and declared choices."""

    workload: CaseWorkload
    seed: Seed


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Job:
    """One model and its cases."""

    model: ModelConfig
    cases: tuple[Asked, ...]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Work:
    """All that a worker is to measure, model after model."""

    dtype: Dtype
    weights_seed: Seed
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Hello:
    """What measures, and the kinds of run that cannot be had on it, with the reason."""

    machine: Machine
    commit: Commit | None
    version: Label
    unmeasurable: dict[RunName, Reason]
    kind: Literal["hello"] = "hello"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Checked:
    """The self-check of this kind of run is over; empty where none was asked for."""

    checks: tuple[Check, ...]
    unmeasurable: Annotated[str, Field(min_length=1)] | None  # it showed that no case can be had
    kind: Literal["checked"] = "checked"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Building:
    """A model is being built; the one before it is gone."""

    job: Index
    kind: Literal["building"] = "building"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Paths:
    """The model is built; its leaves, to which all columns of its cases are aligned."""

    job: Index
    paths: Annotated[tuple[LeafPath, ...], Field(min_length=1, max_length=MAX_PATHS)]
    kind: Literal["paths"] = "paths"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Began:
    """A case is in hand."""

    job: Index
    case: Index
    kind: Literal["began"] = "began"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Done:
    """A case is measured: a recording's run, but for its session."""

    job: Index
    case: Index
    conditions: Conditions
    step: dict[Label, Measured]
    operators: dict[Label, Column]
    accesses: dict[LeafPath, Accesses]
    kind: Literal["done"] = "done"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Lacking:
    """A case cannot be measured; the worker goes on."""

    job: Index
    case: Index
    reason: Annotated[str, Field(min_length=1)]
    kind: Literal["lacking"] = "lacking"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Refused:
    """Nothing at all can be measured as asked: a mistake of the user, or what the machine lacks."""

    mistake: bool
    message: str
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Broken:
    """The worker ends: after this error it can trust its device, or itself, no more."""

    reason: str
    kind: Literal["broken"] = "broken"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class End:
    """All of the work was gone through."""

    kind: Literal["end"] = "end"


Event: TypeAlias = (
    Hello | Checked | Building | Paths | Began | Done | Lacking | Refused | Broken | End
)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class _Said:
    event: Annotated[Event, Field(discriminator="kind")]


def encoded(message: Setup | Work | Event) -> bytes:
    """A message as its line."""
    plain = TypeAdapter(type(message)).dump_python(message, mode="json")
    return json.dumps(plain, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def decoded(cls: type[T], line: bytes) -> T:
    """A line as the message that is expected."""
    return validated(cls, _object(line), where="the worker's orders")


def decoded_event(line: bytes) -> Event:
    """A line of the worker as what happened.

    Raises:
        InputError: It is none of the events, or one whose fields break a rule.
    """
    return validated(_Said, {"event": _object(line)}, where="the worker's line").event


def _object(line: bytes) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        found = json.loads(line, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise InputError(f"the line {shown(line.decode(errors='replace'))} is no JSON") from None
    if not isinstance(found, dict):
        raise InputError(f"the line {shown(line.decode(errors='replace'))} is no JSON object")
    return found
