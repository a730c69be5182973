"""A measured number, of a step or by operator: exact, with its spread, or missing and why."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, FailFast, Field, Tag
from pydantic.dataclasses import dataclass

from costmodel.recordings.machine import Reason
from costmodel.strict import STRICT

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
Amounts: TypeAlias = Annotated[tuple[Amount | None, ...], FailFast()]  # one broken rule is enough
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


def _sort(value: object) -> str:
    """Which member of `Measured` or `Column` is meant, so that only its rules are told."""
    if isinstance(value, dict):
        return "missing" if "reason" in value else "spread" if "median" in value else "exact"
    return "missing" if hasattr(value, "reason") else "spread" if hasattr(value, "q1") else "exact"


Measured: TypeAlias = Annotated[
    Annotated[Exact, Tag("exact")]
    | Annotated[Spread, Tag("spread")]
    | Annotated[Missing, Tag("missing")],
    Discriminator(_sort),
]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ExactColumn:
    """Counts by operator, in the order of `Recording.paths`; None where one has none."""

    values: Annotated[tuple[Whole | None, ...], FailFast()]
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class SpreadColumn:
    """Medians and quartiles by operator, in the order of `Recording.paths`."""

    median: Amounts
    q1: Amounts
    q3: Amounts
    repeats: Annotated[int, Field(ge=1, le=10**9)]
    source: Source

    def __post_init__(self) -> None:
        if not len(self.q1) == len(self.median) == len(self.q3):
            raise ValueError("median, q1, q3: differ in length")
        for index, (low, middle, high) in enumerate(
            zip(self.q1, self.median, self.q3, strict=True)
        ):
            if low is None or middle is None or high is None:
                if low is not middle or middle is not high:
                    raise ValueError(f"median.{index}: only some of median, q1 and q3 are null")
            elif not low <= middle <= high:
                raise ValueError(f"median.{index}={middle}: lies outside q1={low} to q3={high}")


Column: TypeAlias = Annotated[
    Annotated[ExactColumn, Tag("exact")]
    | Annotated[SpreadColumn, Tag("spread")]
    | Annotated[Missing, Tag("missing")],
    Discriminator(_sort),
]


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
        FailFast(),
    ]

    def __post_init__(self) -> None:
        if self.draws > self.population:
            raise ValueError(f"draws={self.draws}: exceeds population={self.population}")
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
