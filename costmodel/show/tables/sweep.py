"""Sweeps as people read them: the first rows."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from costmodel import units
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.questions.grid import SET, Grid
from costmodel.routing.popularity import UNIFORM_OVERSTATES
from costmodel.show.tables.columns import head
from costmodel.show.tables.notes import formats_words, predicted_by
from costmodel.show.text import Table
from costmodel.show.told_times import MARK, TRANSFERRED, row_digits, shown

TRANSFERRED_FROM = "time.transferred_from"
COLUMNS = ("flops.total", "hbm_bytes.compulsory", "kv_cache.read_bytes", "time.floor_s")


def sweep_table(
    grids: Sequence[Grid], calibrations: Sequence[Curves | Unknown], max_rows: int
) -> Table:
    """The first rows of sweeps, and by which calibrations their times are predicted."""
    total = sum(grid.size for grid in grids)
    records = (record for grid in grids for record in grid.records())
    meshed = ("mesh",) if "mesh" in grids[0].columns else ()
    timed = "time.predicted_s" in grids[0].columns
    settings = [name for name in grids[0].columns if name.startswith(SET)]
    sized = ["parameters.total"] * bool(settings)
    names = (*sized, *COLUMNS, *["time.predicted_s"] * timed, "time.bound_by", "memory.fits")
    rows = [
        (
            record["model"],
            record["hardware"],
            *(record[name] for name in meshed),
            record["routing"],
            f"{record['batch']:,}",
            f"{record['context']:,}",
            *(f"{record[name]:,}" for name in settings),
            *(_cell(name, record) for name in names),
        )
        for record in itertools.islice(records, max_rows)
    ]
    hidden = total - len(rows)
    notes = [f"{hidden:,} more rows: --out FILE.csv, .json or .parquet."] if hidden else []
    notes += dict.fromkeys(note for grid in grids for note in _routing_note(grid))
    if timed:
        notes += dict.fromkeys(
            predicted_by(curves)
            for place, curves in enumerate(calibrations)
            if isinstance(curves, Curves) and any(_measured(grid, place) for grid in grids)
        )
        notes += [TRANSFERRED] * any(TRANSFERRED_FROM in grid.columns for grid in grids)
    notes += dict.fromkeys(note for grid in grids for note in _unknown_notes(grid))
    what = "point" if settings else "workload"
    return Table(
        title=f"Sweep of {total:,} {what}{'' if total == 1 else 's'},"
        f" {formats_words(*(grid.workload for grid in grids))}",
        headers=(
            *("model", "GPU", *meshed, "routing", "batch", "context"),
            *(name.removeprefix(SET) for name in settings),
            *map(head, names),
        ),
        rows=tuple(rows),
        text_columns=3 + len(meshed),
        keys=5 + len(meshed) + len(settings),
        notes=tuple(notes),
    )


def _measured(grid: Grid, place: int) -> bool:
    """Whether the times of the GPU at this place are not transferred."""
    sources = grid.column(TRANSFERRED_FROM)
    return sources is None or sources[0, place, 0, 0] is None


def _cell(name: str, record: Mapping[str, Any]) -> str:
    """A number; a transferred time with its digits and its mark."""
    transferred = bool(record.get(TRANSFERRED_FROM)) and STEP_QUANTITIES[name].calibrated
    text = shown(STEP_QUANTITIES[name], record[name], row_digits(record, "time."))
    return f"{MARK}{text}" if transferred else text


def _unknown_notes(grid: Grid) -> list[str]:
    """Which numbers of a model are not known, or not at every point, and why."""
    labels: dict[str, list[str]] = {}
    for name, reason in grid.reasons.items():
        if name not in STEP_QUANTITIES:  # an end of an interval, whose number has the reason too
            continue
        labels.setdefault(reason, []).append(STEP_QUANTITIES[name].label)
    return [
        f"{grid.model}, {', '.join(names)}: {units.NOT_KNOWN} ({reason})."
        for reason, names in labels.items()
    ]


def _routing_note(grid: Grid) -> tuple[str, ...]:
    """Which way uniform routing errs, where a model chooses by it."""
    chooses = grid.columns["routing.flops"].any()
    return (UNIFORM_OVERSTATES,) if chooses and "uniform" in ",".join(grid.routings) else ()
