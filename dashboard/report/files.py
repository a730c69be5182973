"""A report as a file of any of its formats, written whole or not at all."""

from collections.abc import Callable
from importlib.util import find_spec

from costmodel.errors import WorkError, install_command
from costmodel.inputs.output_file import OutputFile
from costmodel.show.export import records_bytes
from dashboard.report.document import Report, report_text
from dashboard.report.records import operator_records

NEEDS = {  # libraries of the dashboard extra
    ".html": ("jinja2", "plotly"),
    ".xlsx": ("xlsxwriter",),
    ".parquet": ("pyarrow",),
}


def check_report_file(out: OutputFile) -> None:
    """Refuse, before any work, a file that `save` could not write.

    Raises:
        InputError: There is no format of its suffix, or the path breaks a rule of `OutputFile`.
        WorkError: The format needs a library that is not installed, or the system does not let us
            write there.
    """
    out.check(*FORMATS)
    suffix = out.path.suffix.lower()
    missing = [name for name in NEEDS.get(suffix, ()) if find_spec(name) is None]
    if missing:
        raise WorkError(
            f"report: {suffix} needs {' and '.join(missing)}; install with:"
            f" {install_command('dashboard')}"
        )


def report_bytes(report: Report, suffix: str) -> bytes:
    """The report in the format of a suffix, one of `FORMATS`."""
    return FORMATS[suffix](report)


def save(report: Report, out: OutputFile) -> None:
    """Write the report in the format that the suffix of the file names.

    The file appears under its name only when it is complete.

    Raises:
        InputError: The suffix is unknown, or the path breaks a rule of `OutputFile`.
        WorkError: The format needs a library that is not installed, or the system cannot write the
            file.
    """
    check_report_file(out)
    out.write(report_bytes(report, out.path.suffix.lower()))


def _html(report: Report) -> bytes:
    from dashboard.report.html import html_text

    return html_text(report).encode()


def _markdown(report: Report) -> bytes:
    from dashboard.report.markdown import markdown_text

    return markdown_text(report).encode()


def _xlsx(report: Report) -> bytes:
    from dashboard.report.workbook import workbook_bytes

    return workbook_bytes(report)


def _columns(suffix: str) -> Callable[[Report], bytes]:
    """The operators of all steps, as the exporter of the command line writes them."""
    return lambda report: records_bytes(operator_records(report), suffix)


FORMATS: dict[str, Callable[[Report], bytes]] = {
    ".html": _html,
    ".md": _markdown,
    ".csv": _columns(".csv"),
    ".json": lambda report: report_text(report).encode(),
    ".xlsx": _xlsx,
    ".parquet": _columns(".parquet"),
}
