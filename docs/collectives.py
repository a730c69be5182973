"""Collectives that others measured, beside bound and estimate: the table of docs/collectives.md.

`published_collectives.csv` holds the points. Those of use `chosen` picked the numbers of
`costmodel/costs/collective_rates.py`; those of use `held` were read too, but picked none.
Microseconds are as printed, or follow from a printed bus bandwidth as nccl-tests defines it. H20
and H800 stand in as an H100 (an H800 has 200 GB/s of NVLink each way, as the row says), a GB300 as
a GB200.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from math import expm1, log
from pathlib import Path
from typing import get_args

from costmodel import units
from costmodel.costs.collectives import bound_s, time_s
from costmodel.inputs.hardware import Hardware, load_hardware
from costmodel.layers.collective import Collective, CollectiveName, Group
from docs.markdown import markdown

FILE = Path(__file__).parent / "published_collectives.csv"
HEAD: tuple[str, ...] = (
    "GPU",
    "collective",
    "points",
    "GPUs",
    "of a node",
    "payload",
    "published, us",
)
HEAD += ("bound / published", "typical / published", "within")


@dataclass(frozen=True, slots=True)
class Point:
    """One published measurement.

    Attributes:
        use: `chosen` or `held`.
        gpu: The hardware preset, whose links `hardware` has as the measured machine had them.
        seconds: As published.
        source: An address and what was measured.
    """

    use: str
    gpu: str
    collective: Collective
    hardware: Hardware
    seconds: float
    source: str

    @property
    def is_within(self) -> bool:
        """Whether it lies within the estimate's interval."""
        time = time_s(self.collective, self.hardware)
        return bool(time.low <= self.seconds <= time.high)


@cache
def points() -> tuple[Point, ...]:
    """The points of the file, in its order."""
    with FILE.open(encoding="utf-8") as file:
        return tuple(_point(row) for row in csv.DictReader(file))


def _point(row: dict[str, str]) -> Point:
    name = next(known for known in get_args(CollectiveName) if known == row["collective"])
    hardware = load_hardware(row["gpu"])
    if rate := row["node_bytes_per_s"]:
        assert hardware.node is not None
        hardware = replace(hardware, node=replace(hardware.node, bytes_per_s=float(rate)))
    if rate := row["network_bytes_per_s"]:
        assert hardware.network is not None
        hardware = replace(hardware, network=replace(hardware.network, bytes_per_s=float(rate)))
    return Point(
        use=row["use"],
        gpu=row["gpu"],
        collective=Collective(
            name=name,
            group=Group(gpus=int(row["gpus"]), per_node=int(row["per_node"])),
            payload_bytes=int(row["payload_bytes"]),
        ),
        hardware=hardware,
        seconds=float(row["us"]) * 1e-6,
        source=row["source"],
    )


def _key(point: Point) -> tuple[str, str, str, int, int]:
    group = point.collective.group
    return point.gpu, point.collective.name, point.use, group.gpus, group.per_node


def collective_points() -> str:
    """One row for the points of a GPU, a collective, a group and a use."""
    rows = []
    for (gpu, name, use, gpus, per_node), grouped in groupby(sorted(points(), key=_key), _key):
        alike = list(grouped)
        rows.append(
            (
                *(gpu, name, f"{len(alike)} {use}", str(gpus), str(per_node)),
                _span([float(point.collective.payload_bytes) for point in alike], units.traffic),
                _span([point.seconds * 1e6 for point in alike], units.significant),
                _span(
                    [
                        float(bound_s(point.collective, point.hardware)) / point.seconds
                        for point in alike
                    ],
                    _ratio,
                ),
                _span(
                    [
                        float(time_s(point.collective, point.hardware).typical) / point.seconds
                        for point in alike
                    ],
                    _ratio,
                ),
                f"{sum(point.is_within for point in alike)} of {len(alike)}",
            )
        )
    return markdown(HEAD, rows, text=3)


def collective_values() -> dict[str, str]:
    """How the held points lie, in words of a sentence."""
    held = [point for point in points() if point.use == "held"]
    off = sorted(
        abs(log(float(time_s(point.collective, point.hardware).typical) / point.seconds))
        for point in held
    )
    return {
        "collectives_held_within": f"{sum(point.is_within for point in held)} of {len(held)}",
        "collectives_held_median": f"{100 * expm1(off[len(off) // 2]):.0f} %",
    }


def collective_sources() -> str:
    """The addresses, each with what was measured there."""
    sources = dict.fromkeys(point.source.split(":")[0] for point in points())
    return "".join(f"- {source}\n" for source in sorted(sources))


def _span(values: Sequence[float], written: Callable[[float], str]) -> str:
    texts = dict.fromkeys(written(value) for value in (min(values), max(values)))
    return " to ".join(texts)


def _ratio(value: float) -> str:
    return f"{value:.2f}"


TABLES = {"collective_points": collective_points, "collective_sources": collective_sources}
