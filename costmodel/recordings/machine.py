"""The machine of a measurement, and the state it was in: what every measured number carries along.

No host name, user, path, UUID or serial number is a field here, so that none is ever written.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.strict import STRICT

Label: TypeAlias = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[ -~]+$")]
"""A short printable name in ASCII."""
Reason: TypeAlias = Annotated[str, Field(min_length=1, max_length=600)]
"""Why a number is missing, in words."""
Bytes: TypeAlias = Annotated[int, Field(ge=0, le=2**53)]
Commit: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{7,40}(\+changes)?$")]
Moment: TypeAlias = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Machine:
    """What measured: hardware, driver and libraries. GPU fields are None on a CPU."""

    device: Literal["cuda", "cpu"]
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
    hbm_bytes_per_s: Annotated[float, Field(gt=0, le=1e15)] | None = None  # memory clock x width
    threads: Annotated[int, Field(ge=1, le=65536)] | None = None  # of a CPU


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Conditions:
    """The state of the machine around a measurement; None or empty where it cannot be read."""

    started: Moment
    warm_up: Annotated[int, Field(ge=0, le=10**6)]  # runs before the first that counts
    sm_clock_mhz: Annotated[float, Field(ge=0, le=1e5)] | None = None  # under load, at the end
    memory_clock_mhz: Annotated[float, Field(ge=0, le=1e5)] | None = None
    temperature_c: Annotated[float, Field(ge=-50, le=200)] | None = None
    event_reasons: Annotated[tuple[Label, ...], Field(max_length=32)] = ()  # why clocks are held
    other_processes: Annotated[int, Field(ge=0, le=10**6)] | None = None  # on the same GPU
