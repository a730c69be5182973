"""What pages are made of: cards, charts with a description, tables with units, explanations."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from costmodel.text import printable

PLOTLY = {"displaylogo": False, "toImageButtonOptions": {"format": "png", "scale": 2}}
MARKS = re.compile(r"[\\`*_{}\[\]()<>#|~$:^&]")  # of Markdown, HTML, mathematics and icons


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One number of a page's answer. `value` is formatted, unit and all; `help` says what it is."""

    label: str
    value: str
    help: str = ""
    delta: str | None = None


def cards(found: Sequence[Card], *, across: int = 4) -> None:
    """Cards in rows of `across`."""
    for start in range(0, len(found), across):
        columns = st.columns(across)
        for column, card in zip(columns, found[start : start + across], strict=False):
            column.metric(
                card.label, card.value, delta=card.delta, help=card.help or None, border=True
            )


def chart(figure: go.Figure, *, alt: str, key: str) -> None:
    """A chart; `alt` says in words what it shows, logarithmic axes among it."""
    st.plotly_chart(figure, width="stretch", key=key, config=PLOTLY, alt=alt)


def table(
    rows: Iterable[Mapping[str, Any]], *, alt: str, key: str, height: int | None = None
) -> None:
    """A table whose column headers carry the units."""
    st.dataframe(
        pd.DataFrame(list(rows)),
        width="stretch",
        hide_index=True,
        key=key,
        alt=alt,
        height="auto" if height is None else height,
    )


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
