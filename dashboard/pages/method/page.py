"""Method: every formula and every way of measuring, with sources and what is left out."""

import streamlit as st

from dashboard.app.address import linked, one_of, text_up_to
from dashboard.app.widgets import Card, cards, plain, prose
from dashboard.pages.method import data
from dashboard.pages.method.documented import folder_of


def draw_cards() -> None:
    """How much there is, before any search."""
    parts = {part: data.find(part) for part in data.PARTS}
    st.title("How every number is computed or measured")
    cards(
        (
            Card(
                label="Operator formulas",
                value=str(len(parts[data.FORMULAS].facts)),
                help="Of all presets, each once for a layer kind",
            ),
            Card(
                label="Measured quantities",
                value=str(len(parts[data.MEASURED].facts)),
                help="Of a step, of its operators, or of both",
            ),
            Card(
                label="Predicted quantities",
                value=str(len(parts[data.NUMBERS].facts)),
                help="Of a step, of requests, of matched models, of a step's utilisation",
            ),
            Card(
                label="Files explained",
                value=str(len({file for content in parts.values() for file in content.files})),
                help="Of the cost model and the profiler, in the words of their own docstrings",
            ),
        )
    )


def draw_controls() -> tuple[str, str]:
    """The part of the page and the search."""
    part = st.segmented_control(
        "Part",
        list(data.PARTS),
        default=data.FORMULAS,
        required=True,
        **linked("me_part", one_of(data.PARTS), instead=data.FORMULAS),
    )
    search = st.text_input(
        "Search",
        **linked("me_search", text_up_to(data.MAX_SEARCH_CHARS), instead=""),
        max_chars=data.MAX_SEARCH_CHARS,
        placeholder="such as: distinct rows, 2411.12364, hbm_read_bytes",
        help="Words that must all stand in a row or a docstring, in capitals or not",
    )
    return part or data.FORMULAS, (search or "")[: data.MAX_SEARCH_CHARS]


def draw_content(part: str, content: data.Content) -> None:
    """The facts of a part, then the docstrings behind them."""
    about = data.PARTS[part].about
    st.caption(about)
    if content.facts:
        prose(content.facts, alt=about)
    if not content.docstrings:
        return
    st.subheader("What the code says")
    file = st.selectbox(
        "Docstrings of",
        content.files,
        **linked("me_file", one_of(content.files), instead=next(iter(content.files), "")),
    )
    if file is not None:
        st.code(content.text(file), language=None, wrap_lines=True)
    prose(content.rows(), alt="Files, what each says in short, and how many docstrings it has")


draw_cards()
part, search = draw_controls()
content = data.find(part, search)
if search:
    hits = {name: data.find(name, search) for name in data.PARTS}
    counts = [f"{name} {len(hit.facts) + len(hit.docstrings)}" for name, hit in hits.items()]
    st.text(f"Found: {', '.join(counts)}.")
if part in {data.PREDICTED, data.MEASURED} and folder_of(data.PROFILER) is None:
    st.info("The package profiler is not installed: how it measures cannot be shown here.")
if content.facts or content.docstrings:
    draw_content(part, content)
else:
    st.info(plain(f"Nothing in {part} holds all words of: {search}"))
