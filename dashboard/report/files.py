"""A report as a file of any of its formats, written whole or not at all."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from costmodel.errors import InputError, WorkError, shown
from costmodel.inputs.files import write_atomically
from costmodel.show.export import write_records
from dashboard.report.document import Report, report_text
from dashboard.report.records import operator_records

NEEDS = {  # libraries of the dashboard extra
    ".html": ("jinja2", "plotly"),
    ".xlsx": ("xlsxwriter",),
    ".parquet": ("pyarrow",),
}


def suffix_of(path: Path) -> str:
    """The format that a file's name asks for.

    Raises:
        InputError: There is no such format, or the path is a directory.
        WorkError: The format needs a library that is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"out={shown(str(path))}: ends in one of {', '.join(FORMATS)}")
    missing = [name for name in NEEDS.get(suffix, ()) if find_spec(name) is None]
    if missing:
        raise WorkError(
            f"report: {suffix} needs {' and '.join(missing)}; install with:"
            ' pip install "sparsecost[dashboard]"'
        )
    return suffix


def report_bytes(report: Report, suffix: str) -> bytes:
    """The report in the format of a suffix, one of `FORMATS`."""
    return FORMATS[suffix](report)


def save(report: Report, path: Path) -> None:
    """Write the report in the format that the suffix of `path` names.

    The file appears under its name only when it is complete.

    Raises:
        InputError: The suffix is unknown, or the file cannot be written.
        WorkError: The format needs a library that is not installed.
    """
    write_atomically(path, report_bytes(report, suffix_of(path)), field="out")


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

    def written(report: Report) -> bytes:
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"operators{suffix}"
            write_records(operator_records(report), path)
            return path.read_bytes()

    return written


FORMATS: dict[str, Callable[[Report], bytes]] = {
    ".html": _html,
    ".md": _markdown,
    ".csv": _columns(".csv"),
    ".json": lambda report: report_text(report).encode(),
    ".xlsx": _xlsx,
    ".parquet": _columns(".parquet"),
}
