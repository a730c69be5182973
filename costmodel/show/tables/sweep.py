"""Sweeps as people read them: the first rows."""

import itertools
from collections.abc import Sequence

from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.questions.grid import Grid
from costmodel.show.tables.columns import cell, head
from costmodel.show.tables.notes import formats_words, predicted_by
from costmodel.show.text import Table

COLUMNS = ("flops.total", "hbm_bytes.compulsory", "kv_cache.read_bytes", "time.floor_s")


def sweep_table(
    grids: Sequence[Grid], calibrations: Sequence[Curves | Unknown], max_rows: int
) -> Table:
    """The first rows of sweeps, and by which calibrations their times are predicted."""
    total = sum(grid.size for grid in grids)
    records = (record for grid in grids for record in grid.records())
    timed = "time.predicted_s" in grids[0].columns
    names = (*COLUMNS, *["time.predicted_s"] * timed, "time.bound_by", "memory.fits")
    rows = [
        (
            record["model"],
            record["hardware"],
            record["routing"],
            f"{record['batch']:,}",
            f"{record['context']:,}",
            *(cell(name, record[name]) for name in names),
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
        title=f"Sweep of {total:,} workload{'' if total == 1 else 's'},"
        f" {formats_words(*(grid.workload for grid in grids))}",
        headers=("model", "GPU", "routing", "batch", "context", *map(head, names)),
        rows=tuple(rows),
        text_columns=3,
        notes=tuple(notes),
    )
