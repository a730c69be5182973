"""What pages are made of: cards, charts with a description, tables with units, explanations."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from costmodel.show.export import inert
from costmodel.show.text import printable

ROW, MOST_ROWS = 35, 24  # pixels of a table's row; rows beyond which it scrolls
LETTER, EDGES, WIDEST = 7, 20, 480  # pixels of a letter, of a cell's edges, of a column of text
ALONE, COMPARED = 180, 230  # pixels that a card needs, without and with what it is compared with
PLOTLY = {"displaylogo": False, "toImageButtonOptions": {"format": "png", "scale": 2}}
SIGNED = re.compile(r"[+-]\d[\d.,]*(e[+-]?\d+)?( ?[%A-Za-z]{1,3})?")  # `-3.2 %`, no formula
MARKS = re.compile(r"[\\`*_{}\[\]()<>#|~$:^&]")  # of Markdown, HTML, mathematics and icons


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One number of a page's answer. `value` is formatted, unit and all; `help` says what it is.

    `beside` stands below it, in small: what it is compared with, or what it goes with.
    """

    label: str
    value: str
    help: str = ""
    beside: str | None = None


def cards(found: Sequence[Card], *, across: int = 4) -> None:
    """Cards in rows of `across`, or of fewer where the page is too narrow for their text."""
    compared = any(card.beside is not None for card in found)
    grid = st.grid(across, min_column_width=COMPARED if compared else ALONE)
    for card in found:
        grid.metric(
            card.label,
            card.value,
            delta=card.beside,
            delta_color="off",
            delta_arrow="off",
            help=card.help or None,
            border=True,
        )


def chart(figure: go.Figure, *, alt: str, key: str) -> None:
    """A chart; `alt` says in words what it shows, logarithmic axes among it."""
    st.plotly_chart(figure, width="stretch", key=key, config=PLOTLY, alt=alt)


def table(rows: Iterable[Mapping[str, Any]], *, alt: str, key: str) -> None:
    """A table whose column headers carry the units; it shows all rows up to `MOST_ROWS`."""
    frame = inert_frame(rows)
    st.dataframe(
        frame,
        width="stretch",
        hide_index=True,
        key=key,
        alt=alt,
        height=ROW * (min(len(frame), MOST_ROWS) + 1) + 3,
        column_config=_widths(frame),
    )


def inert_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows for a table that readers can save as CSV or copy: no cell and no header is a formula."""
    return pd.DataFrame([{_cell(name): _cell(cell) for name, cell in row.items()} for row in rows])


def _cell(value: Any) -> Any:  # noqa: ANN401 - as it was, or text
    return value if isinstance(value, str) and SIGNED.fullmatch(value) else inert(value)


def _widths(frame: pd.DataFrame) -> dict[str, Any]:
    """Columns of text as wide as their longest cell; by itself the table measures ten rows."""
    return {
        name: st.column_config.Column(
            width=min(LETTER * max(map(len, (name, *frame[name]))) + EDGES, WIDEST)
        )
        for name in frame
        if all(isinstance(value, str) for value in frame[name])
    }


def prose(rows: Iterable[Mapping[str, str]], *, alt: str) -> None:
    """A table of sentences, of which each cell shows the whole."""
    frame = pd.DataFrame([{name: plain(text) for name, text in row.items()} for row in rows])
    st.table(frame, border="horizontal", hide_index=True, alt=alt)


def explained(title: str, text: str) -> None:
    """How a number is computed, folded away."""
    with st.expander(title):
        st.markdown(text)


def not_measured(reason: str) -> str:
    """The text that stands in place of a number."""
    return reason if reason.startswith("not ") else f"not measured ({reason})"


def plain(text: str) -> str:
    """`text` from outside as Markdown that shows exactly it: no mark, no tag, no line break."""
    return MARKS.sub(r"\\\g<0>", printable(text))
