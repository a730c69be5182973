"""The schema of measured gathers from host memory: times of random rows over the link of one GPU.

A file holds gathers over a full grid of sizes of tables, row widths and numbers of rows, from
pinned host memory and, for comparison, from HBM, and copies of large blocks. It stands beside the
calibrations, under the name of its GPU's preset (`costmodel/presets/host_rows`).
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from costmodel.errors import shown
from costmodel.inputs.files import read_json_object
from costmodel.recordings.calibration import MAX_POINTS, Rate, Seconds, Size
from costmodel.recordings.machine import Label
from costmodel.strict import STRICT, validated

Text = Annotated[str, Field(min_length=1, max_length=2000)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Gather:
    """The time of one gather of `rows` random rows within a CUDA graph, launch included.

    From host memory the kernel reads the rows over the link, from HBM in the ordinary way. None of
    the rows were read a moment before.
    """

    table_bytes: Size  # among which the rows lie
    row_bytes: Size
    rows: Size
    host_s: Seconds
    hbm_s: Seconds


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Copy:
    """A copy of a block from pinned host memory to the GPU."""

    bytes: Size
    bytes_per_s: Rate


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class HostRows:
    """What one GPU's link to host memory does."""

    schema_version: Literal[1]
    hardware: Label  # the name of the GPU's preset
    machine: Label
    link: Label
    date: Label
    torch: Label
    triton: Label
    source: Text  # how it was measured
    gathers: Annotated[tuple[Gather, ...], Field(min_length=4, max_length=MAX_POINTS)]
    copies: Annotated[tuple[Copy, ...], Field(min_length=1, max_length=MAX_POINTS)]

    def __post_init__(self) -> None:
        """The gathers are a full grid: each table with each width and number of rows, once."""
        points = {(one.table_bytes, one.row_bytes, one.rows) for one in self.gathers}
        tables, widths, counts = ({point[side] for point in points} for side in range(3))
        full = len(tables) * len(widths) * len(counts)
        if not len(points) == len(self.gathers) == full:
            raise ValueError(
                f"gathers: hold {len(self.gathers)} points; {len(tables)} values of table_bytes"
                f" with {len(widths)} of row_bytes and {len(counts)} of rows, each once, are {full}"
            )


def load_host_rows(path: Path) -> HostRows:
    """The measurements of a file.

    Raises:
        InputError: It cannot be read, or breaks a rule.
    """
    return validated(HostRows, read_json_object(path), where=f"file={shown(str(path))}")
