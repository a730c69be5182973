"""Times of gathers of random rows over the link to host memory, between measured points.

Bandwidth alone does not price such a gather. A few rows cost the latency of the link, whatever
their bytes; many short rows of a large table come at a steady number of rows a second, far below
the bandwidth, and of a small table twice as fast: what limits them is the translation of addresses,
of which the GPU keeps some hundred pages. So a gather is priced by three quantities: the bytes of
the table, the number of rows and the bytes of one.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import log
from pathlib import Path
from typing import TYPE_CHECKING

from costmodel.costs.interpolate import Sheet, rising_keys
from costmodel.layers.numbers import Number, larger, smaller

if TYPE_CHECKING:  # reading a file takes pydantic models that most predictions do not need
    from costmodel.recordings.host_rows import HostRows

FOLDER = Path(__file__).parent.parent / "presets" / "host_rows"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkTimes:
    """Times of one GPU's gathers, their launches within a CUDA graph included."""

    measured: "HostRows"
    host: dict[int, Sheet]  # by bytes of the table, ascending: bytes of a row; rows
    narrowest: int  # measured row, in bytes
    widest: int

    @classmethod
    def of(cls, measured: "HostRows") -> "LinkTimes":
        """The curves through the measured points.

        No time falls as rows grow in number or in width: points that do share their mean.
        """
        widths = [gather.row_bytes for gather in measured.gathers]
        return cls(
            measured=measured,
            host={
                size: _sheet(
                    (g.row_bytes, g.rows, g.host_s)
                    for g in measured.gathers
                    if g.table_bytes == size
                )
                for size in sorted({gather.table_bytes for gather in measured.gathers})
            },
            narrowest=min(widths),
            widest=max(widths),
        )

    def gather_s(self, rows: Number, row_bytes: Number, table_bytes: int) -> Number:
        """Seconds of one gather of `rows` rows of `row_bytes` from host memory.

        Formula: interpolated between measured points, log t linear in log rows, in log bytes of a
        row and in log bytes of the table among which the rows lie; a table outside the measured
        sizes counts as the nearest of them.
        Rows narrower than any that was measured take as long as the narrowest, since their number
        counts and not their bytes. One wider row counts as several of the widest: t(rows w / W, W).
        Beyond the most rows the rate of the last point holds. Of less than one expected row the
        time of one is taken in proportion.
        Leaves out: other traffic on the link, what a gather takes from work beside it, and that
        popular rows may still be translated.
        Source: costmodel/presets/host_rows, measured on one card (benchmarks/host_tables.py).
        """
        wide = larger(row_bytes / self.widest, 1)
        width = smaller(larger(row_bytes, self.narrowest), self.widest)
        whole = larger(rows, 1) * wide
        sizes = list(self.host)
        above = bisect_left(sizes, table_bytes)
        if above in {0, len(sizes)}:
            near = self.host[sizes[min(above, len(sizes) - 1)]]
            return near.at(width, whole) * smaller(rows, 1)
        low, high = sizes[above - 1], sizes[above]
        share = log(table_bytes / low) / log(high / low)
        least, most = (self.host[size].at(width, whole) for size in (low, high))
        return least * (most / least) ** share * smaller(rows, 1)


def _sheet(points: Iterable[tuple[int, int, float]]) -> Sheet:
    return Sheet.through(rising_keys(points), rising=True)


@cache
def link_times(hardware: str) -> LinkTimes | None:
    """The measured gathers of a GPU, by the name of its preset; None: none are shipped."""
    names = {path.stem: path for path in FOLDER.glob("*.json")}
    if hardware not in names:  # a name is only looked up, never joined to the folder
        return None
    from costmodel.recordings.host_rows import load_host_rows

    return LinkTimes.of(load_host_rows(names[hardware]))
