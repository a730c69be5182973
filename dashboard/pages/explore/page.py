"""Explore: one model, one workload, one GPU: what a step costs, and why."""

import streamlit as st

from costmodel import units
from costmodel.costs.predict import Prediction
from costmodel.errors import InputError
from costmodel.explain.explanation import Explanation
from costmodel.explain.tables import sentences
from costmodel.inputs.workload import MAX_NEW_TOKENS
from costmodel.questions.request import LEFT_OUT, MAX_PRICE_PER_HOUR, Request, Served
from costmodel.questions.sparse_attention import logits_note, payoff_sentences
from costmodel.show.parallel_json import OF_ALL
from costmodel.show.tables.notes import cold_l2_note, shipped_format_note
from costmodel.show.tables.prediction import prediction_tables
from costmodel.show.text import capitalised
from costmodel.show.told_times import transfer_words
from dashboard.app.address import linked, number, one_of, switch, whole
from dashboard.app.measured_points import measured_step, recorded
from dashboard.app.own_model import model_text
from dashboard.app.selection import OWN, Selection
from dashboard.app.shell import OWN_TEXT, current_selection
from dashboard.app.widgets import cards, chart, plain, table
from dashboard.pages.explore import charts, data, explained, kept
from dashboard.pages.explore.beside import beside
from dashboard.pages.explore.memory import draw_memory
from dashboard.pages.explore.meshed import draw_fewest, draw_mesh
from dashboard.pages.explore.own_form import draw_form
from dashboard.pages.explore.served import request_cards, request_rows
from dashboard.pages.explore.target import target_controls, target_sentence

BREAKDOWN, ROOFLINE = "breakdown by operator", "roofline"


def draw_chart(numbers: data.JSON) -> None:
    """The breakdown by operator, of one measure, or the roofline."""
    with st.container(horizontal=True):
        kind = st.segmented_control(
            "Chart",
            [BREAKDOWN, ROOFLINE],
            default=BREAKDOWN,
            required=True,
            **linked("ex_chart", one_of([BREAKDOWN, ROOFLINE]), instead=BREAKDOWN),
            label_visibility="collapsed",
        )
        timed = numbers["time"]["predicted_s"] is not None
        measure = charts.PREDICTED_TIME if timed else "HBM bytes"
        if kind != ROOFLINE:
            measure = st.segmented_control(
                "Of",
                list(charts.MEASURES),
                default=measure,
                required=True,
                **linked("ex_by", one_of(charts.MEASURES), instead=measure),
                label_visibility="collapsed",
            )
    if kind == ROOFLINE:
        chart(charts.roofline(numbers), alt=charts.roofline_alt(numbers), key="ex_roofline")
    elif measure == charts.PREDICTED_TIME and not timed:
        st.info(plain(f"Not predicted: {numbers['reasons']['time.predicted_s']}."))
    elif measure == charts.LAUNCHES and "routing.launches" in numbers["reasons"]:
        st.info(plain(f"Not predicted: {numbers['reasons']['routing.launches']}."))
    elif measure in charts.MEASURES:
        chart(
            charts.breakdown(numbers, measure),
            alt=charts.breakdown_alt(numbers, measure),
            key="ex_breakdown",
        )


def draw_operators(prediction: Prediction, numbers: data.JSON) -> None:
    """The table of operators and, folded away, all numbers of the step."""
    st.subheader("Operators")
    rows = data.operator_rows(numbers)
    table(rows, alt="Costs by operator, summed over its layers", key="ex_operators")
    st.caption(
        "Each row is the sum over the layers that its path lists. Launches are those of the"
        f" {numbers['backend']} backend; predicted times are those within a CUDA graph. The sum of"
        " the operators' roofline bounds can differ from the step's."
        + (f" On several GPUs, numbers are of {OF_ALL}." if prediction.gpus > 1 else "")
    )
    box = st.expander(
        "All numbers of this step", **linked("ex_all", switch(), instead=False), on_change="rerun"
    )
    if box.open:
        summary = prediction_tables(prediction)[0]
        rows = [
            {"Quantity": quantity, "Value": value, "What it counts": what}
            for quantity, value, what in summary.rows
        ]
        with box:
            table(rows, alt="All numbers of the step", key="ex_summary")
            for note in summary.notes:
                st.text(note)


def draw_request(selection: Selection) -> Served | None:
    """What serving a batch of whole requests costs; None where the request breaks a rule."""
    st.subheader("Serving whole requests")
    prompt_at, output_at, price_at, ttft_at, tpot_at = st.columns(5)
    prompt, output = (
        int(
            place.number_input(
                label,
                min_value=1,
                max_value=MAX_NEW_TOKENS,
                value=value,
                **linked(key, whole(1, MAX_NEW_TOKENS), instead=value),
            )
        )
        for place, label, value, key in (
            (prompt_at, "Prompt, tokens", 2048, "ex_prompt"),
            (output_at, "Output, tokens", 256, "ex_output"),
        )
    )
    price = price_at.number_input(
        "Price of one GPU, USD an hour",
        min_value=0.0,
        max_value=MAX_PRICE_PER_HOUR,
        value=None,
        placeholder="no price",
        **linked("ex_price", number(0, MAX_PRICE_PER_HOUR, may_be_empty=True), instead=None),
    )
    target = target_controls(ttft_at, tpot_at)
    try:
        request = Request(
            prompt=prompt, output=output, batch=selection.workload.batch, price_per_hour=price
        )
        if target is not None:
            st.info(plain(target_sentence(selection, request, target)), icon=":material/flag:")
        served = kept.served(selection, request)
    except InputError as error:
        st.error(plain(str(error)))
        return None
    if not served.fits:
        st.warning(
            f"A batch of {request.batch:,} such requests does NOT fit into the memory of"
            f" {units.count(served.gpus)} GPU{'' if served.gpus == 1 else 's'};"
            f" the largest batch that fits: {served.max_batch:,}."
        )
    rows, notes = request_rows(served)
    cards(request_cards(served), across=3)
    table(rows, alt="Times, speed, energy and cost of served requests", key="ex_request")
    for note in notes:
        st.caption(plain(note))
    if served.fits:
        st.caption(f"The largest batch of such requests that fits: {served.max_batch:,}.")
    st.caption(f"Left out: {LEFT_OUT}.")
    return served


def draw_working(prediction: Prediction, served: Served | None) -> None:
    """The formula of a number that the user chooses, with this step's values put in."""
    box = st.expander(
        "How this is computed", **linked("ex_how", switch(), instead=False), on_change="rerun"
    )
    if not box.open:
        return
    choices = explained.explanations(prediction, served)
    with box:
        number = st.selectbox(
            "Number",
            list(choices),
            **linked("ex_number", one_of(choices), instead=next(iter(choices))),
            help="A number of the step, of whole requests, or an operator",
        )
        draw_explanation(choices[str(number)]())


def draw_explanation(explanation: Explanation) -> None:
    """One explanation: what it counts, its equations, what their letters mean, its terms."""
    st.text(" ".join(sentences(explanation)))
    if explanation.equations:
        st.code(explained.lines(explanation), language=None, wrap_lines=True)
    letters = explained.letter_rows(explanation)
    if letters:
        table(letters, alt="Letters of the formulas and their values", key="ex_letters")
    if explanation.terms is not None and explanation.terms.rows:
        st.text(capitalised(explanation.terms.title))
        table(explained.term_rows(explanation.terms), alt=explanation.terms.title, key="ex_terms")
    st.text(f"Source: {explanation.source}")
    if explanation.doc:
        st.code(explanation.doc, language=None, wrap_lines=True)


own = st.session_state.get(OWN_TEXT, "")
selection = current_selection(on_refusal=lambda: draw_form(own) if own else None)
step = kept.step(selection)
prediction, numbers = step.prediction, step.numbers
measured = measured_step(recorded(selection.model), selection.workload, selection.hardware_name)
seen = measured.get("time.predicted_s")
st.title(plain(data.answer(prediction, None if seen is None else seen.value)))
st.text(data.question(prediction))
if words := transfer_words([prediction]):
    st.caption(plain(f"Predicted times are {words}."))
cards(beside(data.cards(numbers), numbers, measured))
if not prediction.memory.fits:
    shipped = shipped_format_note(prediction)
    gpu = "GPU's memory" if prediction.gpus == 1 else f"memory of {prediction.gpus} GPUs"
    too_large = f"This step does not fit into the {gpu}; its times assume a larger memory."
    st.warning(plain(" ".join((too_large, *shipped))))
if step.fewest is not None:
    draw_fewest(step.fewest)
as_typed = selection.model_name == OWN and "\n" in own  # the JSON of a link is one long line
draw_form(own if as_typed else model_text(selection.model))
draw_chart(numbers)
for reason in data.reasons(numbers):  # below the chart, whose top is to be seen without scrolling
    st.caption(plain(f"Not predicted: {reason}."))
draw_memory(prediction, data.fit(numbers, step.max_context))
draw_mesh(prediction, numbers)
for note in (
    *cold_l2_note(prediction),
    *payoff_sentences(prediction),
    *logits_note(prediction),
):
    st.info(plain(note))
draw_operators(prediction, numbers)
served = draw_request(selection)
draw_working(prediction, served)
if selection.model.assumptions:
    st.caption(
        "This model is a reconstruction: its source leaves something open. The assumptions stand"
        " under all numbers of this step."
    )
