"""Rows that a validation could not compare, by reason; and all of its lines and rows in full."""

from collections import Counter
from collections.abc import Iterable, Iterator

from costmodel.recordings.error_measures import LOG_ERROR, MAPE
from costmodel.recordings.quantities import RUNS
from costmodel.show.tables.validation_cells import amount, cut, ratio, share
from costmodel.show.text import Table
from costmodel.show.validation_json import WHOLE_STEP
from costmodel.validation.error_line import ErrorLine
from costmodel.validation.error_stats import Entry
from costmodel.validation.validate import Validation, worst_first

MOST_REASONS = 5
MAX_REASON = 90  # characters


def uncompared_table(validation: Validation, *, whole: bool) -> Table:
    """Lacking runs, quantities without a counterpart, and rows that lack a side."""
    compared = sum(line.compared for line in validation.errors)
    alone = validation.rows - compared
    notes = [*_lacking(validation), *_without_pair(validation.errors)]
    notes.append(
        f"{validation.rows:,} rows in all: {compared:,} with both sides, {alone:,} without:"
    )
    notes += [f"  {count:,} rows: {reason}" for reason, count in _grouped(validation.lacking_sides)]
    if not whole:
        notes.append(
            "--all lists every line and row; --csv and --json hold them, with their reasons."
        )
    return Table(title="What is not compared", headers=(), rows=(), notes=tuple(notes))


def _lacking(validation: Validation) -> Iterator[str]:
    """`17 time, 17 counters, 3 energy runs lacking: does not fit`."""
    by_reason: dict[str, Counter[str]] = {}
    for (run, reason), count in validation.lacking_runs.items():
        by_reason.setdefault(_head(reason), Counter())[run] += count
    for reason, runs in by_reason.items():
        counts = ", ".join(f"{runs[run]:,} {run}" for run in RUNS if runs[run])
        yield f"{counts} run{'s' * (runs.total() > 1)} lacking: {reason}"


def _without_pair(errors: Iterable[ErrorLine]) -> Iterator[str]:
    """Quantities of which no row has both sides."""
    lines: dict[str, list[ErrorLine]] = {}
    for line in errors:
        lines.setdefault(line.quantity, []).append(line)
    sorts: dict[str, list[str]] = {}
    for quantity, of_quantity in lines.items():
        if any(line.compared for line in of_quantity):
            continue
        measured = any(line.measured_only for line in of_quantity)
        predicted = any(line.predicted_only for line in of_quantity)
        sort = "measured, not predicted" if measured else "predicted, not measured"
        sorts.setdefault(sort if measured or predicted else "neither", []).append(quantity)
    for sort, names in sorts.items():
        yield f"Without any pair, {sort}: {', '.join(names)}"


def _grouped(reasons: Counter[str]) -> Iterator[tuple[str, int]]:
    """The most frequent reasons, without their particulars, and the number of all others."""
    heads: Counter[str] = Counter()
    for reason, count in reasons.items():
        heads[_head(reason)] += count
    yield from heads.most_common(MOST_REASONS)
    others = heads.total() - sum(count for _, count in heads.most_common(MOST_REASONS))
    if others:
        yield "other reasons", others


def _head(reason: str) -> str:
    """`does not fit` of `does not fit: 258.25 GiB are needed`."""
    return cut(reason.partition(":")[0], MAX_REASON)


def whole_tables(validation: Validation) -> list[Table]:
    """Every line of errors, with what it counts, and every row."""
    return [_lines([*validation.errors, *validation.errors_by_kind]), _rows(validation)]


def _lines(lines: Iterable[ErrorLine]) -> Table:
    return Table(
        title="Every line of errors",
        headers=(
            *("quantity", "run", "of", "phase", "against", "backend"),
            *("n", "equal", "zero on\none side", "by recorded\nchoices"),
            *("measured\nonly", "predicted\nonly", "neither"),
            *("median\nratio", "10th\nperc.", "90th\nperc."),
            *(MAPE, f"weighted\n{MAPE}", LOG_ERROR.replace(" ", "\n"), "worst\nratio"),
        ),
        rows=tuple(
            (
                *(line.quantity, line.run, line.level, line.phase, line.basis, line.backend),
                *(f"{line.compared:,}", f"{line.equal:,}", f"{line.no_ratio:,}"),
                *(f"{line.by_recorded_choices:,}", f"{line.measured_only:,}"),
                *(f"{line.predicted_only:,}", f"{line.neither:,}"),
                *map(ratio, (line.median_ratio, line.low_ratio, line.high_ratio)),
                *map(share, (line.mape, line.weighted_mape, line.error)),
                ratio(line.worst.row.ratio if line.worst else None),
            )
            for line in lines
        ),
        text_columns=6,
    )


def _rows(validation: Validation) -> Table:
    groups = [list(worst_first(columns)) for columns in validation.columns.values()]
    ends = [sum(map(len, groups[: index + 1])) - 1 for index in range(len(groups))]
    return Table(
        title="Every row, the worst of a quantity first",
        headers=(
            *("quantity", "leaf", "recording", "case", "against", "note"),
            *("predicted", "measured", "ratio"),
        ),
        rows=tuple(_cells(entry) for group in groups for entry in group),
        text_columns=6,
        sections=frozenset(ends),
    )


def _cells(entry: Entry) -> tuple[str, ...]:
    row, origin = entry.row, entry.origin
    return (
        *(row.quantity, row.path or WHOLE_STEP, origin.recording, origin.case),
        *(row.basis, row.reason or ""),
        *(amount(row.predicted, row.quantity), amount(row.measured, row.quantity)),
        ratio(row.ratio),
    )
