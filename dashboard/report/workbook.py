"""A report as an Excel workbook: a sheet for each section; text is text, numbers are numbers.

A head names its column and the unit of its numbers, and filters it. Numbers are as the JSON has
them, in units without a prefix; only their form is the reader's: counts by thousands, times and
energies to three digits. The sheet Comparison has a chart of time over the batch.

No cell is a formula and none is a link, whatever a text begins with. Excel keeps numbers in 64-bit
floating point and its files hold 16 digits of them, so counts beyond 2^53 are rounded there.
"""

from collections.abc import Sequence
from io import BytesIO
from itertools import groupby
from operator import itemgetter
from typing import Any

import xlsxwriter

from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.show.axis import Axis
from costmodel.units import Unit, scale
from dashboard.app.figures import colour
from dashboard.report.document import Report
from dashboard.report.records import SHEETS, column_unit, sheets

OPTIONS = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
WIDEST = 60  # characters of a column
COUNT, EXPECTATION, SCIENTIFIC = "#,##0", "#,##0.00", "0.00E+00"
FORMS: dict[Unit, str] = {
    "count": COUNT,
    "parameters": COUNT,
    "tokens": COUNT,
    "flops": COUNT,
    "bytes": COUNT,
    "capacity": COUNT,
    "s": SCIENTIFIC,
    "j": SCIENTIFIC,
    "w": "#,##0.0",
    "usd": "#,##0.0000",
    "share": "0.0%",
    "percent": "+0.000;-0.000;0",
    "ratio": "0.000",
    "tokens_per_s": COUNT,
    "flops_per_s": SCIENTIFIC,
    "bytes_per_s": SCIENTIFIC,
}
WORDLESS = ("bool", "text", "count", "ratio")  # units that a head does without
CHART_SIZE = {"width": 760, "height": 440}  # pixels


def workbook_bytes(report: Report) -> bytes:
    """The file."""
    data = BytesIO()
    with xlsxwriter.Workbook(data, OPTIONS) as workbook:
        forms = {
            form: workbook.add_format({"num_format": form})
            for form in (*dict.fromkeys(FORMS.values()), EXPECTATION)
        }
        head = workbook.add_format({"bold": True, "text_wrap": True, "valign": "top"})
        for name, rows in sheets(report).items():
            sheet = workbook.add_worksheet(name)
            columns = list(rows[0]) if rows else ["nothing is held here"]
            for place, column in enumerate(columns):
                sheet.write_string(0, place, _head(name, column), head)
                widest = max((len(str(row[column])) for row in rows), default=0)
                sheet.set_column(place, place, min(max(widest, 12) + 1, WIDEST))
            for line, row in enumerate(rows, start=1):
                for place, column in enumerate(columns):
                    form = _form(row[column], column_unit(name, column) or row.get("unit"))
                    _write(sheet, line, place, row[column], forms.get(form))
            sheet.freeze_panes(1, 0)
            sheet.autofilter(0, 0, len(rows), len(columns) - 1)
            if name == SHEETS["comparison"] and rows:
                _add_chart(workbook, sheet, rows)
    return data.getvalue()


def _head(sheet: str, column: str) -> str:
    """The name of a column, and the unit of its numbers where they have one."""
    unit = column_unit(sheet, column)
    return column if unit is None or unit in WORDLESS else f"{column} [{scale(unit)[0]}]"


def _form(value: object, unit: Unit | None) -> str:
    """The number format of a value; empty of what is no number. Expected counts have fractions."""
    if unit is None or not isinstance(value, int | float):
        return ""
    form = FORMS.get(unit, "")
    return EXPECTATION if form == COUNT and not float(value).is_integer() else form


def _write(sheet: Any, line: int, place: int, value: object, form: Any) -> None:  # noqa: ANN401 - untyped
    """One cell; what is not known stays empty."""
    match value:
        case None:
            return
        case bool():
            sheet.write_boolean(line, place, value)
        case int() | float():
            sheet.write_number(line, place, value, form)
        case _:
            sheet.write_string(line, place, str(value))


def _add_chart(workbook: Any, sheet: Any, rows: Sequence[dict[str, Any]]) -> None:  # noqa: ANN401 - untyped
    """Time over the batch at the first context, both axes logarithmic: a line for each model.

    Predicted where every row is, else the roofline bound. A line's name is the cell of its model:
    given as text, a name could be read as a formula.
    """
    context = rows[0]["context"]
    shown = [row for row in rows if row["context"] == context and row["model"] is not None]
    predicted = all(row["predicted_s"] is not None for row in shown)
    field = "predicted_s" if predicted else "floor_s"
    axis = Axis(quantity=STEP_QUANTITIES[f"rows.{field}"])
    model, x, y = map(list(rows[0]).index, ("model", "batch", field))
    chart = workbook.add_chart({"type": "scatter", "subtype": "straight_with_markers"})
    last = 0
    for index, (_, line) in enumerate(groupby(shown, key=itemgetter("model"))):
        first, last = last + 1, last + len(list(line))
        chart.add_series(
            {
                "name": [sheet.name, first, model],
                "categories": [sheet.name, first, x, last, x],
                "values": [sheet.name, first, y, last, y],
                "line": {"color": colour(index)},
            }
        )
    chart.set_title({"name": f"{axis.heading}, over the batch, context {context:,}"})
    chart.set_x_axis({"name": "batch, sequences", "log_base": 10, "crossing": "min"})
    chart.set_y_axis({"name": axis.title, "log_base": 10, "crossing": "min"})
    chart.set_size(CHART_SIZE)
    sheet.insert_chart(len(rows) + 2, 0, chart)
