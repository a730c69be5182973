"""Columns and records written to a file: CSV, JSON or Parquet, whole or not at all."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from costmodel.errors import InputError, shown
from costmodel.inputs.files import write_atomically

SCHEMA_VERSION = 1  # of the JSON files
SUFFIXES = (".csv", ".json", ".parquet")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run
INT64_MAX = 2**63 - 1
DECIMAL_DIGITS = 38  # of Parquet's longest integers

Part: TypeAlias = Mapping[str, Sequence[Any]]
"""Columns of equal length: plain Python values, None where there is none."""


def write_parts(parts: Iterable[Part], path: Path) -> None:
    """Write parts with the same columns one after another; the suffix of `path` says how.

    The file appears under its name only when it is complete. Text that a spreadsheet would take
    for a formula gets a leading apostrophe in CSV. Counts beyond 2^63 are decimals in Parquet.

    Raises:
        InputError: the suffix is unknown, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"file={shown(str(path))}: ends in one of {', '.join(SUFFIXES)}")
    write_atomically(path, lambda temporary: _WRITERS[suffix](parts, temporary))


def write_records(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write flat records with the same keys, as `write_parts` does."""
    rows = list(records)
    write_parts([{key: [row[key] for row in rows] for key in (rows[0] if rows else ())}], path)


def _write_csv(parts: Iterable[Part], path: Path) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        for index, part in enumerate(parts):
            if not index and part:
                out.writerow(part)
            out.writerows(map(inert, row) for row in zip(*part.values(), strict=True))


def inert(value: object) -> object:
    """A cell of CSV; text that a spreadsheet would take for a formula gets an apostrophe."""
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def _write_json(parts: Iterable[Part], path: Path) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(f'{{"schema_version": {SCHEMA_VERSION}, "rows": [')
        before = "\n"
        for part in parts:
            for row in zip(*part.values(), strict=True):
                record = dict(zip(part, row, strict=True))
                file.write(before + json.dumps(record, allow_nan=False))
                before = ",\n"
        file.write("\n]}\n")


def _write_parquet(parts: Iterable[Part], path: Path) -> None:
    """Each part becomes a row group; the first values of a column decide its type.

    A column that begins as integers within 2^63 and passes it later, or that begins without any
    value, would need the whole table first, so all parts are held, as Arrow's compact columns.
    """
    try:
        pa = import_module("pyarrow")
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise InputError(
            'file: Parquet needs pyarrow; install it with: pip install "sparsecost[dashboard]"'
        ) from None

    def column(values: Sequence[Any]) -> Any:  # noqa: ANN401 - pyarrow has no types
        numbers = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
        if numbers and not any(isinstance(v, float) for v in values):
            largest = max(map(abs, numbers))
            if largest >= 10**DECIMAL_DIGITS:
                raise ValueError(
                    "Parquet holds integers of up to 38 digits; .csv and .json hold all"
                )
            if largest > INT64_MAX:
                return pa.array(values, pa.decimal128(DECIMAL_DIGITS))
            return pa.array(values, pa.int64())
        return pa.array(values)

    tables = [pa.table({name: column(values) for name, values in part.items()}) for part in parts]
    whole = pa.concat_tables(tables, promote_options="permissive")
    fields = [
        field.with_type(pa.float64()) if pa.types.is_null(field.type) else field
        for field in whole.schema
    ]
    parquet.write_table(whole.cast(pa.schema(fields)), path)


_WRITERS = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
