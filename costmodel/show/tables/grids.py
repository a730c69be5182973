"""Sweeps as people read them: the first rows."""

import itertools
from collections.abc import Sequence

from costmodel import units
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.questions.grid import Grid
from costmodel.show.tables.prediction import predicted_by
from costmodel.show.text import Table


def sweep_table(
    grids: Sequence[Grid], calibrations: Sequence[Curves | Unknown], max_rows: int
) -> Table:
    """The first rows of sweeps, and by which calibrations their times are predicted."""
    total = sum(grid.size for grid in grids)
    records = (record for grid in grids for record in grid.records())
    timed = "time.predicted_s" in grids[0].columns
    rows = [
        (
            record["model"],
            record["hardware"],
            record["routing"],
            f"{record['batch']:,}",
            f"{record['context']:,}",
            units.flops(record["flops.total"]),
            units.traffic(record["hbm_bytes.compulsory"]),
            units.traffic(record["kv_cache.read_bytes"]),
            units.seconds(record["time.floor_s"]),
            *([units.seconds(record["time.predicted_s"])] if timed else []),
            record["time.bound_by"],
            "yes" if record["memory.fits"] else "no",
        )
        for record in itertools.islice(records, max_rows)
    ]
    hidden = total - len(rows)
    notes = [f"{hidden:,} more rows: --out FILE.csv, .json or .parquet."] if hidden else []
    if timed:
        workload = grids[0].workload
        used = [curves for curves in calibrations if isinstance(curves, Curves)]
        notes += dict.fromkeys(predicted_by(curves, workload) for curves in used)
    return Table(
        title=f"Sweep of {total:,} workloads",
        headers=(
            "model",
            "GPU",
            "routing",
            "batch",
            "context",
            "FLOPs",
            "HBM compulsory",
            "KV read",
            "floor",
            *(["predicted"] if timed else []),
            "bound",
            "fits",
        ),
        rows=tuple(rows),
        text_columns=3,
        notes=tuple(notes),
    )
