"""Measured: a recording, case by case, beside its prediction."""

import streamlit as st

from costmodel.beside import PREDICTED
from costmodel.errors import InputError
from costmodel.inputs.recording import Case, Recording
from dashboard import measured_tables as tables
from dashboard import ratios
from dashboard import waterfall as falls
from dashboard.measured import COLOURS, View, comparable, compared, record, sentence, view
from dashboard.measured_choice import case_of, opened, upload
from dashboard.recordings import load, recording_names, repeat_names
from dashboard.shell import LINK, selection
from dashboard.widgets import chart, explained, not_measured, plain, table

NO_SECOND = "none"
FIRST = ("kernel_s", "wall_s", "flops_counted")  # shown first, of those that there are
CHARTS = ("ratios", "waterfall")
HOW = """
Every measured number is a median over repeats, or an exact count; the spread is its first to third
quartile. The prediction beside it is made anew from the recording's own model, workload and
machine, whatever the sidebar says. Where a prediction has no number of its own, a bound stands
there and the column "Basis, reason" says which: compulsory bytes, floor, useful FLOPs. HBM bytes
and kernel times come from runs of their own, apart from the timed one.

The error column: `=` within 5 %, `+` measured up to 1.25 times the prediction, `++` up to 2, `+++`
beyond; `-` the same below it. How each quantity is measured stands on the page Method.
"""


def answer(found: View) -> None:
    """Cards: measured, and below it what stands beside it."""
    shown = compared(found)
    for start in (0, 4):
        for column, card in zip(st.columns(4), shown[start : start + 4], strict=True):
            missing = plain(not_measured(card.reason)) if card.measured is None else ""
            column.metric(
                card.label,
                card.measured or "n/a",
                delta=card.beside or f"not {PREDICTED}",
                delta_color="off",
                delta_arrow="off",
                help=". ".join(filter(None, (card.told, missing))),
                border=True,
            )
    for name, reason in found.case.lacking.items():
        st.text(f"The run {name} is lacking: {not_measured(reason)}")


def charts(found: View, quantity: str | None) -> None:
    """The ratio plot or the waterfall."""
    kind = st.segmented_control(
        "Chart",
        list(CHARTS),
        default=CHARTS[0],
        required=True,
        key="rec_chart",
        bind=LINK,
    )
    if kind == "waterfall":
        bars = falls.steps(falls.levels(found.case, found.side))
        told = falls.in_words(bars)
        chart(falls.waterfall(bars), alt=told, key="rec_waterfall")
        st.text("\n".join(f"{bar.name}: {bar.reason}" for bar in bars if bar.end_s is None))
        explained("How the steps are computed", falls.FORMULA)
        return
    dots = () if quantity is None else ratios.dots(found.leaves(quantity))
    if quantity is None or not dots:
        st.info("No operator of this case has both a measured and a predicted number.")
        return
    chart(ratios.ratio_plot(dots, quantity), alt=ratios.in_words(dots, quantity), key="rec_ratios")


def numbers(found: View, quantity: str | None) -> None:
    """The table."""
    columns = found.joined.columns
    every = st.toggle(
        f"All {sum(len(column.measured) for column in columns):,} numbers of this case",
        key="rec_every",
        bind=LINK,
    )
    rows = [
        row
        for column in columns
        if every or column.leaves.paths == (None,) or column.quantity == quantity
        for row in column.rows()
    ]
    st.dataframe(
        [record(row) for row in rows],
        width="stretch",
        hide_index=True,
        key="rec_table",
        placeholder="n/a",
        column_config={
            "Error": st.column_config.MultiselectColumn(
                options=list(COLOURS), color=list(COLOURS.values())
            )
        },
        alt="Predicted, measured, their ratio, spread and source of each operator.",
    )


def second_run(first: Recording, case: Case) -> None:
    """Another recording of the same model beside this one."""
    names = [NO_SECOND, *repeat_names(), *recording_names()]
    other = st.selectbox("Second recording of the same model", names, key="rec_again", bind=LINK)
    with st.popover("Upload the second"):
        again = upload("JSON file of the second recording", "rec_again_file")
    try:
        if again is None and other in {NO_SECOND, None}:
            return
        again = again or load(str(other))
        changed = tables.changes(first, again)
    except InputError as error:
        st.error(plain(str(error)))
        return
    here = tables.side_by_side(case, again)
    if here:
        table(here, alt="This case's readings in both runs.", key="rec_here")
    else:
        st.info("The second recording has no reading of this case.")
    table(changed, alt="How far both runs are apart, over all common cases.", key="rec_changes")
    table(tables.counts(first, again), alt="Counts of both runs: how many agree.", key="rec_counts")


chosen = selection()
head = st.container()
recording = opened(chosen.model)
index = case_of(recording.cases, chosen.workload)
found = view(recording, index)
with head:
    st.title(plain(sentence(found)))
    st.text(f"{recording.model.name}: {found.joined.label}")
answer(found)
quantities = comparable(found)
start = next((quantities.index(each) for each in FIRST if each in quantities), 0)
asked = st.selectbox("Quantity by operator", quantities, index=start, key="rec_quantity", bind=LINK)
charts(found, asked)
numbers(found, asked)
explained("How this is measured and compared", HOW)
st.subheader("Run against run")
second_run(recording, found.case)
st.subheader("Machine, conditions and self-check")
table(tables.conditions(recording, found.case), alt="Conditions of each run.", key="rec_runs")
table(tables.checks(recording), alt="Known work measured: self-check.", key="rec_checks")
table(tables.sessions(recording), alt="Machine and code of each session.", key="rec_sessions")
