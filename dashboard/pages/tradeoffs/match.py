"""The half of the page Trade-offs that matches: a model of another kind, sized as a given one."""

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from costmodel import units
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.model_toml import model_toml
from costmodel.questions.match import Match, match
from costmodel.questions.matching.differences import Difference, differences
from costmodel.questions.matching.sizes import parse_vary
from costmodel.show.match_json import match_records
from costmodel.show.tables.match import match_tables
from costmodel.show.text import Table
from dashboard.app.figures import PALETTE, SYMBOLS, colour, framed
from dashboard.app.pins import pin
from dashboard.app.selection import Selection
from dashboard.app.shell import LINK, refused
from dashboard.app.widgets import Card, cards, chart, explained, plain, table

TARGET, TEMPLATE = "olmoe-1b-7b", "ultramemv2-1b-7b"
SIDEBAR = "the sidebar's model"
MAX_VARY = 200  # characters
TIMES = {"time.predicted_s": "predicted time", "time.floor_s": "floor time"}  # the first known
FRAME_HEIGHT, LINE_HEIGHT = 150, 26  # pixels of the chart's frame, and of each line
TICKS = (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 1000)
HOW = """\
Two sizes of the template vary in whole steps (memory layers: keys per side and FFN width; experts:
their number and width). Of all pairs that the rules of the layers allow, the one is taken whose
larger |ln(reached / wanted)|, of total parameters without embeddings and of FLOPs per token, is
least. Hidden size, layers, attention and vocabulary come from the target, unless the template
keeps its own. `sparsecost match` gives the same. The papers pair their models so: arXiv
2508.18756, Table 10."""


def draw_match(found: Selection, top: DeltaGenerator) -> None:
    """The controls; in `top` the answer; then what differs."""
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
        "Keep the template's backbone",
        key="to_keep",
        bind=LINK,
        help="Its hidden size, layers, attention and vocabulary; else they are the target's.",
    )
    try:
        models = [
            found.model if name == SIDEBAR else load_model(str(name)) for name in (target, template)
        ]
        answer = match(
            *models,
            context=found.workload.context,
            vary=parse_vary(vary) if vary else None,
            keep_backbone=keep,
        )
        lines = differences(answer, found.hardware, calibration=found.calibration)
        toml = model_toml(answer.model)
    except InputError as error:
        with top:
            refused("No match was found", str(error))
        return
    with top:
        st.title(plain(answer_sentence(answer)))
        cards(answer_cards(answer))
        st.markdown(plain(cost_sentence(lines, found.hardware.name)))
    ratios = ratio_chart(answer, lines)
    chart(ratios, alt=ratio_alt(answer, lines), key="to_match_chart")
    for index, each in enumerate(
        reversed(match_tables(answer, lines, found.hardware, found.calibration))
    ):
        st.subheader(plain(each.title))
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
        Card(
            label=plain(name),
            value=f"{after:,}",
            help=f"{before:,} in the template; found in steps of {answer.steps[name]:,}",
        )
        for name, (before, after) in answer.fields.items()
    ]
    for name, record in (("Parameters", parameters), ("FLOPs per token", flops)):
        found.append(
            Card(
                label=f"{name}: off by",
                value=f"{record['difference_percent']:+.3f} %",
                help=f"{record['difference']:+,} of {record['target']:,}",
            )
        )
    return found


def cost_sentence(lines: Sequence[Difference], gpu: str) -> str:
    """What models of equal size cost: the ratios of their times at each batch."""
    ratios = {
        name: ", ".join(
            f"{units.ratio(each.matched / each.target)} at batch {each.batch:,}"
            for each in lines
            if each.name == name
            and isinstance(each.target, int | float)
            and isinstance(each.matched, int | float)
        )
        for name in TIMES
    }
    known = next(name for name in TIMES if ratios[name])
    return (
        f"Equal in size; {TIMES[known]} of a decode step on {gpu} over the target's:"
        f" {ratios[known]}."
    )


def ratio_chart(answer: Match, lines: Sequence[Difference]) -> go.Figure:
    """Dots of match over target, a line for each quantity, a symbol for each batch."""
    dots = _ratios(answer, lines)
    figure = go.Figure()
    for index, batch in enumerate(dict.fromkeys(batch for batch, *_ in dots)):
        own = [each for each in dots if each[0] == batch]
        figure.add_scatter(
            name="any batch" if batch is None else f"batch {batch:,}",
            mode="markers",
            x=[ratio for *_, ratio in own],
            y=[name for _, name, _ in own],
            marker={
                "symbol": f"{SYMBOLS[index]}-open",  # open: equal ratios lie upon one another
                "size": 11,
                "color": colour(index),
                "line": {"width": 2},
            },
            customdata=[units.ratio(ratio) for *_, ratio in own],
            hovertemplate="%{y}: %{customdata}<extra>%{fullData.name}</extra>",
        )
    figure.add_vline(x=1, line={"color": PALETTE[6], "dash": "dash"})
    names = list(dict.fromkeys(name for _, name, _ in dots))
    framed(
        figure,
        x_title="match / target, logarithmic; 1: the same",
        y_title="",
        x_log=True,
        height=FRAME_HEIGHT + LINE_HEIGHT * len(names),
    )
    figure.update_xaxes(tickvals=TICKS, ticktext=[f"{tick:g}x" for tick in TICKS], tickangle=0)
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], tickmode="linear")
    return figure


def ratio_alt(answer: Match, lines: Sequence[Difference]) -> str:
    """The chart in words."""
    dots = _ratios(answer, lines)
    batch, name, ratio = max(dots, key=lambda dot: max(dot[2], 1 / dot[2]))
    where = "" if batch is None else f" at batch {batch:,}"
    return (
        f"Dots of match over target for {len(dots)} numbers on a logarithmic axis with a line at 1."
        f" Farthest from it: {name}{where}, {units.ratio(ratio)}."
    )


def _ratios(answer: Match, lines: Sequence[Difference]) -> list[tuple[int | None, str, float]]:
    """Batch, name and match over target of every number that both have."""
    found = []
    for each in match_records(answer, lines):
        name = STEP_QUANTITIES[each["quantity"]].label
        if each["target"] and each["matched"]:
            found.append((each["batch"], name, each["matched"] / each["target"]))
    return found


def table_rows(shown: Table) -> list[dict[str, str]]:
    """The cells of a table by their headers."""
    headers = [header.replace("\n", " ") for header in shown.headers]
    return [dict(zip(headers, row, strict=True)) for row in shown.rows]
