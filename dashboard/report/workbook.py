"""A report as an Excel workbook: a sheet for each section; text is text, numbers are numbers.

No cell is a formula and none is a link, whatever a text begins with. Excel keeps numbers in 64-bit
floating point and its files hold 16 digits of them, so counts beyond 2^53 are rounded there.
"""

from io import BytesIO
from typing import Any

import xlsxwriter

from dashboard.report.document import Report
from dashboard.report.records import sheets

OPTIONS = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
WIDEST = 60  # characters of a column


def workbook_bytes(report: Report) -> bytes:
    """The file."""
    data = BytesIO()
    with xlsxwriter.Workbook(data, OPTIONS) as workbook:
        head = workbook.add_format({"bold": True, "text_wrap": True, "valign": "top"})
        for name, rows in sheets(report).items():
            sheet = workbook.add_worksheet(name)
            columns = list(rows[0]) if rows else ["nothing is held here"]
            for place, column in enumerate(columns):
                sheet.write_string(0, place, column, head)
                widest = max((len(str(row[column])) for row in rows), default=0)
                sheet.set_column(place, place, min(max(widest, 10) + 1, WIDEST))
            for line, row in enumerate(rows, start=1):
                for place, column in enumerate(columns):
                    _write(sheet, line, place, row[column])
            sheet.freeze_panes(1, 0)
    return data.getvalue()


def _write(sheet: Any, line: int, place: int, value: object) -> None:  # noqa: ANN401 - untyped
    """One cell; what is not known stays empty."""
    match value:
        case None:
            return
        case bool():
            sheet.write_boolean(line, place, value)
        case int() | float():
            sheet.write_number(line, place, value)
        case _:
            sheet.write_string(line, place, str(value))
