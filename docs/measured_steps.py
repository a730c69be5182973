"""Write `costmodel/presets/claims/measured.csv`: `python -m docs.measured_steps`.

Whole decode steps that this project measured on an H200, one row for each number: medians of the
committed recordings (backend `torch`), and times of the backend `fused` from `benchmarks`. The
claims read these rows: the wheel lacks the benchmarks, and reading recordings takes seconds.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from costmodel.recordings.measured import Spread
from docs.fused_steps import fused_decode_steps
from docs.recorded import PREFIX, recorded

FILE = Path(__file__).parents[1] / "costmodel" / "presets" / "claims" / "measured.csv"
HEAD = ("model", "backend", "batch", "context", "routing", "quantity", "value", "source")
QUANTITIES = {"graph_s": "time", "hbm_read_bytes": "counters", "energy_j": "energy"}  # their runs
FUSED_CONTEXT = 2048


def rows() -> Iterator[tuple[object, ...]]:
    """All rows, those of recordings first."""
    for model, recording in recorded().recordings.items():
        for case in recording.cases:
            workload = case.workload
            if workload.phase != "decode":
                continue
            for quantity, run in QUANTITIES.items():
                value = case.runs[run].step.get(quantity) if run in case.runs else None
                if isinstance(value, Spread):
                    source = f"recording {PREFIX}{model}"
                    at = (workload.batch, workload.context, workload.routing)
                    yield model, "torch", *at, quantity, value.median, source
    for model, batch, seconds, source in fused_decode_steps():
        yield model, "fused", batch, FUSED_CONTEXT, "uniform", "graph_s", seconds, source


def text() -> str:
    """The whole file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows(rows())
    return out.getvalue()


def main() -> None:
    """Write the file."""
    FILE.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
