"""A report as flat records of plain values, for spreadsheets and columns; numbers stay numbers.

A quantity's unit stands in its name.
"""

from dataclasses import asdict
from typing import Any

from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.show.export import with_ignored_keys
from costmodel.show.prediction_json import ALL_LAYERS, ONE_LAYER, with_all_layers
from costmodel.units import Unit
from dashboard.report.document import CONTENTS, Report
from dashboard.report.quantities import REPORTED

OWN_UNITS: dict[str, Unit] = {  # of columns that are no quantities of a step
    "batch": "count",
    "context": "tokens",
    "repeats": "count",
    "ratio": "ratio",
}
SHEETS = {content: content.capitalize() for content in CONTENTS}


def operator_records(report: Report) -> list[dict[str, Any]]:
    """The operators of all steps; numbers are those of one of an operator's `count` layers.

    Beside each stands `all_layers_...`, the sum over the layers. A column that holds one fraction
    holds floats throughout. The last one says which keys of the model were ignored.
    """
    records = with_all_layers(
        {
            "model": step.model,
            "batch": step.batch,
            "context": step.context,
            "numbers_of": ONE_LAYER,
            **asdict(operator),
        }
        for step in report.steps
        for operator in step.operators
    )
    models = {model.name: model for model in report.inputs.models}
    rows = list(with_ignored_keys(records, models, "model"))
    for name in rows[0]:
        if any(isinstance(row[name], float) for row in rows):
            for row in rows:
                row[name] = None if row[name] is None else float(row[name])
    return rows


def column_unit(sheet: str, column: str) -> Unit | None:
    """The unit of a column's numbers; None of text, and where each row states its own `unit`."""
    if column in OWN_UNITS:
        return OWN_UNITS[column]
    of = {SHEETS["operators"]: "operators", SHEETS["comparison"]: "rows"}.get(sheet)
    quantity = STEP_QUANTITIES.get(f"{of}.{column.removeprefix(ALL_LAYERS)}")
    return None if quantity is None else quantity.unit


def sheets(report: Report) -> dict[str, list[dict[str, Any]]]:
    """The sheets of a workbook by name, those of the sections that the report holds."""
    made = {
        "summary": _summary,
        "operators": operator_records,
        "comparison": _comparison,
        "measured": _measured,
        "method": _method,
    }
    return {SHEETS[name]: made[name](report) for name in report.contents}


def _summary(report: Report) -> list[dict[str, Any]]:
    """A row for each quantity, a column for each step; the reasons of what is not known last."""
    columns = [
        (step, f"{step.model}, batch {step.batch}, context {step.context}") for step in report.steps
    ]
    return [
        {
            "quantity": quantity.label,
            "name": name,
            "unit": quantity.unit,
            **{column: step.values.get(name) for step, column in columns},
            "not known": "; ".join(
                f"{column}: {step.reasons[name]}"
                for step, column in columns
                if name in step.reasons
            ),
        }
        for name, quantity in REPORTED.items()
    ]


def _comparison(report: Report) -> list[dict[str, Any]]:
    """A model's batches stand together, as a chart needs them; the findings last."""
    assert report.comparison is not None
    names = [model.name for model in report.inputs.models]
    lines = sorted(
        report.comparison.lines, key=lambda line: (line.context, names.index(line.model))
    )
    rows = [{**asdict(line), "finding": None} for line in lines]
    empty = dict.fromkeys(rows[0]) if rows else {"context": None, "finding": None}
    return rows + [
        {**empty, "context": finding.context, "finding": finding.text}
        for finding in report.comparison.findings
    ]


def _measured(report: Report) -> list[dict[str, Any]]:
    return [asdict(line) for line in report.measured]


def _method(report: Report) -> list[dict[str, Any]]:
    given = report.inputs
    inputs = [
        ("made", report.made),
        ("sparsecost", report.sparsecost_version),
        ("GPU", given.hardware.name),
        ("calibration", given.calibration.name if given.calibration else given.no_calibration),
        ("measured", given.calibration.started if given.calibration else None),
        *((name, value) for name, value in asdict(given.workload).items()),
    ]
    rows = [
        {"topic": "inputs", "what": what, "text": _cell(value), "source": ""}
        for what, value in inputs
    ]
    return rows + [asdict(note) for note in report.method]


def _cell(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value
