"""Rows of memory tables in a step: each distinct row once, though several layers may read it.

A layer kind states the rows that each of its layers reads. Layers that share a table read some rows
in common, and the least that a step must move counts such a row once: the union over the layers.
So the compulsory bytes of each layer hold its share of the union, and the rows that the layer reads
stand beside them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part, Step
from costmodel.layers.touched import TableRows, Touched
from costmodel.routing.sectors import SECTOR_BYTES, expected_sectors, row_sectors

ALL = 1  # the share of a layer that is alone with its table
NOTHING = 0  # most parts read no rows


def with_table_rows(operators: Sequence[Operator], step: Step) -> Sequence[Operator]:
    """The operators of one memory kind, the rows of their tables counted as the step moves them.

    Formula: row bytes of a layer x U / (L d): U rows of the table are touched by at least one of
    its L layers, and d by each. All tables of a layer are read at the same rows, so U / (L d) is
    the same for pre-values and values.
    Layers whose tables differ have operators of their own, each with what it touches.
    Leaves out: that a row may be popular in several layers at once, which makes the union smaller.
    Source: linearity of expectation; U is `expected_union` of costmodel/routing/union.py.

    Args:
        operators: Those that the kind lists, their `row_bytes`, `host_bytes` and `disk_bytes` those
            of one layer by itself. Those of other kinds come back unchanged.
        step: Of the formats in which rows are stored.
    """
    touched = touched_rows(operators)
    if touched is None:
        return operators
    share = _union_share(touched)
    return [_counted(operator, touched, share, step) for operator in operators]


def union_share(operators: Iterable[Operator]) -> Number:
    """U / (L d) of the operators of one layer kind that `with_table_rows` has not seen; else 1."""
    touched = touched_rows(operators)
    return ALL if touched is None else _union_share(touched)


def with_share(parts: Iterable[Part], share: Number) -> tuple[Part, ...]:
    """The parts of one layer, each with its share of the rows that all layers touch."""
    if share is ALL:
        return tuple(parts)
    return tuple(
        replace(
            part,
            row_bytes=_scaled(part.row_bytes, share),
            host_bytes=_scaled(part.host_bytes, share),
            disk_bytes=_scaled(part.disk_bytes, share),
        )
        if _reads_rows(part)
        else part
        for part in parts
    )


def _scaled(bytes_of_rows: Number, share: Number) -> Number:
    """A share of bytes; nothing stays the integer 0, by which it is told from a sum."""
    return NOTHING if bytes_of_rows is NOTHING else bytes_of_rows * share


def _reads_rows(part: Part) -> bool:
    return part.row_bytes is not NOTHING or part.fetched_bytes is not NOTHING


def row_totals(operators: Iterable[Operator]) -> TableRows:
    """Rows read, and sectors of compulsory rows, summed over all operators and their layers."""
    read: Number = 0
    sectors: Number = 0
    for operator in operators:
        rows = operator.rows
        if rows is not None:
            read = read + operator.count * rows.read_bytes
            sectors = sectors + operator.count * rows.sector_bytes
    return TableRows(read_bytes=read, sector_bytes=sectors)


def repeated_row_bytes(operators: Iterable[Operator]) -> Number:
    """What layers read of rows that other layers of the same table read too, beyond once a row."""
    repeated: Number = 0
    for operator in operators:
        if operator.rows is not None:
            repeated = repeated + operator.count * operator.repeated_row_bytes
    return repeated


def touched_rows(operators: Iterable[Operator]) -> Touched | None:
    """The rows that a memory layer touches, which stand at one of its operators.

    None: it reads none, or they are counted already.
    """
    for operator in operators:
        touched = operator.touched
        if touched is not None and touched.kind == "rows":
            return None if operator.rows is not None else touched
    return None


def _union_share(touched: Touched) -> Number:
    """U / (L d), from 1 / L to 1; 1 where no other layer reads the table, or no row is touched."""
    layers = len(touched.windows)
    if layers <= 1 or (isinstance(touched.distinct, float) and not touched.distinct):
        return ALL
    return touched.union / (layers * touched.distinct)


def _counted(operator: Operator, touched: Touched, share: Number, step: Step) -> Operator:
    """The operator with its share of the union, if it reads rows of a table."""
    row_bytes = [w.row_bytes(step) for w in operator.weights if w.group == "memory_values"]
    if not row_bytes:
        return operator
    read_bytes, far_bytes = operator.total("row_bytes"), operator.total("link_bytes")
    all_bytes = read_bytes + far_bytes
    if any(width % SECTOR_BYTES for width in row_bytes):
        sector_bytes = _sector_bytes(row_bytes, operator.touched or touched)
    else:
        sector_bytes = all_bytes if share is ALL else all_bytes * share
    rows = TableRows(read_bytes=read_bytes, sector_bytes=sector_bytes)
    if far_bytes is not NOTHING:  # of a table outside HBM: its sectors stand apart
        fetched_bytes = operator.total("fetched_bytes")
        rows = TableRows(
            read_bytes=read_bytes,
            sector_bytes=sector_bytes * (read_bytes / all_bytes),
            far_bytes=far_bytes,
            fetched_bytes=fetched_bytes,
            fetched_sector_bytes=fetched_bytes * _sectors_per_byte(row_bytes) * SECTOR_BYTES,
        )
    return replace(operator, parts=with_share(operator.parts, share), rows=rows)


def _sectors_per_byte(row_bytes: Sequence[int]) -> float:
    """Of rows that are read one by one, all tables alike often."""
    return sum(row_sectors(width) for width in row_bytes) / sum(row_bytes)


def _sector_bytes(row_bytes: Sequence[int], touched: Touched) -> Number:
    """Bytes of the sectors that the compulsory rows lie in: the share of one layer, all tables."""
    rows_total, distinct, layers = touched.population, touched.distinct, 1
    if touched.table_rows:
        rows_total, distinct, layers = touched.table_rows, touched.union, len(touched.windows)
    sectors: Number = 0.0
    for width in row_bytes:
        sectors = sectors + expected_sectors(rows_total, width, distinct)
    return sectors * SECTOR_BYTES / layers
