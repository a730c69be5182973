"""Explore: one model, one workload, one GPU: what a step costs, and why."""

from functools import partial

import streamlit as st

from costmodel.costs.predict import Prediction
from costmodel.errors import InputError
from costmodel.inputs.workload import MAX_NEW_TOKENS
from costmodel.questions.request import LEFT_OUT, MAX_PRICE_PER_HOUR, Request, Served, serve
from costmodel.show.prediction_json import prediction_json
from costmodel.show.tables.prediction import prediction_tables
from dashboard.app.own_form import form
from dashboard.app.own_model import model_text
from dashboard.app.selection import OWN, Selection
from dashboard.app.shell import LINK, OWN_TEXT, selection
from dashboard.app.widgets import cards, chart, plain, table
from dashboard.pages.explore import data as explore
from dashboard.pages.explore import roofline
from dashboard.pages.explore.formulas import Working, operator_working
from dashboard.pages.explore.request_formulas import REQUEST
from dashboard.pages.explore.served import request_cards, request_rows
from dashboard.pages.explore.total_formulas import TOTALS

BREAKDOWN, ROOFLINE = "breakdown by operator", "roofline"


def draw_chart(data: explore.JSON) -> None:
    """One chart, chosen by the reader."""
    with st.container(horizontal=True):
        which = st.segmented_control(
            "Chart",
            [BREAKDOWN, ROOFLINE],
            default=BREAKDOWN,
            required=True,
            key="ex_chart",
            bind=LINK,
        )
        known = data["time"]["predicted_s"] is not None
        measure = "predicted time" if known else "HBM bytes"
        if which != ROOFLINE:
            measure = st.segmented_control(
                "Of",
                list(roofline.MEASURES),
                default=measure,
                required=True,
                key="ex_by",
                bind=LINK,
            )
    if which == ROOFLINE:
        chart(roofline.roofline(data), alt=roofline.roofline_alt(data), key="ex_roofline")
    elif measure == "predicted time" and data["time"]["predicted_s"] is None:
        st.info(plain(f"Not predicted: {data['reasons']['time.predicted_s']}."))
    elif measure in roofline.MEASURES:
        chart(
            roofline.breakdown(data, measure),
            alt=roofline.breakdown_alt(data, measure),
            key="ex_breakdown",
        )


def draw_operators(prediction: Prediction, data: explore.JSON) -> None:
    """The operators, and all other numbers."""
    st.subheader("Operators")
    rows = explore.operator_rows(data)
    table(rows, alt="Costs by operator, over its layers", key="ex_operators")
    st.caption(
        f"Sums over the layers of a path. Launches of the {data['backend']} backend; predicted"
        " times are those of a CUDA graph. The floors need not sum to the step's."
    )
    box = st.expander("All numbers of this step", key="ex_all", on_change="rerun", bind=LINK)
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


def draw_request(found: Selection) -> Served | None:
    """What serving a batch of whole requests costs; None where the request breaks a rule."""
    st.subheader("Serving whole requests")
    prompt_at, output_at, price_at = st.columns(3)
    prompt, output = (
        int(
            place.number_input(
                label, min_value=1, max_value=MAX_NEW_TOKENS, value=value, key=key, bind=LINK
            )
        )
        for place, label, value, key in (
            (prompt_at, "Prompt, tokens", 2048, "ex_prompt"),
            (output_at, "Output, tokens", 256, "ex_output"),
        )
    )
    price = price_at.number_input(
        "Price of the GPU, USD an hour",
        min_value=0.0,
        max_value=MAX_PRICE_PER_HOUR,
        value=None,
        placeholder="no price",
        key="ex_price",
        bind=LINK,
    )
    try:
        request = Request(
            prompt=prompt, output=output, batch=found.workload.batch, price_per_hour=price
        )
        served = serve(found.model, request, found.workload, found.hardware, found.calibration)
    except InputError as error:
        st.error(plain(str(error)))
        return None
    if not served.fits:
        st.warning(
            f"A batch of {request.batch:,} such requests does NOT fit the GPU's memory;"
            f" the largest that does: {served.max_batch:,}."
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
    """The formula of any number, with this case's values put in."""
    box = st.expander("How this is computed", key="ex_how", on_change="rerun", bind=LINK)
    if not box.open:
        return
    workings: dict[str, partial[Working]] = {
        name: partial(show, prediction) for name, show in TOTALS.items()
    }
    if served is not None:
        workings |= {name: partial(show, served) for name, show in REQUEST.items()}
    for each in prediction.costs.operators:
        workings[each.path] = partial(operator_working, prediction, each)
    with box:
        number = st.selectbox(
            "Number",
            list(workings),
            key="ex_number",
            bind=LINK,
            help="A number of the step, of whole requests, or an operator",
        )
        draw_one(workings[str(number)]())


def draw_one(working: Working) -> None:
    """One working: its lines, what its letters mean, and its terms."""
    st.code("\n".join(working.lines), language=None, wrap_lines=True)
    if working.letters:
        table(working.letters, alt="Letters of the formula and their values", key="ex_letters")
    if working.terms:
        st.text(working.terms_are)
        alt = working.terms_are
        table(working.terms, alt=alt, key="ex_terms")
    st.text(f"Source: {working.source}")
    if working.doc:
        st.code(working.doc, language=None, wrap_lines=True)


own = st.session_state.get(OWN_TEXT, "")
found = selection(mend=lambda: form(own) if own else None)  # a broken model can be forgotten
prediction = found.predict()
data = prediction_json(prediction)
st.title(plain(explore.answer(prediction)))
st.text(explore.asked(prediction))
if found.model.assumptions:
    st.caption("A reconstruction: its source leaves something open; see all numbers of this step.")
cards(explore.cards(data))
for reason in explore.reasons(data):
    st.info(plain(f"Not predicted: {reason}."))
memory = explore.fit(data, explore.max_context(prediction))
st.progress(min(memory.share, 1.0), text=memory.text)
if not memory.fits:
    st.warning("This step does not fit the GPU's memory; its times are those of a larger GPU.")
as_typed = found.model_name == OWN and "\n" in own  # a link's JSON is one long line
form(own if as_typed else model_text(found.model))
draw_chart(data)
draw_operators(prediction, data)
served = draw_request(found)
draw_working(prediction, served)
