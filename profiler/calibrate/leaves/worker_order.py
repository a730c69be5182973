"""What a worker of a calibration of leaves is told: one line of JSON."""

from typing import Literal, TypeAlias

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.machine import Device
from costmodel.strict import STRICT

WorkerRun: TypeAlias = Literal["compile", "time", "trace", "counters", "energy"]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ShapeOrder:
    """A shape by its number, and the seed of its data."""

    number: int
    model: ModelConfig
    workload: CaseWorkload
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Order:
    """What a worker is to do, within so many seconds."""

    run: WorkerRun
    backend: Backend
    device: Device
    seconds: float
    shapes: tuple[ShapeOrder, ...]


def order_line(order: Order) -> bytes:
    """The line of an order."""
    return TypeAdapter(Order).dump_json(order) + b"\n"


def order_of(line: bytes) -> Order:
    """The order in a line."""
    return TypeAdapter(Order).validate_json(line)
