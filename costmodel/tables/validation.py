"""Recordings against predictions as people read them: what failed, errors, worst rows, figures."""

from collections.abc import Callable, Sequence

from costmodel import units
from costmodel.layers.operator import Number
from costmodel.quantities import QUANTITIES, Unit
from costmodel.text import Table
from costmodel.validate import CaseFigures, Entry, ErrorLine, Validation
from costmodel.validation_report import STEP, shown_entries

NOT_MEASURED = "-"


def validation_tables(validation: Validation, most: int | None) -> list[Table]:
    """Failures first, then errors by quantity and kind, figures by case, and the worst rows."""
    tables = []
    if validation.failed_checks:
        tables.append(_lines("Self-checks that FAILED", validation.failed_checks, most))
    if validation.violations:
        below = [f"{name}: {each}" for name, each in validation.violations]
        tables.append(_lines("Measured below the bound, the farthest first", below, most))
    tables.append(_errors(validation))
    kinds = [line for line in validation.errors_by_kind if line.compared]
    if kinds:
        tables.append(_by_kind(kinds))
    tables.append(_figures(validation.figures))
    tables.append(_worst(validation, most))
    return tables


def _lines(title: str, lines: Sequence[str], most: int | None) -> Table:
    shown = list(lines[:most])
    if len(lines) > len(shown):
        shown.append(f"{len(lines) - len(shown):,} more: --all lists them.")
    return Table(title=f"{title}: {len(lines):,}", headers=(), rows=(), notes=tuple(shown))


def _errors(validation: Validation) -> Table:
    cases = len(validation.figures)
    notes = [
        (
            "n: rows with both sides; equal: to the unit; median: of measured / predicted;"
            " error: exp(mean |ln ratio|) - 1, of ratios between numbers that are not 0."
        ),
        "against: a prediction, or the bound that stands in its place; nothing: not predicted.",
        *validation.calibrations,
    ]
    return Table(
        title=f"Measured over predicted, {cases:,} case{'' if cases == 1 else 's'}",
        headers=(
            "quantity",
            "of",
            "against",
            "worst at",
            "n",
            "equal",
            "median",
            "error",
            "worst",
            "measured\nonly",
            "predicted\nonly",
            "neither",
        ),
        rows=tuple(
            (
                _name(line),
                line.level,
                line.basis,
                _where(line.worst),
                f"{line.compared:,}",
                _equal(line),
                *_ratios(line),
                f"{line.measured_only:,}",
                f"{line.predicted_only:,}",
                f"{line.neither:,}",
            )
            for line in validation.errors
        ),
        text_columns=4,
        notes=tuple(notes),
    )


def _by_kind(lines: Sequence[ErrorLine]) -> Table:
    return Table(
        title="Measured over predicted, leaves by kind of operator",
        headers=("quantity", "kind", "against", "worst at", "n", "median", "error", "worst"),
        rows=tuple(
            (
                _name(line),
                line.level,
                line.basis,
                _where(line.worst),
                f"{line.compared:,}",
                *_ratios(line),
            )
            for line in lines
        ),
        text_columns=4,
    )


def _figures(cases: Sequence[CaseFigures]) -> Table:
    shown: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("tokens/s", "tokens_per_s", units.significant),
        ("HBM", "hbm_bytes_per_s", lambda value: units.scaled(value, "B/s")),
        ("MBU", "mbu", _percent),
        ("FLOP rate", "flops_per_s", lambda value: units.scaled(value, "FLOP/s")),
        ("MFU", "mfu", _percent),
        ("routing\ntime", "routing_kernel_s", units.seconds),
        ("routing\nshare", "routing_share", _percent),
        ("routing\nlaunches", "routing_launches", units.count),
        ("routing\nHBM", "routing_hbm_bytes", units.traffic),
        ("routing\nFLOPs", "routing_flops", units.flops),
        ("leaves' reads /\nstep's reads", "leaves_over_step", units.ratio),
    )

    def cell(case: CaseFigures, field: str, form: Callable[[float], str]) -> str:
        value = getattr(case.achieved, field).value
        return NOT_MEASURED if value is None else form(value)

    return Table(
        title="What was achieved",
        headers=("recording", "case", "time", *(header for header, _, _ in shown)),
        rows=tuple(
            (
                case.recording,
                case.case,
                case.achieved.time_of.removesuffix("_s"),
                *(cell(case, field, form) for _, field, form in shown),
            )
            for case in cases
        ),
        text_columns=3,
        notes=(
            (
                "MBU: compulsory bytes, of what was touched, over time and datasheet bandwidth."
                " MFU: useful FLOPs over time and dense peak."
            ),
            (
                "routing: leaves that only choose; the sorting and combining inside expert leaves"
                " cannot be told apart."
            ),
            f"{NOT_MEASURED} not known; --json gives the reason.",
        ),
    )


def _worst(validation: Validation, most: int | None) -> Table:
    rows: list[tuple[str, ...]] = []
    sections: set[int] = set()
    for group in validation.groups:
        listed = shown_entries(group, most)
        rows += [_entry_cells(entry) for entry in listed]
        if listed:
            sections.add(len(rows) - 1)
    left = sum(map(len, validation.groups)) - len(rows)
    return Table(
        title="Every row" if most is None else f"Farthest apart, at most {most} of a quantity",
        headers=(
            "quantity",
            "leaf",
            "recording",
            "case",
            "against",
            "note",
            "predicted",
            "measured",
            "ratio",
        ),
        rows=tuple(rows),
        text_columns=6,
        sections=frozenset(sections),
        notes=(f"{left:,} more rows: --all lists them, --csv writes them.",) if left else (),
    )


def _entry_cells(entry: Entry) -> tuple[str, ...]:
    row = entry.row
    unit = QUANTITIES[row.quantity].unit
    return (
        row.quantity,
        row.path or STEP,
        entry.recording,
        entry.case,
        row.basis,
        row.reason or "",
        _amount(row.predicted, unit),
        _amount(row.measured, unit),
        NOT_MEASURED if row.ratio is None else units.ratio(row.ratio),
    )


def _amount(value: Number | None, unit: Unit) -> str:
    if value is None:
        return NOT_MEASURED
    match unit:
        case "count":
            return units.count(value)
        case "s":
            return units.seconds(float(value))
        case "flops":
            return units.flops(value)
        case "bytes":
            return units.traffic(value)
    return units.scaled(value, unit.upper())


def _name(line: ErrorLine) -> str:
    """The quantity; its run too, where two runs give it."""
    several = len(QUANTITIES[line.quantity].runs) > 1
    return f"{line.quantity} ({line.run})" if several else line.quantity


def _equal(line: ErrorLine) -> str:
    if not QUANTITIES[line.quantity].exact or not line.compared:
        return ""
    return "all" if line.equal == line.compared else f"{line.equal:,}"


def _ratios(line: ErrorLine) -> tuple[str, str, str]:
    """Median ratio, error, worst ratio."""
    worst = line.worst.row.ratio if line.worst else None
    return (
        NOT_MEASURED if line.median_ratio is None else units.ratio(line.median_ratio),
        NOT_MEASURED if line.error is None else _percent(line.error),
        NOT_MEASURED if worst is None else units.ratio(worst),
    )


def _where(entry: Entry | None) -> str:
    if entry is None:
        return ""
    return f"{entry.recording}, {entry.case}, {entry.row.path or STEP}"


def _percent(share: float) -> str:
    return f"{units.significant(100 * share, 3)} %"
