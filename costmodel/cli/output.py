"""The output of a command: tables for people, or JSON, Markdown or a CSV file as asked for."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from costmodel.errors import InputError, shown
from costmodel.show.text import Table, markdown, show


def check_output(*, as_json: bool, as_markdown: bool, csv: Path | None = None) -> None:
    """Refuse options of output that exclude one another, before anything is costed.

    Raises:
        InputError: Two of --json, --csv and --markdown are given, or the file does not end in .csv.
    """
    if as_json + (csv is not None) + as_markdown > 1:
        raise InputError("output: --json, --csv and --markdown exclude one another")
    check_csv(csv)


def check_csv(path: Path | None) -> None:
    """Refuse a file of `--csv` whose name does not end in .csv.

    Raises:
        InputError: The name ends otherwise.
    """
    if path is not None and path.suffix.lower() != ".csv":
        raise InputError(f"csv={shown(str(path))}: ends in .csv")


def print_output(
    *,
    as_json: bool,
    as_markdown: bool,
    csv: Path | None = None,
    data: Callable[[], object],
    records: Callable[[], Iterable[dict[str, Any]]] = list,
    tables: Callable[[], Sequence[Table]],
    indent: int | None = 2,
) -> None:
    """Print tables, or what one of --json, --csv and --markdown asks for.

    Of `data` (for JSON), `records` (flat rows, for CSV) and `tables` only the one that is needed is
    called.

    Raises:
        InputError: The options exclude one another, or the CSV file cannot be written.
    """
    check_output(as_json=as_json, as_markdown=as_markdown, csv=csv)
    if as_json:
        sys.stdout.write(json.dumps(data(), indent=indent, allow_nan=False) + "\n")
    elif csv is not None:
        from costmodel.show.export import write_records

        write_records(records(), csv)
    elif as_markdown:
        sys.stdout.write(markdown(tables()))
    else:
        show(tables())
