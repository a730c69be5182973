"""A table once, shown three ways: for a terminal, for a pipe, and as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill

from rich.console import Console
from rich.text import Text

from costmodel.show.fitted import Cells, folded_text, lines

HEADER_WIDTH = 10  # columns of a header of numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Headers and cells as they are to be read; `text_columns` are aligned left.

    The first `keys` columns (0: those of text) say what a row is: where a table is split to fit a
    terminal, they stand in each part. `sections` are the indices of rows after which a line stays
    empty. `notes` stand under the table.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1
    ends_in_text: bool = False
    keys: int = 0
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


def console(*, stderr: bool = False) -> Console:
    """What stdout, or stderr, leads to; no markup in what users wrote."""
    return Console(markup=False, highlight=False, emoji=False, stderr=stderr)


def tell(text: str) -> None:
    """Write one line to stderr, without control characters; in a terminal it is folded."""
    err = console(stderr=True)
    width = err.width if err.is_terminal else None
    err.file.writelines(f"{line}\n" for line in _wrapped(text, width))


def show(tables: Sequence[Table]) -> None:
    """Print tables to stdout: within the width of a terminal, as wide as they are in a pipe."""
    out = console()
    width = out.width if out.is_terminal else None
    for index, table in enumerate(tables):
        if index:
            out.file.write("\n")
        for line in _wrapped(table.title, width):
            if width is None:
                out.file.write(f"{line}\n")
            else:
                out.print(Text(line, style="bold"), soft_wrap=True)
        out.file.writelines(f"{line}\n" for line in _below_title(table, width))


def _below_title(table: Table, width: int | None) -> Iterator[str]:
    if table.rows:
        cells = Cells(
            headers=table.headers,
            rows=[[printable(cell) for cell in row] for row in table.rows],
            words=[table.is_text(column) for column in range(len(table.headers))],
            keys=table.keys or table.text_columns,
            sections=table.sections,
        )
        yield from lines(cells, width)
    for note in table.notes:
        yield from _wrapped(note, width)


def _wrapped(text: str, width: int | None) -> list[str]:
    line = printable(text).rstrip()
    return [line] if width is None else folded_text(line, width)


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
