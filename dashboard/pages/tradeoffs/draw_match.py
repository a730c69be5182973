"""Draws the half of the page Trade-offs that sizes a model so that it matches another one."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.model_toml import model_toml
from costmodel.inputs.workload import Workload
from costmodel.questions.match import match
from costmodel.questions.match_differences import differences
from costmodel.questions.matching.sizes import parse_vary
from costmodel.show.tables.match import match_tables
from costmodel.show.tables.mesh import mesh_words
from dashboard.app.address import linked, one_of, switch, text_up_to
from dashboard.app.pins import pin_to_compare
from dashboard.app.selection import Selection
from dashboard.app.shell import refused
from dashboard.app.widgets import cards, chart, explained, plain, text_table
from dashboard.pages.tradeoffs.charts import ratio_alt, ratio_chart
from dashboard.pages.tradeoffs.match import answer_cards, answer_sentence, cost_sentence

SIDEBAR = "the sidebar's model"
OTHER = "the other kind: experts for memory layers, memory layers for all else"
EXPERTS, MEMORY = "olmoe-1b-7b", "ultramemv2-1b-7b"  # those that are resized
MAX_VARY = 200  # characters
HOW = """\
Two sizes of the template vary in whole steps: keys per side and FFN width of a model with memory
layers, number and width of the experts of an MoE. Of all pairs that the rules of the layers allow,
the match is the pair for which the larger |ln(match / target)|, of total parameters without
embeddings and of FLOPs per token, is least. Hidden size, layers, attention and vocabulary come from
the target, unless the template keeps its own. `sparsecost match` gives the same. The papers pair
their models in this way: arXiv 2508.18756, Table 10."""


def draw_match(selection: Selection, top: DeltaGenerator) -> None:
    """The controls, the answer in `top`, the ratios of both models, and tables."""
    names = [SIDEBAR, *model_names()]
    left, right = st.columns(2)
    target = left.selectbox(
        "Target: the model to equal in size",
        names,
        **linked("to_target", one_of(names), instead=SIDEBAR),
    )
    templates = [OTHER, *names]
    template = right.selectbox(
        "Template: the model to resize",
        templates,
        **linked("to_template", one_of(templates), instead=OTHER),
    )
    drawn = st.container()
    left, right = st.columns(2, vertical_alignment="bottom")
    vary = left.text_input(
        "Two sizes to vary, each with its step if you like",
        placeholder="the usual two, such as knum,intermediate_size:64",
        max_chars=MAX_VARY,
        **linked("to_vary", text_up_to(MAX_VARY), instead=""),
    )
    keep = right.toggle(
        "Keep the template's backbone",
        **linked("to_keep", switch(), instead=False),
        help="Hidden size, layers, attention and vocabulary; otherwise they are the target's.",
    )
    try:
        wanted = selection.model if target == SIDEBAR else load_model(str(target))
        name = (EXPERTS if wanted.memory else MEMORY) if template == OTHER else str(template)
        answer = match(
            wanted,
            selection.model if name == SIDEBAR else load_model(name),
            context=selection.workload.context,
            vary=parse_vary(vary) if vary else None,
            keep_backbone=keep,
        )
        sidebar = selection.workload
        formats = Workload(
            context=sidebar.context,
            formats=sidebar.formats,
            kv_dtype=sidebar.kv_dtype,
            of_checkpoint=sidebar.of_checkpoint,
            mesh=sidebar.mesh,
        )
        lines = differences(
            answer, selection.hardware, calibration=selection.calibration, formats=formats
        )
        toml = model_toml(answer.model)
    except InputError as error:
        with top:
            refused("No match was found", str(error))
        return
    with top:
        st.title(plain(answer_sentence(answer)))
        st.markdown(plain(cost_sentence(lines, selection.hardware.name + mesh_words(formats))))
    with drawn:
        figure = ratio_chart(answer, lines)
        chart(figure, alt=ratio_alt(answer, lines), key="to_match_chart")
        cards(answer_cards(answer))
    tables = match_tables(answer, lines, selection.hardware, selection.calibration, formats)
    for index, table in enumerate(reversed(tables)):
        text_table(table, key=f"to_match_{index}")
    with st.container(horizontal=True):
        st.download_button(
            "Download as TOML", toml, file_name="matched.toml", key="to_toml", on_click="ignore"
        )
        if st.button("Pin to Compare", key="to_match_pin"):
            pin_to_compare(
                [answer.model], selection.model_name if target == SIDEBAR else str(target)
            )
    explained("How this is computed", HOW)
