"""A table once, shown three ways: for a terminal (rich), for a pipe, and as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

TEXT_WIDTH = 40  # columns that a text column keeps in a narrow terminal
HEADER_WIDTH = 10  # columns of a header of numbers
PADDING = 2  # columns between columns
BOX = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n")  # one line, under the headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Headers and cells as they are to be read; `text_columns` are aligned left.

    `sections` are the indices of rows after which a line is drawn. `notes` stand under the table.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    ends_in_text: bool = False
    sections: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()

    def is_text(self, column: int) -> bool:
        """Whether a column holds words, not numbers."""
        last = self.ends_in_text and column == len(self.headers) - 1
        return last or column < self.text_columns


def capitalised(label: str) -> str:
    """A label at the head of a sentence, a card or a column: only its first letter changes."""
    return f"{label[0].upper()}{label[1:]}"


def folded(label: str) -> str:
    """A label over as many lines as keep a column of numbers narrow."""
    return fill(label, HEADER_WIDTH, break_long_words=False)


def printable(text: str) -> str:
    """`text` without control characters, which could move a terminal's cursor or hide text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " for c in text)


def console() -> Console:
    """What stdout leads to; no markup in what users wrote."""
    return Console(markup=False, highlight=False, emoji=False)


def show(tables: Sequence[Table]) -> None:
    """Print tables to stdout: folded to the width of a terminal, as wide as they are in a pipe."""
    out = console()
    if out.is_terminal:
        _print(out, tables)
        return
    for index, table in enumerate(tables):
        if index:
            out.file.write("\n")
        out.file.writelines(f"{line.rstrip()}\n" for line in _plain(table))


def _plain(table: Table) -> Iterator[str]:
    """The lines of a table in a pipe; rich takes minutes over half a million rows."""
    yield printable(table.title)
    if table.rows:
        headers = [header.splitlines() for header in table.headers]
        height = max(map(len, headers))
        above = [[""] * (height - len(lines)) + lines for lines in headers]
        cells = [list(line) for line in zip(*above, strict=True)]
        cells += [[printable(cell) for cell in row] for row in table.rows]
        widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
        left = [table.is_text(column) for column in range(len(widths))]
        for index, row in enumerate(cells):
            if index == height:
                yield "-" * (sum(widths) + PADDING * (len(widths) - 1))
            yield (" " * PADDING).join(map(_aligned, row, widths, left))
            if index - height in table.sections and index < len(cells) - 1:
                yield ""
    yield from map(printable, table.notes)


def _aligned(cell: str, width: int, left: bool) -> str:  # noqa: FBT001 - of a column
    blank = " " * (width - cell_len(cell))
    return f"{cell}{blank}" if left else f"{blank}{cell}"


def _print(out: Console, tables: Sequence[Table]) -> None:
    for index, table in enumerate(tables):
        if index:
            out.print()
        out.print(Text(printable(table.title), style="bold"))
        if table.rows:
            widths = _least_widths(table)
            usual, out.width = out.width, max(out.width, sum(widths) + PADDING * len(widths))
            out.print(_rich(table, widths), crop=False)
            out.width = usual
        for note in table.notes:
            out.print(Text(printable(note)))


def _least_widths(table: Table) -> list[int]:
    """The widths below which digits would be lost: numbers stay whole, text may be folded."""
    widths = [max(len(line) for line in header.splitlines()) for header in table.headers]
    for row in table.rows:
        for index, cell in enumerate(row):
            kept = min(len(cell), TEXT_WIDTH) if table.is_text(index) else len(cell)
            widths[index] = max(widths[index], kept)
    return widths


def _rich(table: Table, widths: list[int]) -> RichTable:
    rich_table = RichTable(
        box=BOX, show_edge=False, pad_edge=False, padding=(0, PADDING // 2), collapse_padding=True
    )
    for index, header in enumerate(table.headers):
        left = table.is_text(index)
        rich_table.add_column(
            Text(header),
            justify="left" if left else "right",
            overflow="fold",
            no_wrap=not left,
            min_width=widths[index],
        )
    for index, row in enumerate(table.rows):
        cells = [Text(printable(cell)) for cell in row]
        rich_table.add_row(*cells, end_section=index in table.sections)
    return rich_table


def markdown(tables: Sequence[Table]) -> str:
    """The same tables as GitHub-flavoured Markdown; user text cannot open a tag or a cell."""
    blocks = []
    for table in tables:
        lines = [f"### {_escaped(table.title)}", ""]
        if table.rows:
            lines.append("| " + " | ".join(_escaped(header) for header in table.headers) + " |")
            lines.append(
                "|"
                + "|".join("---" if table.is_text(i) else "---:" for i in range(len(table.headers)))
                + "|"
            )
            lines += ["| " + " | ".join(_escaped(c) for c in row) + " |" for row in table.rows]
        for note in table.notes:
            lines += ["", _escaped(note)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _escaped(text: str) -> str:
    escaped = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\|`*_[]":
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped
