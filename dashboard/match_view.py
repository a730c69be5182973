"""The half of the page Trade-offs that matches: a model of another kind, sized as a given one."""

import streamlit as st

from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names
from costmodel.match import Match, beside, match
from costmodel.match_report import match_records
from costmodel.matching.sizes import parse_vary
from costmodel.matching.toml import model_toml
from costmodel.tables.match import match_tables
from costmodel.text import Table
from dashboard.pins import pin
from dashboard.selection import Selection
from dashboard.shell import LINK
from dashboard.widgets import Card, cards, explained, plain, table

TARGET, TEMPLATE = "olmoe-1b-7b", "ultramemv2-1b-7b"
SIDEBAR = "the sidebar's model"
MAX_VARY = 200  # characters
HOW = """\
Two sizes of the template vary in whole steps (memory layers: keys per side and FFN width; experts:
their number and width). Of all pairs that the rules of the layers allow, the one is taken whose
larger |ln(found / wanted)|, of total parameters without embeddings and of FLOPs per token, is
least. Hidden size, layers, attention and vocabulary come from the target, unless the template
keeps its own. `sparsecost match` gives the same. The papers pair their models so: arXiv
2508.18756, Table 10."""


def draw_match(found: Selection) -> None:
    """The controls, the answer and what differs then."""
    top = st.container()
    names = [SIDEBAR, *model_names()]
    left, right = st.columns(2)
    target = left.selectbox(
        "Target: what it should equal",
        names,
        index=names.index(TARGET),
        key="to_target",
        bind=LINK,
    )
    template = right.selectbox(
        "Template: what kind it should be",
        names,
        index=names.index(TEMPLATE),
        key="to_template",
        bind=LINK,
    )
    vary = left.text_input(
        "Two sizes to vary, each with a step if you like",
        placeholder="the usual two, such as knum,intermediate_size:64",
        max_chars=MAX_VARY,
        key="to_vary",
        bind=LINK,
    )
    keep = right.toggle(
        "Keep the template's hidden size, layers, attention, vocabulary", key="to_keep", bind=LINK
    )
    try:
        models = [
            found.model if name == SIDEBAR else load_model(str(name)) for name in (target, template)
        ]
        answer = match(
            *models,
            context=found.workload.context,
            vary=parse_vary(vary) if vary else None,
            keep_trunk=keep,
        )
        lines = beside(answer, found.hardware)
        toml = model_toml(answer.model)
    except InputError as error:
        st.error(plain(str(error)))
        return
    with top:
        st.title(plain(answer_sentence(answer)))
        cards(answer_cards(answer))
    for index, each in enumerate(match_tables(answer, lines, found.hardware)):
        st.text(each.title)
        table(table_rows(each), alt=each.title, key=f"to_match_{index}")
        for note in each.notes:
            st.caption(plain(note))
    with st.container(horizontal=True):
        st.download_button(
            "Download as TOML", toml, file_name="matched.toml", key="to_toml", on_click="ignore"
        )
        if st.button("Pin to Compare", key="to_match_pin"):
            try:
                pin([answer.model])
            except InputError as error:
                st.error(plain(str(error)))
            else:
                st.success("Pinned: choose it on the page Compare.")
    explained("How this is computed", HOW)


def answer_sentence(answer: Match) -> str:
    """The sizes found."""
    sizes = " and ".join(f"{name}={after:,}" for name, (_, after) in answer.fields.items())
    return f"{answer.template.name} matches {answer.target.name} with {sizes}"


def answer_cards(answer: Match) -> list[Card]:
    """What was matched, and how near it comes."""
    parameters, flops = match_records(answer, ())
    found = [
        Card(label=plain(name), value=f"{after:,}", help=f"{before:,} in the template")
        for name, (before, after) in answer.fields.items()
    ]
    for name, record in (("Parameters", parameters), ("FLOPs per token", flops)):
        found.append(
            Card(
                label=f"{name}: differ by",
                value=f"{record['difference']:+,}",
                help=f"{record['difference_percent']:+.4f} % of {record['target']:,}",
            )
        )
    return found


def table_rows(shown: Table) -> list[dict[str, str]]:
    """The cells of a table by their headers."""
    headers = [header.replace("\n", " ") for header in shown.headers]
    return [dict(zip(headers, row, strict=True)) for row in shown.rows]
