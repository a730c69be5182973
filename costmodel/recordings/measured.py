"""A measured number: of a whole step, or one for each operator; exact, with quartiles, or missing.

Two families say the same at two levels: `Measured` is one number of the step, `Column` holds one
number for each path of a recording. `readings_of` turns a member of either into `Readings`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, FailFast, Field, Tag
from pydantic.dataclasses import dataclass

from costmodel.layers.site import region_leaves
from costmodel.recordings.machine import Reason
from costmodel.strict import STRICT

Source: TypeAlias = Literal[
    "tensors",  # shapes of parameters, buffers and caches
    "flop_counter",  # FlopCounterMode on the meta device
    "choices",  # the experts or rows that routers and retrievals chose
    "cuda_event",
    "wall_clock",
    "torch_profiler",
    "allocator",
    "process",  # the operating system's figures of the process
    "hardware_counter",
    "ncu",
    "nvml",
    "nvml_gpm",
]
Amount: TypeAlias = Annotated[float, Field(ge=0, le=1e21)]
Whole: TypeAlias = Annotated[int, Field(ge=0, le=2**63 - 1)]
Amounts: TypeAlias = Annotated[tuple[Amount | None, ...], FailFast()]  # one broken rule is enough

LEAF = r"[a-z0-9_]+(\.[a-z0-9_]+)*"
REGION = rf"({LEAF}\.)?\{{{LEAF}(,{LEAF})+\}}"

NOT_IN_RUN = "not measured (the run gives none here)"


def _each_leaf_once(path: str) -> str:
    leaves = region_leaves(path)
    if len(set(leaves)) != len(leaves):
        raise ValueError(f"{path}: a region names each of its leaves once")
    return path


LeafPath: TypeAlias = Annotated[str, Field(pattern=rf"^{LEAF}$", max_length=200)]
"""The path of a leaf module of the reference model, which is the path of one operator."""
OperatorPath: TypeAlias = Annotated[
    str,
    Field(pattern=rf"^({LEAF}|{REGION})$", max_length=200),
    AfterValidator(_each_leaf_once),
]
"""A leaf's path, or that of a region: the leaves that one kernel does together, in braces."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Exact:
    """A count of a step. Counts have no spread."""

    value: Whole
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Spread:
    """A number of a step that was measured `repeats` times: median and quartiles."""

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
    """A number, or a whole column, that could not be measured."""

    reason: Reason


def _sort(value: object) -> str:
    """The member of `Measured` or `Column` that is meant, so that errors name its rules only."""
    if isinstance(value, dict):
        return "missing" if "reason" in value else "spread" if "median" in value else "exact"
    return "missing" if hasattr(value, "reason") else "spread" if hasattr(value, "q1") else "exact"


Measured: TypeAlias = Annotated[
    Annotated[Exact, Tag("exact")]
    | Annotated[Spread, Tag("spread")]
    | Annotated[Missing, Tag("missing")],
    Discriminator(_sort),
]
"""A quantity of the whole step."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ExactColumn:
    """Counts in the order of `Recording.paths`; None for a path that has none."""

    values: Annotated[tuple[Whole | None, ...], FailFast()]
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class SpreadColumn:
    """Medians and quartiles in the order of `Recording.paths`; None for a path that has none."""

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
"""A quantity by operator."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Accesses:
    """How often one step chose each expert or row of one layer, as a histogram.

    Each of `trials` tokens (or pairs of a token and a head) chose `draws` different items, of
    `population` items. `counts` holds pairs: a number of accesses, and how many items had it.
    """

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
        most = max(accesses for accesses, items in self.counts if items)
        if most > self.trials:
            raise ValueError(f"counts: hold an item of {most} accesses; trials={self.trials}")
        if accesses != self.trials * self.draws:
            raise ValueError(
                f"counts: hold {accesses} accesses; trials * draws = {self.trials * self.draws}"
            )

    @property
    def distinct(self) -> int:
        """Items that were chosen at least once."""
        return sum(items for accesses, items in self.counts if accesses)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """A measured quantity in one form, whichever class of `Measured` or `Column` holds it.

    Of the step the sequences have one element, by operator one for each path. Quartiles and
    `repeats` are absent of exact counts; everything is absent where nothing was measured, and
    `reason` then says why.
    """

    median: Sequence[float | None] = ()
    q1: Sequence[float | None] = ()
    q3: Sequence[float | None] = ()
    repeats: int | None = None
    source: str | None = None
    reason: str = NOT_IN_RUN


def readings_of(measured: Measured | Column | None) -> Readings:
    """The readings of a quantity; None stands for a quantity that the run does not name."""
    match measured:
        case None:
            return Readings()
        case Missing():
            return Readings(reason=measured.reason)
        case Exact():
            return Readings(median=(measured.value,), source=measured.source)
        case ExactColumn():
            return Readings(median=measured.values, source=measured.source)
        case Spread():
            return Readings(
                median=(measured.median,),
                q1=(measured.q1,),
                q3=(measured.q3,),
                repeats=measured.repeats,
                source=measured.source,
            )
        case SpreadColumn():
            return Readings(
                median=measured.median,
                q1=measured.q1,
                q3=measured.q3,
                repeats=measured.repeats,
                source=measured.source,
            )
