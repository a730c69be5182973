"""Tables as they reach a terminal, a pipe and a Markdown page."""

import io
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from costmodel.show.text import Table, console, markdown, printable, show, tell

SMALL = Table(
    title="Two rows",
    headers=("path", "kind", "FLOPs", "share"),
    rows=(("layers.0.ffn.down", "matmul", "1,024", "0.5"), ("embed", "gather", "0", "12.25")),
    text_columns=2,
    notes=("First note.", "Second note."),
)
SHOWN = [
    ["Two rows"],
    ["path", "kind", "FLOPs", "share"],
    ["layers.0.ffn.down", "matmul", "1,024", "0.5"],
    ["embed", "gather", "0", "12.25"],
    ["First note."],
    ["Second note."],
]
MARKDOWN = """\
### Two rows

| path | kind | FLOPs | share |
|---|---|---:|---:|
| layers.0.ffn.down | matmul | 1,024 | 0.5 |
| embed | gather | 0 | 12.25 |

First note.

Second note.
"""
HOSTILE = (
    "[bold red]x[/bold red]",
    "[/]",
    ":smile:",
    "https://example.com 'text' 12 None",
    "\\[x]",
    "<b>&amp;",
)


def shown(*tables: Table, capsys: pytest.CaptureFixture[str]) -> str:
    show(tables)
    return capsys.readouterr().out


def cells(text: str) -> list[list[str]]:
    """Cells of each line; a rule is left out."""
    lines = [line for line in text.splitlines() if line.strip(" -─━")]
    return [re.split(r" {2,}", line.strip()) for line in lines]


def one_cell(text: str) -> Table:
    return Table(title=text, headers=(text,), rows=((text,),), notes=(text,))


def test_a_table_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(SMALL, capsys=capsys)
    assert cells(out) == SHOWN
    title, header, rule, first, second, *notes = out.splitlines()
    assert len(notes) == 2
    assert set(rule) <= set(" -─")
    assert first.index("matmul") == second.index("gather") == header.index("kind")  # text: left
    ends = [
        line.rstrip().rfind(last) + len(last)
        for line, last in ((header, "FLOPs"), (first, "1,024"), (second, " 0"))
    ]
    assert len(set(ends)) == 1  # numbers: right
    assert title == "Two rows"


def test_tables_stand_apart_and_one_without_rows_has_no_header(
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = Table(title="Nothing", headers=("a",), rows=(), notes=("Why.",))
    both = shown(empty, SMALL, capsys=capsys)
    assert both.startswith("Nothing\nWhy.\n\nTwo rows\n")
    assert cells(both) == [["Nothing"], ["Why."], *SHOWN]
    assert markdown([empty, SMALL]) == f"### Nothing\n\n\nWhy.\n\n{MARKDOWN}"


def test_a_section_ends_with_a_rule_or_an_empty_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = tuple((str(row),) for row in range(4))
    table = Table(title="t", headers=("n",), rows=rows, sections=frozenset({1}))
    lines = [line.strip() for line in shown(table, capsys=capsys).splitlines()]
    zero, one, two, three = (lines.index(number) for number in "0123")
    assert (one - zero, two - one, three - two) == (1, 2, 1)
    assert not lines[one + 1].strip("-─")


def test_markdown() -> None:
    assert markdown([SMALL]) == MARKDOWN


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_shows_user_text_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(one_cell(text), capsys=capsys)
    lines = [line.strip() for line in out.splitlines()]
    assert [lines[i] for i in (0, 1, 3, 4)] == [text] * 4


def test_nothing_is_folded_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    path = "layers.{" + ",".join(str(i) for i in range(0, 1024, 2)) + "}.attention.core"
    words = "word " * 400
    table = Table(
        title=words,
        headers=("path", "source", "n"),
        rows=((path, words, "1"), ("b", "c", "2")),
        text_columns=2,
        notes=(words,),
    )
    out = shown(table, capsys=capsys).splitlines()
    assert len(out) == 6
    assert out[0] == out[-1] == words.rstrip()
    assert out[3].split() == [path, *words.split(), "1"]


def test_the_environment_does_not_fold_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "dumb")
    assert cells(shown(SMALL, capsys=capsys)) == SHOWN


@pytest.mark.parametrize(("terminal", "most"), [(True, 40), (False, 1000)])
def test_what_is_told_folds_in_a_terminal_and_is_one_line_in_a_pipe(
    *, terminal: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()

    def stderr(**options: object) -> Console:
        assert options["stderr"]
        return Console(file=err, force_terminal=terminal, width=40, markup=False)

    monkeypatch.setattr("costmodel.show.text.Console", stderr)
    tell(f"error: [b]a\x1b[2J{' word' * 30}")
    lines = err.getvalue().splitlines()
    assert " ".join(lines) == f"error: [b]a [2J{' word' * 30}"
    assert max(map(len, lines)) <= most
    assert (len(lines) > 1) is terminal


def test_a_terminal_folds_text_and_keeps_numbers_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()

    def terminal(**options: object) -> Console:
        assert "width" not in options
        return Console(file=out, force_terminal=True, width=40, no_color=True, markup=False)

    monkeypatch.setattr("costmodel.show.text.Console", terminal)
    assert console().is_terminal
    table = Table(title="t " * 40, headers=("path", "n"), rows=(("x" * 60, "1,234,567"),))
    show([table])
    assert max(map(len, re.sub(r"\x1b\[\d*m", "", out.getvalue()).splitlines())) <= 40
    folded = [line for line in out.getvalue().splitlines() if "x" in line]
    assert sum(line.count("x") for line in folded) == 60
    assert len(folded) > 1
    assert sum("1,234,567" in line for line in folded) == 1


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a|b", r"a\|b"),
        ("`rm -rf`", r"\`rm -rf\`"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("&lt;", "&amp;lt;"),
        ("[x](javascript:y)", r"\[x\](javascript:y)"),
        ("![x](y)", r"!\[x\](y)"),
        ("**b** __c__", r"\*\*b\*\* \_\_c\_\_"),
        ("back\\|slash", r"back\\\|slash"),
        ("two\nlines\r\n| x |", r"two lines  \| x \|"),
        ("\x1b[31mred", r" \[31mred"),
        ("a\u202eb\x00", "a b "),
    ],
)
def test_markdown_holds_user_text_in_its_place(text: str, cell: str) -> None:
    blocks = markdown([one_cell(text)]).splitlines()
    assert blocks == [f"### {cell}", "", f"| {cell} |", "|---|", f"| {cell} |", "", cell]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_any_text_keeps_the_shape_of_a_markdown_table(cells: list[str]) -> None:
    table = Table(title="t", headers=tuple(cells), rows=(tuple(cells),))
    header, rule, row = markdown([table]).splitlines()[2:]
    assert header == row
    unescaped = row.replace("\\\\", "").replace("\\|", "")
    assert unescaped.count("|") == rule.count("|") == len(cells) + 1
    assert "<" not in row
    assert row.isprintable()


@pytest.mark.parametrize("cleaned", [printable, lambda text: markdown([one_cell(text)])])
@pytest.mark.parametrize("code", [*range(32), 127, *range(128, 160), 0x200B, 0x202E, 0x2028])
def test_no_control_character_survives(cleaned: Callable[[str], str], code: int) -> None:
    assert chr(code) not in cleaned(f"a{chr(code)}b").replace("\n", "")


def test_printable_text_stays_as_it_is() -> None:
    text = "plain, naive, ünïcödé, 漢字, [x], {0-2}, µ"
    assert printable(text) == text
