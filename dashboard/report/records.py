"""A report as flat records of plain values, for spreadsheets and columns; numbers stay numbers.

A quantity's unit stands in its name.
"""

from dataclasses import asdict
from typing import Any

from costmodel.show.export import with_ignored_keys
from costmodel.show.prediction_json import ONE_LAYER, with_all_layers
from dashboard.report.document import CONTENTS, Report
from dashboard.report.quantities import REPORTED

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
    assert report.comparison is not None
    rows = [{**asdict(line), "finding": None} for line in report.comparison.lines]
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
