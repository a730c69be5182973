"""A validation as JSON and as flat records. Unknown is null, with its reason."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from itertools import islice
from typing import Any

import costmodel
from costmodel.achieved import Figure
from costmodel.quantities import QUANTITIES
from costmodel.validate import CaseFigures, Entry, ErrorLine, Validation

SCHEMA_VERSION = 1
STEP = "step"  # stands where a leaf's path would


def validation_json(validation: Validation, most: int | None) -> dict[str, Any]:
    """All of a validation; of the rows of a quantity the `most` worst ones, or all of them."""
    listed = [entry for group in validation.groups for entry in shown_entries(group, most)]
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "calibrations": list(validation.calibrations),
        "failed_self_checks": list(validation.failed_checks),
        "below_bound": [
            {"recording": name, **asdict(each), "path": each.path or STEP}
            for name, each in validation.violations
        ],
        "errors": [_error(line) for line in validation.errors],
        "errors_by_kind": [_error(line) for line in validation.errors_by_kind],
        "achieved": [_figures(each) for each in validation.figures],
        "rows": [entry_record(entry) for entry in listed],
        "rows_not_listed": sum(map(len, validation.groups)) - len(listed),
    }


def validation_records(validation: Validation) -> Iterator[dict[str, Any]]:
    """Every row, flat, for a table file."""
    return (entry_record(entry) for group in validation.groups for entry in group)


def shown_entries(group: tuple[Entry, ...], most: int | None) -> list[Entry]:
    """The worst of a quantity's rows that can be compared and differ; or all its rows."""
    if most is None:
        return list(group)
    return [entry for entry in islice(group, most) if entry.distance]


def entry_record(entry: Entry) -> dict[str, Any]:
    """One row, flat."""
    row = entry.row
    return {
        "recording": entry.recording,
        "case": entry.case,
        "run": row.run,
        "quantity": row.quantity,
        "unit": QUANTITIES[row.quantity].unit,
        "path": row.path or STEP,
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
    found = {each.name: getattr(line, each.name) for each in fields(line) if each.name != "worst"}
    worst = line.worst and entry_record(line.worst)
    return {**found, "exact": QUANTITIES[line.quantity].exact, "worst": worst}


def _figures(case: CaseFigures) -> dict[str, Any]:
    values: dict[str, Any] = {"recording": case.recording, "case": case.case}
    reasons = {}
    for each in fields(case.achieved):
        found = getattr(case.achieved, each.name)
        if isinstance(found, Figure):
            if found.value is None:
                reasons[each.name] = found.reason
            found = found.value
        values[each.name] = found
    return {**values, "reasons": reasons}
