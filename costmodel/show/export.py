"""Columns and records written to a file: CSV, JSON or Parquet, whole or not at all."""

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, BinaryIO, TypeAlias

from costmodel.errors import InputError, install_command, shown
from costmodel.inputs.hf.fields import ignored_keys
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.output_file import OutputFile

SCHEMA_VERSION = 1  # of the JSON files
IGNORED_KEYS = "ignored_keys"  # a column of each table file
WORKLOAD_KEYS = ("phase", "routing", "batch", "context", "new_tokens", "dtype", "kv_dtype")
SUFFIXES = (".csv", ".json", ".parquet")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet would run
INT64_MAX = 2**63 - 1
DECIMAL_DIGITS = 38  # of Parquet's longest integers
TABLE_BYTES = 4_000_000_000  # of a table that is held while it is written
VALUE_BYTES = 16  # of it in memory, with what the writer takes: 15 were seen

Part: TypeAlias = Mapping[str, Sequence[Any]]
"""Columns of equal length: plain Python values, None where there is none."""


def write_parts(parts: Iterable[Part], out: OutputFile) -> None:
    """Write parts with the same columns one after another; the suffix of the file says how.

    The file appears under its name only when it is complete. Text that a spreadsheet would take
    for a formula gets a leading apostrophe in CSV. Counts beyond 2^63 are decimals in Parquet.

    Raises:
        InputError: The suffix is unknown, the path breaks a rule of `OutputFile`, or the format
            cannot hold a value.
        WorkError: The system cannot write the file.
    """
    out.check(*SUFFIXES)
    suffix = out.path.suffix.lower()
    out.write(lambda file: _WRITERS[suffix](parts, file))


def check_size(rows: int, columns: int, out: OutputFile) -> None:
    """Refuse a table that would be held whole and takes too much memory.

    Raises:
        InputError: The file is Parquet, and the table would pass `TABLE_BYTES`.
    """
    needed = rows * columns * VALUE_BYTES
    if out.path.suffix.lower() == ".parquet" and needed > TABLE_BYTES:
        raise InputError(
            f"{out.field}={shown(str(out.path))}: a .parquet file of {rows:,} rows would take"
            f" {needed / 1e9:.1f} GB of memory, at most {TABLE_BYTES / 1e9:.1f} GB may be taken;"
            " .csv and .json are written row by row"
        )


def write_records(records: Iterable[Mapping[str, Any]], out: OutputFile) -> None:
    """Write flat records with the same keys, as `write_parts` does."""
    write_parts([_columns(records)], out)


def with_ignored_keys(
    records: Iterable[Mapping[str, Any]], models: Mapping[str, ModelConfig], by: str | None = None
) -> Iterator[dict[str, Any]]:
    """Records with a last column `ignored_keys`, as a table file has no other place for notes.

    It says what `--ignore-key` took to cost nothing (`foo=7; bar=1`), and is empty where no key was
    ignored.

    Args:
        records: Flat rows.
        models: By what `by` of a row says.
        by: The field that says of which model a row is; None: of all.
    """
    keys = {name: ignored_keys(model.notes) for name, model in models.items()}
    of_all = "; ".join(
        f"{name}: {text}" if len(keys) > 1 else text for name, text in keys.items() if text
    )
    for record in records:
        yield {**record, IGNORED_KEYS: of_all if by is None else keys[record[by]]}


def records_bytes(records: Iterable[Mapping[str, Any]], suffix: str) -> bytes:
    """What `write_records` would write into a file of this suffix."""
    file = io.BytesIO()
    _WRITERS[suffix]([_columns(records)], file)
    return file.getvalue()


def _columns(records: Iterable[Mapping[str, Any]]) -> Part:
    rows = list(records)
    return {key: [row[key] for row in rows] for key in (rows[0] if rows else ())}


def _write_csv(parts: Iterable[Part], file: BinaryIO) -> None:
    for index, part in enumerate(parts):
        text = io.StringIO(newline="")
        out = csv.writer(text)
        if not index and part:
            out.writerow(part)
        out.writerows(map(inert, row) for row in zip(*part.values(), strict=True))
        file.write(text.getvalue().encode())


def inert(value: object) -> object:
    """A cell of CSV; text that a spreadsheet would take for a formula gets an apostrophe.

    Some spreadsheets skip blanks and invisible characters before a formula, and read full-width
    and small forms of its first character as the usual ones.
    """
    if not isinstance(value, str) or value[:1].isalnum():
        return value
    seen = (c for c in value if unicodedata.category(c) not in {"Zs", "Cf"})
    if unicodedata.normalize("NFKC", next(seen, "")).startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def json_pieces(parts: Iterable[Part], *, nested: bool = False, **beside: object) -> Iterator[str]:
    """The text of a JSON document of parts, piece by piece: a row a line, the last key `rows`.

    `beside` are its other keys, after `schema_version`. A nested row has the shape of `predict
    --json`: objects in place of dotted keys, and the keys of the workload in one of their own.
    """
    head = json.dumps({"schema_version": SCHEMA_VERSION, **beside}, allow_nan=False)
    yield f'{head[:-1]}, "rows": ['
    before = "\n"
    for part in parts:
        for row in zip(*part.values(), strict=True):
            record = dict(zip(part, row, strict=True))
            yield before + json.dumps(_nested(record) if nested else record, allow_nan=False)
            before = ",\n"
    yield "\n]}\n"


def _nested(record: Mapping[str, Any]) -> dict[str, Any]:
    """A flat record with an object for what its keys have before each dot."""
    whole: dict[str, Any] = {}
    for key, value in record.items():
        *parents, last = (f"workload.{key}" if key in WORKLOAD_KEYS else key).split(".")
        inner = whole
        for name in parents:
            inner = inner.setdefault(name, {})
        inner[last] = value
    return whole


def _write_json(parts: Iterable[Part], file: BinaryIO) -> None:
    file.writelines(piece.encode() for piece in json_pieces(parts))


def _write_parquet(parts: Iterable[Part], file: BinaryIO) -> None:
    """Each part becomes a row group; the first values of a column decide its type.

    A column that begins as integers within 2^63 and passes it later, or that begins without any
    value, would need the whole table first, so all parts are held, as Arrow's compact columns.
    """
    try:
        pa = import_module("pyarrow")
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise InputError(
            f"file: Parquet needs pyarrow; install it with: {install_command('dashboard')}"
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
    parquet.write_table(whole.cast(pa.schema(fields)), file)


_WRITERS = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
