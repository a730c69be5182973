"""A recording: what a profile measured, case by case, as plain JSON that nobody has to trust.

A case is one workload of the model. It is measured in runs of their own (`time`, `counters`,
`energy`), since each disturbs the others. A run gives quantities of the whole step and columns of
quantities by operator, aligned with `paths`. What could not be had is `Missing`, with its reason.
Reading one needs no torch.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.inputs.config import ModelConfig
from costmodel.inputs.files import STRICT, read_json_object, validated
from costmodel.inputs.machine import Commit, Conditions, Label, Machine, Moment, Reason
from costmodel.inputs.workload import MAX_BATCH, MAX_CONTEXT, MAX_NEW_TOKENS

SCHEMA_VERSION = 1
MAX_CASES = 4096
MAX_PATHS = 65536

RunName: TypeAlias = Literal["time", "counters", "energy"]
RUNS: tuple[RunName, ...] = ("time", "counters", "energy")
Source: TypeAlias = Literal[
    "tensors",  # shapes of parameters, buffers and caches
    "flop_counter",  # FlopCounterMode on the meta device
    "choices",  # what routers and retrievals chose
    "cuda_event",
    "wall_clock",
    "torch_profiler",
    "allocator",
    "process",  # the operating system's view of the process
    "hardware_counter",
    "ncu",
    "nvml",
    "nvml_gpm",
]
Amount: TypeAlias = Annotated[float, Field(ge=0, le=1e21)]
Whole: TypeAlias = Annotated[int, Field(ge=0, le=2**63 - 1)]
Path_: TypeAlias = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*$", max_length=200)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Exact:
    """A count that has no spread."""

    value: Whole
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Spread:
    """A number measured several times: median and quartiles."""

    median: Amount
    q1: Amount
    q3: Amount
    repeats: Annotated[int, Field(ge=1, le=10**9)]
    source: Source

    def __post_init__(self) -> None:
        if not self.q1 <= self.median <= self.q3:
            raise ValueError(f"median={self.median}: lies outside q1={self.q1} to q3={self.q3}")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Missing:
    """A number that could not be had."""

    reason: Reason


Measured: TypeAlias = Exact | Spread | Missing


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ExactColumn:
    """Counts by operator, in the order of `Recording.paths`; None where one has none."""

    values: tuple[Whole | None, ...]
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class SpreadColumn:
    """Medians and quartiles by operator, in the order of `Recording.paths`."""

    median: tuple[Amount | None, ...]
    q1: tuple[Amount | None, ...]
    q3: tuple[Amount | None, ...]
    repeats: Annotated[int, Field(ge=1, le=10**9)]
    source: Source


Column: TypeAlias = ExactColumn | SpreadColumn | Missing


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Accesses:
    """How often a step chose the experts or rows of one layer: [accesses, items with as many]."""

    population: Annotated[int, Field(ge=1, le=2**50)]
    trials: Annotated[int, Field(ge=1, le=2**50)]
    draws: Annotated[int, Field(ge=1, le=2**20)]
    counts: Annotated[
        tuple[
            tuple[
                Annotated[int, Field(ge=0, le=2**50)],
                Annotated[int, Field(ge=0, le=2**50)],
            ],
            ...,
        ],
        Field(min_length=1, max_length=500_000),
    ]

    def __post_init__(self) -> None:
        items = sum(items for _, items in self.counts)
        accesses = sum(accesses * items for accesses, items in self.counts)
        if items != self.population:
            raise ValueError(f"counts: hold {items} items; population={self.population}")
        if accesses != self.trials * self.draws:
            raise ValueError(
                f"counts: hold {accesses} accesses; trials * draws = {self.trials * self.draws}"
            )

    @property
    def distinct(self) -> int:
        """Items chosen at least once."""
        return sum(items for accesses, items in self.counts if accesses)


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

    schema_version: Literal[1]
    preset: Label | None  # the preset's name, where the model is one
    model: ModelConfig
    weights_seed: Annotated[int, Field(ge=0, lt=2**63)]
    paths: Annotated[tuple[Path_, ...], Field(min_length=1, max_length=MAX_PATHS)]
    sessions: Annotated[tuple[Session, ...], Field(min_length=1, max_length=MAX_CASES)]
    cases: Annotated[tuple[Case, ...], Field(max_length=MAX_CASES)]

    def __post_init__(self) -> None:
        """Every column is as long as `paths`, every run names a session, no case comes twice."""
        if len(set(self.paths)) != len(self.paths):
            raise ValueError("paths: hold a path twice")
        seen = set()
        for index, case in enumerate(self.cases):
            if case.workload in seen:
                raise ValueError(f"cases.{index}.workload: stands twice")
            seen.add(case.workload)
            for name, run in case.runs.items():
                self._check_run(run, f"cases.{index}.runs.{name}")

    def _check_run(self, run: Run, where: str) -> None:
        if run.session >= len(self.sessions):
            raise ValueError(f"{where}.session={run.session}: there are {len(self.sessions)}")
        for name, column in run.operators.items():
            lists: tuple[tuple[object, ...], ...] = ()
            if isinstance(column, ExactColumn):
                lists = (column.values,)
            elif isinstance(column, SpreadColumn):
                lists = (column.median, column.q1, column.q3)
            for values in lists:
                if len(values) != len(self.paths):
                    raise ValueError(
                        f"{where}.operators.{name}: holds {len(values)} values;"
                        f" paths hold {len(self.paths)}"
                    )


def load_recording(path: Path) -> Recording:
    """The recording in a JSON file.

    Raises:
        InputError: The file is not a valid recording: field, value and rule are named.
    """
    return validated(Recording, read_json_object(path), where=f"recording {path.name!r}")


def recording_json(recording: Recording) -> dict[str, Any]:
    """The recording as plain dicts and lists, as the file holds it."""
    from pydantic import TypeAdapter

    found: dict[str, Any] = TypeAdapter(Recording).dump_python(recording, mode="json")
    return found


def recording_text(recording: Recording) -> str:
    """The file's text: compact JSON."""
    return json.dumps(recording_json(recording), allow_nan=False, separators=(",", ":")) + "\n"
