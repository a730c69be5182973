"""The output of a command: tables for people, or JSON, Markdown or a CSV file as asked for."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from costmodel.errors import InputError
from costmodel.inputs.output_file import OutputFile
from costmodel.show.text import Table, markdown, show


def csv_file(
    path: Path | None, *, force: bool, as_json: bool, as_markdown: bool
) -> OutputFile | None:
    """The file that `--csv` names, checked before anything is costed; None: it is not given.

    Raises:
        InputError: Two of --json, --csv and --markdown are given, the file does not end in .csv,
            or its path breaks a rule of `OutputFile`.
        WorkError: The system does not let us write there.
    """
    check_exclusive(as_json, as_markdown, path is not None)
    if path is None:
        return None
    file = OutputFile(path=path, field="csv", force=force)
    file.check(".csv")
    return file


def check_exclusive(*given: bool) -> None:
    """Refuse options of output of which more than one is given.

    Raises:
        InputError: Two of --json, --csv and --markdown are given.
    """
    if sum(given) > 1:
        raise InputError("output: --json, --csv and --markdown exclude one another")


def print_output(
    *,
    as_json: bool,
    as_markdown: bool,
    csv: OutputFile | None = None,
    data: Callable[[], object] = dict,
    records: Callable[[], Iterable[dict[str, Any]]] = list,
    tables: Callable[[], Sequence[Table]],
    indent: int | None = 2,
) -> None:
    """Print tables, or what one of --json, --csv and --markdown asks for.

    Of `data` (for JSON), `records` (flat rows, for CSV) and `tables` only the one that is needed is
    called.

    Raises:
        InputError: The options exclude one another, or the CSV file breaks a rule.
        WorkError: The system cannot write the CSV file.
    """
    check_exclusive(as_json, as_markdown, csv is not None)
    if as_json:
        sys.stdout.write(json.dumps(data(), indent=indent, allow_nan=False) + "\n")
    elif csv is not None:
        from costmodel.show.export import write_records

        write_records(records(), csv)
    elif as_markdown:
        sys.stdout.write(markdown(tables()))
    else:
        show(tables())
