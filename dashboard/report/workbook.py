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
from typing import Any

import xlsxwriter

from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.show.axis import Axis
from costmodel.units import Unit
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
COUNT, SCIENTIFIC = "#,##0", "0.00E+00"
FORMS: dict[Unit, str] = {
    "count": "#,##0.##",  # an expectation has a fraction
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
SYMBOLS: dict[Unit, str] = {"capacity": "bytes", "tokens_per_s": "tokens/s", "usd": "USD"}
WORDLESS = ("bool", "text", "count", "ratio", "share")  # units that a head does without
CHART_AT, CHART_SIZE = (1, 2), {"width": 760, "height": 440}  # below the last row; pixels


def workbook_bytes(report: Report) -> bytes:
    """The file."""
    data = BytesIO()
    with xlsxwriter.Workbook(data, OPTIONS) as workbook:
        forms = {unit: workbook.add_format({"num_format": form}) for unit, form in FORMS.items()}
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
                    form = forms.get(column_unit(name, column) or row.get("unit"))
                    _write(sheet, line, place, row[column], form)
            sheet.freeze_panes(1, 0)
            sheet.autofilter(0, 0, len(rows), len(columns) - 1)
            if name == SHEETS["comparison"] and rows:
                _add_chart(workbook, sheet, report, rows)
    return data.getvalue()


def _head(sheet: str, column: str) -> str:
    """The name of a column, and the unit of its numbers where they have one."""
    unit = column_unit(sheet, column)
    return column if unit is None or unit in WORDLESS else f"{column} [{SYMBOLS.get(unit, unit)}]"


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


def _add_chart(workbook: Any, sheet: Any, report: Report, rows: Sequence[dict[str, Any]]) -> None:  # noqa: ANN401 - untyped
    """Time over the batch, both axes logarithmic: a line for each context and model.

    Predicted where every row is, else the roofline bound. `rows` of one line stand together.
    """
    assert report.comparison is not None
    lines = len(report.comparison.lines)
    predicted = all(row["predicted_s"] is not None for row in rows[:lines])
    field = "predicted_s" if predicted else "floor_s"
    axis = Axis(quantity=STEP_QUANTITIES[f"rows.{field}"])
    columns = list(rows[0])
    x, y = columns.index("batch"), columns.index(field)
    chart = workbook.add_chart({"type": "scatter", "subtype": "straight_with_markers"})
    first = 1
    for index, ((context, model), of_line) in enumerate(
        groupby(rows[:lines], key=lambda row: (row["context"], row["model"]))
    ):
        last = first + len(list(of_line)) - 1
        chart.add_series(
            {
                "name": f"{model}, context {context:,}",
                "categories": [sheet.name, first, x, last, x],
                "values": [sheet.name, first, y, last, y],
                "line": {"color": colour(index)},
                "marker": {"type": "automatic"},
            }
        )
        first = last + 1
    chart.set_title({"name": f"{axis.heading}, over the batch", "overlay": False})
    chart.set_x_axis({"name": "batch, sequences", "log_base": 10, "crossing": "min"})
    chart.set_y_axis({"name": axis.title, "log_base": 10, "crossing": "min"})
    chart.set_size(CHART_SIZE)
    sheet.insert_chart(len(rows) + CHART_AT[0], CHART_AT[1], chart)
