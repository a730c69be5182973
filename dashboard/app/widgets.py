"""What pages are made of: cards, charts with a description, tables with units, explanations."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from costmodel.costs.quantities.terms import terms_in
from costmodel.show.export import inert
from costmodel.show.text import Table, printable
from costmodel.units import NOT_KNOWN

ROW, MOST_ROWS = 35, 24  # pixels of a table's row; rows beyond which it scrolls
LETTER, EDGES, WIDEST = 7, 20, 480  # pixels of a letter, of a cell's edges, of a column of text
CARD, CARD_WITH_NOTE = 180, 230  # pixels that a card needs
PLOTLY = {"displaylogo": False, "toImageButtonOptions": {"format": "png", "scale": 2}}
SIGNED = re.compile(r"-|[+-]\d[\d.,]*(e[+-]?\d+)?( ?[%A-Za-z]{1,3})?")  # `-3.2 %`: no formula
WORD_JOINER = "\u2060"
LIVE = re.compile(  # where an address, of the web or of mail, or the name of a picture is cut
    r"(?<=https:)(?=//)|(?<=http:)(?=//)|(?<=www)(?=\.)|(?<=[\w.+-]@)(?=[\w-])"
    r"|(?<=:)(?=[\w+/-]+:)",
    re.ASCII | re.IGNORECASE,
)
LIST_MARK = re.compile(r"^(\d*)(\.(?=\s|$)|[-+=])", re.ASCII)  # how lists begin
MARKS = re.compile(r"[\\`*_{}\[\]()<>#|~$:^&]")  # of Markdown, HTML, mathematics and icons


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One number of a page's answer. `value` is formatted, with its unit; `help` says what it is.

    `note` stands below the number in small letters, such as the prediction of a measured number.
    """

    label: str
    value: str
    help: str = ""
    note: str | None = None


def cards(row: Sequence[Card], *, across: int = 4) -> None:
    """Draw cards in rows of `across`, or of fewer where the page is too narrow for their text.

    Those beyond two rows of a narrow page are folded away.
    """
    noted = any(card.note is not None for card in row)
    width, most = (CARD_WITH_NOTE, 4) if noted else (CARD, 6)
    _grid(row[:most], across, width)
    if folded := row[most:]:
        with st.expander(f"{len(folded)} more numbers"):
            _grid(folded, across, width)


def _grid(row: Sequence[Card], across: int, width: int) -> None:
    """Cards of at least so many pixels; the help ends with terms that a newcomer may not know."""
    grid = st.grid(across, min_column_width=width)
    for card in row:
        terms = terms_in(f"{card.label} {card.note} {card.help}")
        glossary = "".join(f"\n- {term}: {meaning}" for term, meaning in terms.items())
        grid.metric(
            card.label,
            card.value,
            delta=card.note,
            delta_color="off",
            delta_arrow="off",
            help=f"{card.help}\n{glossary}".strip() or None,
            border=True,
        )


def chart(figure: go.Figure, *, alt: str, key: str) -> None:
    """Draw a chart; `alt` says in words what it shows, and which axes are logarithmic."""
    st.plotly_chart(figure, width="stretch", key=key, config=PLOTLY, alt=alt)


def table(rows: Iterable[Mapping[str, Any]], *, alt: str, key: str) -> None:
    """Draw a table whose column headers carry the units; it shows all rows up to `MOST_ROWS`."""
    frame = inert_frame(rows)
    widths = {
        name: st.column_config.Column(width=text_width(name, *frame[name]))
        for name in frame
        if all(isinstance(value, str) for value in frame[name])
    }
    _draw(frame, widths, alt=alt, key=key)


def text_table(shown: Table, *, key: str) -> None:
    """Draw a table of the core with its title and its notes; two columns may have one header."""
    st.subheader(plain(shown.title))
    names = [f"c{index}" for index in range(len(shown.headers))]
    columns = zip(names, shown.headers, *shown.rows, strict=True)
    config = {
        name: st.column_config.TextColumn(
            header.replace("\n", " "),
            alignment="left" if shown.is_text(index) else "right",
            width=text_width(header, *cells),
        )
        for index, (name, header, *cells) in enumerate(columns)
    }
    frame = inert_frame(dict(zip(names, row, strict=True)) for row in shown.rows)
    _draw(frame, config, alt=shown.title, key=key)
    for note in shown.notes:
        st.caption(plain(note))


def _draw(frame: pd.DataFrame, config: dict[str, Any], *, alt: str, key: str) -> None:
    st.dataframe(
        frame,
        width="stretch",
        hide_index=True,
        key=key,
        alt=alt,
        placeholder=NOT_KNOWN,
        height=ROW * (min(len(frame), MOST_ROWS) + 1) + 3,
        column_config=config,
    )


def text_width(*texts: str) -> int:
    """Pixels of a column that shows the longest text; Streamlit measures only the first rows."""
    return min(LETTER * max(map(len, texts)) + EDGES, WIDEST)


def inert_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows for a table that readers can save as CSV or copy: no cell and no header is a formula."""
    return pd.DataFrame([{_cell(name): _cell(cell) for name, cell in row.items()} for row in rows])


def _cell(value: Any) -> Any:  # noqa: ANN401 - as it was, or text
    return value if isinstance(value, str) and SIGNED.fullmatch(value) else inert(value)


def prose(rows: Iterable[Mapping[str, str]], *, alt: str) -> None:
    """Draw a table of sentences; each cell shows all of its text."""
    frame = pd.DataFrame([{name: plain(text) for name, text in row.items()} for row in rows])
    st.table(frame, border="horizontal", hide_index=True, alt=alt)


def explained(title: str, text: str) -> None:
    """Draw an explanation that is folded away until it is opened."""
    with st.expander(title):
        st.markdown(text)


def not_measured(reason: str) -> str:
    """The text in place of a number that was not measured."""
    return reason if reason.startswith("not ") else f"not measured ({reason})"


def plain(text: str) -> str:
    """`text` from outside as Markdown that shows exactly it: no mark, no tag, no line break.

    Streamlit makes links of bare addresses and pictures of `:names:` after it has read Markdown,
    where an escape no longer counts; a word joiner, which has no width, keeps those apart.
    """
    apart = LIVE.sub(WORD_JOINER, printable(text).strip())
    return LIST_MARK.sub(r"\1\\\2", MARKS.sub(r"\\\g<0>", apart))
