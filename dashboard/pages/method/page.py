"""Method: every formula and every way of measuring, with sources and what is left out."""

import streamlit as st

from dashboard.app.shell import LINK
from dashboard.app.widgets import Card, cards, plain, prose
from dashboard.pages.method import data as method
from dashboard.pages.method.docstrings import package_folder

ABOUT = {
    method.NOTATION: "The letters of all formulas; files with letters of their own say so.",
    method.FORMULAS: "Operators of all presets, in decode and prefill; costs of one step.",
    method.PREDICTED: "Calibrations that are shipped: points measured on a GPU, by shape.",
    method.MEASURED: "Quantities that a profile measures, and what of a prediction is beside.",
}


def answer() -> None:
    """How much there is, before any search."""
    parts = {part: method.find(part, "") for part in method.PARTS}
    every = [entry for found in parts.values() for entry in found.entries]
    st.title("How every number is computed or measured")
    cards(
        (
            Card(
                label="Operator formulas",
                value=str(len(parts[method.FORMULAS].facts)),
                help="Of all presets, each once for a layer kind",
            ),
            Card(
                label="Measured quantities",
                value=str(len(parts[method.MEASURED].facts)),
                help="Of a step, of its operators, or of both",
            ),
            Card(
                label="Sources named",
                value=str(sum(bool(entry.source) for entry in every)),
                help="Docstrings with a source of their own; others share their file's, or define",
            ),
            Card(
                label="Omissions stated",
                value=str(sum(bool(entry.leaves_out) for entry in every)),
                help="Docstrings that say what they leave out",
            ),
        )
    )


def asked() -> tuple[str, str]:
    """The part of the page and the search, of the controls."""
    part = st.segmented_control(
        "Part",
        list(method.PARTS),
        default=method.FORMULAS,
        required=True,
        key="me_part",
        bind=LINK,
    )
    search = st.text_input(
        "Search",
        key="me_search",
        bind=LINK,
        max_chars=method.MAX_SEARCH_CHARS,
        placeholder="such as: distinct rows, 2411.12364, hbm_read_bytes",
        help="Words that must all stand in a row or a docstring, whatever their case",
    )
    return part or method.FORMULAS, (search or "")[: method.MAX_SEARCH_CHARS]


def draw_found(part: str, found: method.Found) -> None:
    """The facts of a part, then the docstrings behind them."""
    if found.facts:
        st.caption(ABOUT[part])
        prose(found.facts, alt=ABOUT[part])
    if not found.entries:
        return
    st.subheader("What the code says of it")
    rows = method.entry_rows(found.entries)
    alt = "Docstrings: file, name, what it says, what it leaves out, source"
    prose(rows, alt=alt)
    file = st.selectbox("Whole text of", found.files, key="me_file", bind=LINK)
    if file is not None:
        st.code(found.text(file), language=None, wrap_lines=True)


answer()
part, search = asked()
found = method.find(part, search)
if search:
    counts = []
    for each in method.PARTS:
        hits = method.find(each, search)
        counts.append(f"{each} {len(hits.facts) + len(hits.entries)}")
    st.text(f"Found: {', '.join(counts)}.")
if part in {method.PREDICTED, method.MEASURED} and package_folder("profiler") is None:
    st.info("The package profiler is not installed: how it measures cannot be shown here.")
if not found.facts and not found.entries:
    st.info(plain(f"Nothing in {part} holds all words of: {search}"))
draw_found(part, found)
