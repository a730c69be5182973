"""A validation as JSON and as flat records. Unknown is null, with its reason."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import costmodel
from costmodel.recordings.quantities import QUANTITIES
from costmodel.validation.breakdowns import Breakdown
from costmodel.validation.error_line import ErrorLine
from costmodel.validation.error_stats import Entry
from costmodel.validation.pairs import PairPoint, crossovers, winner_scores
from costmodel.validation.utilisation import Figure
from costmodel.validation.validate import CaseUtilisation, Validation, worst_first

SCHEMA_VERSION = 1
WHOLE_STEP = "step"  # in place of a leaf's path


def validation_json(validation: Validation, most: int | None) -> dict[str, Any]:
    """A validation as plain dicts; of each quantity the `most` worst rows, or all of them."""
    rows = [
        entry_record(entry)
        for columns in validation.columns.values()
        for entry in worst_first(columns, most)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "calibrations": list(validation.calibrations),
        "anchors": [asdict(anchor) for anchor in validation.anchors],
        "failed_self_checks": [asdict(check) for check in validation.failed_checks],
        "below_bound": [
            {"recording": name, **asdict(violation), "path": violation.path or WHOLE_STEP}
            for name, violation in validation.violations
        ],
        "errors": [_error(line) for line in validation.errors],
        "errors_by_kind": [_error(line) for line in validation.errors_by_kind],
        "breakdowns": [_breakdown(one) for one in validation.breakdowns],
        "winners": [asdict(score) for score in winner_scores(validation.pairs)],
        "crossovers": [
            {**asdict(series), "met": series.met, "not_measured": series.invented}
            for series in crossovers(validation.pairs)
        ],
        "pairs": [_pair(point) for point in validation.pairs],
        **({"attribution": attribution} if (attribution := _attribution(validation)) else {}),
        "achieved": [_figures(case) for case in validation.utilisations],
        "lacking_runs": [
            {"run": run, "reason": reason, "cases": count}
            for (run, reason), count in validation.lacking_runs.items()
        ],
        "rows": rows,
        "rows_not_listed": validation.rows - len(rows),
    }


def validation_records(validation: Validation) -> Iterator[dict[str, Any]]:
    """Every row, flat, for a table file."""
    for columns in validation.columns.values():
        yield from map(entry_record, worst_first(columns))


def entry_record(entry: Entry) -> dict[str, Any]:
    """One row, flat."""
    row = entry.row
    return {
        "recording": entry.origin.recording,
        "case": entry.origin.case,
        "run": row.run,
        "backend": row.backend,
        "quantity": row.quantity,
        "unit": QUANTITIES[row.quantity].unit,
        "path": row.path or WHOLE_STEP,
        "kind": row.kind,
        "basis": row.basis,
        "predicted": row.predicted,
        "measured": row.measured,
        "q1": row.q1,
        "q3": row.q3,
        "repeats": row.repeats,
        "ratio": row.ratio,
        "source": row.source,
        "reason": row.reason,
    }


def _error(line: ErrorLine) -> dict[str, Any]:
    numbers = {
        field.name: getattr(line, field.name) for field in fields(line) if field.name != "worst"
    }
    worst = line.worst and entry_record(line.worst)
    return {**numbers, "exact": QUANTITIES[line.quantity].exact, "worst": worst}


def _breakdown(one: Breakdown) -> dict[str, Any]:
    return {
        "quantity": one.quantity,
        "backend": one.backend,
        "phase": one.phase,
        "by": one.by,
        "value": one.value,
        **asdict(one.errors),
    }


def _pair(point: PairPoint) -> dict[str, Any]:
    return {
        "quantity": point.quantity,
        "backend": point.backend,
        "moe": point.moe,
        "memory": point.memory,
        "case": point.workload.label,
        "measured": point.measured,
        "predicted": point.predicted,
        "clear": point.clear,
        "right": None if point.predicted is None else point.right,
    }


def _attribution(validation: Validation) -> list[dict[str, Any]]:
    """Where the time of each case goes; seconds, which sum to `measured_s` exactly."""
    return [
        {
            "recording": origin.recording,
            "case": origin.case,
            "backend": origin.backend,
            "step": None if case.step is None else asdict(case.step),
            "by_kind": {kind: asdict(parts) for kind, parts in case.by_kind.items()},
            "reason": case.reason or None,
        }
        for origin, case in validation.attributions
    ]


def _figures(case: CaseUtilisation) -> dict[str, Any]:
    values: dict[str, Any] = {"recording": case.origin.recording, "case": case.origin.case}
    reasons = {}
    for field in fields(case.utilisation):
        value = getattr(case.utilisation, field.name)
        if isinstance(value, Figure):
            if value.value is None:
                reasons[field.name] = value.reason
            value = value.value
        values[field.name] = value
    return {**values, "reasons": reasons}
