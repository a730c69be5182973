"""Tables folded and split to fit a width; expected lines are written by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from costmodel.show.fitted import Cells, folded_text, lines

SWEEP = Cells(
    headers=("model", "routing", "batch", "compulsory\nHBM bytes", "bound"),
    rows=(("A", "uniform", "1", "2.627 GB", "547 us"), ("B", "uniform", "64", "19.58 GB", "4 ms")),
    words=(True, True, False, False, False),
    keys=3,
)
EXPLAINED = Cells(
    headers=("quantity", "value", "what it counts"),
    rows=(("FLOPs", "2 GFLOP", "a multiply-add is two"), ("bytes", "1 GB", "each once")),
    words=(True, False, True),
    keys=1,
)


def test_a_wide_terminal_changes_nothing() -> None:
    assert list(lines(SWEEP, 41)) == list(lines(SWEEP, None))
    assert list(lines(SWEEP, None)) == [
        "                       compulsory",
        "model  routing  batch   HBM bytes   bound",
        "-----------------------------------------",
        "A      uniform      1    2.627 GB  547 us",
        "B      uniform     64    19.58 GB    4 ms",
    ]


def test_what_does_not_fit_stands_below_behind_the_keys() -> None:
    """What is the same in all rows is said once; the other keys stand in each block."""
    assert list(lines(SWEEP, 30)) == [
        "routing: uniform",
        "              compulsory",
        "model  batch   HBM bytes",
        "------------------------",
        "A          1    2.627 GB",
        "B         64    19.58 GB",
        "",
        "model  batch   bound",
        "--------------------",
        "A          1  547 us",
        "B         64    4 ms",
    ]


def test_the_only_key_stays_though_all_rows_share_it() -> None:
    alone = replace(SWEEP, headers=SWEEP.headers[1:], words=SWEEP.words[1:], keys=1)
    alone = replace(alone, rows=[row[1:] for row in SWEEP.rows])
    assert "routing: uniform" not in list(lines(alone, 20))
    assert sum(line.startswith("uniform") for line in lines(alone, 20)) == 3 * 2  # blocks, rows


def test_words_are_folded_and_numbers_are_not() -> None:
    assert list(lines(EXPLAINED, 33)) == [
        "quantity    value  what it counts",
        "---------------------------------",
        "FLOPs     2 GFLOP  a multiply-add",
        "                   is two",
        "bytes        1 GB  each once",
    ]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C"])), st.integers(2, 60))
def test_folded_text_fits_and_loses_nothing(text: str, width: int) -> None:
    folded = folded_text(text, width)
    assert all(cell_len(line) <= width for line in folded)
    assert "".join("".join(folded).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "width", "folded"),
    [
        ("each expert once", 12, ["each expert", "once"]),
        ("layers.0.attention.core", 12, ["layers.0.", "attention.", "core"]),
        ("OLMoE-1.2B", 8, ["OLMoE-", "1.2B"]),
        ("x" * 7, 3, ["xxx", "xxx", "x"]),
        ("", 5, [""]),
        ("\u6f22\u5b57\u6f22", 5, ["\u6f22\u5b57", "\u6f22"]),  # of two columns each
    ],
)
def test_where_text_is_broken(text: str, width: int, folded: list[str]) -> None:
    assert folded_text(text, width) == folded
