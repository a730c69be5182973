"""Write `costmodel/presets/claims/measured.csv`: `python -m docs.measured_steps`.

Whole decode steps that this project measured on an H200, one row for each number: medians of the
shipped recordings of both backends, and of models without a recording by the backend `fused` the
times of its steps in `benchmarks`. The claims read these rows: the wheel lacks the benchmarks, and
reading recordings takes seconds.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from costmodel.recordings.folders import SHIPPED
from costmodel.recordings.measured import Spread
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import load_recording
from docs.fused_steps import fused_decode_steps

FILE = Path(__file__).parents[1] / "costmodel" / "presets" / "claims" / "measured.csv"
HEAD = ("model", "backend", "batch", "context", "routing", "quantity", "value", "source")
QUANTITIES: dict[str, RunName] = {
    "graph_s": "time",
    "hbm_read_bytes": "counters",
    "energy_j": "energy",
}
FUSED_CONTEXT = 2048


def rows() -> Iterator[tuple[object, ...]]:
    """All rows, those of recordings first."""
    fused = set()
    for path in sorted(SHIPPED.glob("*.json")):
        recording = load_recording(path)
        for case in recording.cases:
            workload = case.workload
            if workload.phase != "decode":
                continue
            for quantity, run_name in QUANTITIES.items():
                run = case.runs.get(run_name)
                value = None if run is None else run.step.get(quantity)
                if run is None or not isinstance(value, Spread):
                    continue
                if run.backend == "fused":
                    fused.add(recording.preset)
                at = (workload.batch, workload.context, workload.routing)
                source = f"recording {path.stem}"
                yield recording.preset, run.backend, *at, quantity, value.median, source
    for model, batch, seconds, source in fused_decode_steps():
        if model not in fused:
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
