"""The machine that a number was measured on, and the state of that machine during the measurement.

There is no field for a host name, a user, a path, a UUID or a serial number, so none is ever
written to a recording.
"""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from costmodel.strict import STRICT


def _on_the_calendar(moment: str) -> str:
    try:
        datetime.fromisoformat(moment)
    except ValueError:
        raise ValueError(f"{moment} is no date and time of the calendar") from None
    return moment


Label: TypeAlias = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[ -~]+$")]
"""A short name in printable ASCII."""
Reason: TypeAlias = Annotated[str, Field(min_length=1, max_length=600)]
"""Why a number is missing, as a sentence for readers."""
Device: TypeAlias = Literal["cuda", "cpu"]
"""Where torch runs the model."""
Bytes: TypeAlias = Annotated[int, Field(ge=0, le=2**53)]
Commit: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}(\+changes)?$")]
"""A git commit; `+changes` where the working tree differed from it."""
Moment: TypeAlias = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}Z$"),
    AfterValidator(_on_the_calendar),
]
"""A time in UTC, to the second."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Machine:
    """Hardware, driver and libraries. Fields of a GPU are None on a CPU; `threads` on a GPU."""

    device: Device
    name: Label  # "NVIDIA H200", or the processor's model name
    memory_bytes: Bytes
    python: Label
    torch: Label
    cuda: Label | None = None
    driver: Label | None = None
    triton: Label | None = None
    l2_bytes: Bytes | None = None
    multiprocessors: Annotated[int, Field(ge=1, le=4096)] | None = None
    power_limit_w: Annotated[float, Field(gt=0, le=1e5)] | None = None
    hbm_bytes_per_s: Annotated[float, Field(gt=0, le=1e15)] | None = None  # clock x bus width
    threads: Annotated[int, Field(ge=1, le=65536)] | None = None  # that torch uses on a CPU


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Anchor:
    """Seconds of a kernel that is the same in every recording, before and after a measurement.

    So a difference between two recordings, or a drift within one, can be told from the machine's.
    """

    name: Label
    before_s: Annotated[float, Field(gt=0, le=1e3)]
    after_s: Annotated[float, Field(gt=0, le=1e3)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Conditions:
    """The state of the machine during a measurement; None or empty where it cannot be read.

    `anchors` are left out of files without any: all that were made before the field existed.
    """

    started: Moment
    warm_up: Annotated[int, Field(ge=0, le=10**6)]  # steps run before the first that is measured
    sm_clock_mhz: Annotated[float, Field(ge=0, le=1e5)] | None = None  # under load
    memory_clock_mhz: Annotated[float, Field(ge=0, le=1e5)] | None = None
    temperature_c: Annotated[float, Field(ge=-50, le=200)] | None = None
    event_reasons: Annotated[
        tuple[Label, ...], Field(max_length=32)
    ] = ()  # why clocks are held down
    other_processes: Annotated[int, Field(ge=0, le=10**6)] | None = None  # on the same GPU
    anchors: Annotated[tuple[Anchor, ...], Field(max_length=16)] = Field(
        default=(), exclude_if=lambda anchors: not anchors
    )
