"""The lines of a table: as wide as its cells, or folded and split to fit a width.

A table too wide for a terminal first folds its columns of words; numbers stay whole. What still
does not fit stands below in further blocks of columns, each behind the columns that say what a row
is. Widths are those of a terminal's cells, of which some characters take two.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rich.cells import cell_len

PADDING = 2  # columns between columns
LEAST_WORDS = (24, 16, 12, 8)  # columns that a column of words keeps: the first that leaves room
ROOM = 26  # for two columns of numbers
LONGEST_NUMBER = 30  # columns beyond which what stands among numbers is folded as words are
MARK = re.compile(r"[,;:/=_)}\]-]|\.(?!\d)", re.ASCII)  # after which a word may be broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What a table shows: headers may have line breaks, cells have none.

    `words` says of each column whether it holds words, aligned left, or numbers, aligned right.
    The first `keys` columns say what a row is. After the rows of `sections` a line stays empty.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[bool]
    keys: int
    sections: frozenset[int] = frozenset()


def lines(cells: Cells, width: int | None) -> Iterator[str]:
    """The lines of the table with a rule under the headers, blocks apart by an empty line.

    Args:
        cells: What is shown.
        width: Columns of the terminal; None: nothing is folded. In a terminal narrower than the
            keys and one number, lines pass it.
    """
    columns = range(len(cells.headers))
    whole = [_widest(cells, column) for column in columns]
    if width is None or _across(whole) <= width:
        yield from _block(cells, columns, whole)
        return
    same = _same(cells)
    if same:
        said = "; ".join(f"{cells.headers[column]}: {cells.rows[0][column]}" for column in same)
        yield from folded_text(said, width)
    left = [column for column in columns if column not in same]
    least, blocks = _split(cells, left, whole, cells.keys - len(same), width)
    for index, block in enumerate(blocks):
        if index:
            yield ""
        spare = width - _across([least[column] for column in block])
        widths = _widened([least[c] for c in block], [whole[c] for c in block], spare)
        yield from _block(cells, block, widths)


def folded_text(text: str, width: int) -> list[str]:
    """Text in lines of at most `width`: broken at a blank, else after a mark, else in a word."""
    folded = []
    while cell_len(text) > width:
        end = _fitting(text, width)
        least = max(end // 3, 1)  # no line is much shorter than the width allows
        at = max(text.rfind(" ", least, end + 1), 0)
        if not at:
            marks = (mark.end() for mark in MARK.finditer(text[: end + 1], least))
            at = max((mark for mark in marks if mark <= end), default=end)
        folded.append(text[:at].rstrip())
        text = text[at:].lstrip()
    return [*folded, text]


def _fitting(text: str, width: int) -> int:
    """How many characters of a text fit in a width; at least one."""
    taken = 0
    for index, character in enumerate(text):
        taken += cell_len(character)
        if taken > width:
            return max(index, 1)
    return len(text)


def _widest(cells: Cells, column: int) -> int:
    header = max(map(cell_len, cells.headers[column].splitlines()), default=0)
    return max([header, *(cell_len(row[column]) for row in cells.rows)])


def _same(cells: Cells) -> list[int]:
    """The columns of words among the keys that say the same in each row, if other keys do not."""
    if len(cells.rows) < 2:  # noqa: PLR2004 - one row has nothing to repeat
        return []
    first = cells.rows[0]
    keys = range(cells.keys)
    same = [k for k in keys if cells.words[k] and all(row[k] == first[k] for row in cells.rows)]
    return same if len(same) < cells.keys else same[:-1]


def _split(
    cells: Cells, columns: Sequence[int], whole: Sequence[int], keys: int, width: int
) -> tuple[dict[int, int], list[list[int]]]:
    """The least width of each column, and the columns of each block: keys, then what fits beside.

    Columns of words are as wide as lets all stand in one block, else as leaves room for two columns
    of numbers beside the keys.
    """
    of_words = {
        words: {column: _least(cells, column, whole[column], words) for column in columns}
        for words in LEAST_WORDS
    }
    in_one = (least for least in of_words.values() if _across([*least.values()]) <= width)
    beside = (
        least
        for least in of_words.values()
        if _across([least[column] for column in columns[:keys]]) <= width - ROOM
    )
    least = next(in_one, None) or next(beside, of_words[LEAST_WORDS[-1]])
    blocks = [[*columns[:keys]]]
    for column in columns[keys:]:
        wider = [*blocks[-1], column]
        if len(wider) - keys > 1 and _across([least[c] for c in wider]) > width:
            wider = [*columns[:keys], column]
            blocks.append(wider)
        blocks[-1] = wider
    return least, blocks


def _least(cells: Cells, column: int, whole: int, words: int) -> int:
    """The width below which no column is folded: some words, or numbers and a header's words."""
    if cells.words[column]:
        return min(whole, words)
    kept = [*cells.headers[column].split(), *(row[column] for row in cells.rows)]
    return min(max(map(cell_len, kept), default=0), LONGEST_NUMBER)


def _across(widths: Sequence[int]) -> int:
    return sum(widths) + PADDING * (len(widths) - 1)


def _widened(least: Sequence[int], whole: Sequence[int], spare: int) -> list[int]:
    """The least widths with what is to spare, shared by how much of each column is folded."""
    lacking = [most - few for few, most in zip(least, whole, strict=True)]
    share = min(max(spare, 0) / (sum(lacking) or 1), 1)
    return [few + int(lack * share) for few, lack in zip(least, lacking, strict=True)]


def _block(cells: Cells, columns: Sequence[int], widths: Sequence[int]) -> Iterator[str]:
    words = [cells.words[column] for column in columns]
    headers = [
        [line for part in cells.headers[column].splitlines() for line in folded_text(part, width)]
        for column, width in zip(columns, widths, strict=True)
    ]
    height = max(map(len, headers))
    for line in zip(*([""] * (height - len(part)) + part for part in headers), strict=True):
        yield _line(line, widths, words)
    yield "-" * _across(widths)
    last = len(cells.rows) - 1
    for index, row in enumerate(cells.rows):
        texts = [row[column] for column in columns]
        if all(cell_len(text) <= width for text, width in zip(texts, widths, strict=True)):
            yield _line(texts, widths, words)
        else:
            folded = map(folded_text, texts, widths)
            for line in zip_longest(*folded, fillvalue=""):
                yield _line(line, widths, words)
        if index in cells.sections and index < last:
            yield ""


def _line(texts: Sequence[str], widths: Sequence[int], words: Sequence[bool]) -> str:
    return (" " * PADDING).join(map(_aligned, texts, widths, words)).rstrip()


def _aligned(text: str, width: int, left: bool) -> str:  # noqa: FBT001 - of a column
    blank = " " * (width - cell_len(text))
    return f"{text}{blank}" if left else f"{blank}{text}"
