"""Measured: a recording, case by case, beside its prediction."""

from typing import TYPE_CHECKING

import streamlit as st

from costmodel import units
from costmodel.errors import InputError
from costmodel.recordings.quantities import QUANTITIES
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.recorded_routing import chosen_kinds
from dashboard.app.recordings import load, matching, repeat_names
from dashboard.app.shell import LINK, selection
from dashboard.app.widgets import (
    Card,
    cards,
    chart,
    explained,
    inert_frame,
    not_measured,
    plain,
    table,
)
from dashboard.pages.measured import accesses, ratios, tables
from dashboard.pages.measured import waterfall as falls
from dashboard.pages.measured.cards import achieved_rows, compared
from dashboard.pages.measured.choice import case_of, opened, upload
from dashboard.pages.measured.data import (
    COLOURS,
    View,
    comparable,
    record,
    sentence,
    subtitle,
    view,
)

if TYPE_CHECKING:
    from costmodel.recordings.recording import Recording

NO_SECOND = "none"
FIRST = ("kernel_s", "wall_s", "flops_counted")  # shown first, of those that there are
CHARTS = ("ratios", "waterfall", "accesses")
CHOOSES = "The leaf does nothing but choose experts or rows: all of it is routing"
HOW = """
Every measured number is a median over repeats, or an exact count; the spread is its first to third
quartile. The prediction beside it is made anew from the recording's own model, workload and
machine, whatever the sidebar says. Where a prediction has no number of its own, a bound stands
there and the column "Basis, reason" says which: compulsory bytes, floor, useful FLOPs. HBM bytes
and kernel times come from runs of their own, apart from the timed one.

In the chart a dot is an operator: the median over its layers, with the least and the largest as its
bar; orange was measured longer or larger than predicted, blue less.

The error column: `=` within 5 %, `+` measured up to 1.25 times the prediction, `++` up to 2, `+++`
beyond; `-` the same below it. How each quantity is measured stands on the page Method.
"""
AGAIN = """
The spread allows sqrt(IQR^2 + IQR'^2) of the two runs' quartiles, over the first median. It is what
repeats within one run differ by: two runs on other days or cards can differ by more, and eager
times by much more, since the host sets them.
"""


def answer(found: View) -> None:
    """Cards: measured, and below it what stands beside it."""
    lacking: dict[str, list[str]] = {}
    drawn = []
    for card in compared(found):
        missing = plain(not_measured(card.reason)) if card.measured is None else ""
        if card.measured is None:
            lacking.setdefault(not_measured(card.reason), []).append(card.label)
        drawn.append(
            Card(
                label=card.label,
                value=card.measured or units.NOT_KNOWN,
                help=". ".join(filter(None, (card.told, missing))),
                beside=card.beside or f"not {PREDICTED}",
            )
        )
    cards(drawn)
    for reason, labels in lacking.items():
        st.text(f"{', '.join(labels)}: {reason}")


def charts(found: View, quantity: str | None) -> None:
    """The ratio plot, the waterfall, or how often each expert or row was chosen."""
    kind = st.segmented_control(
        "Chart", list(CHARTS), default=CHARTS[0], required=True, key="rec_chart", bind=LINK
    )
    if kind == "waterfall":
        bars = falls.steps(falls.levels(found.case, found.side))
        chart(falls.waterfall(bars), alt=falls.in_words(bars), key="rec_waterfall")
        st.table(
            [{name: plain(cell) for name, cell in row.items()} for row in falls.rows(bars)],
            hide_index=True,
            alt="Each bar of the waterfall, and the level that it reaches",
        )
        st.caption(falls.NOTE)
        return
    if kind == "accesses":
        layers = accesses.layers(found.case)
        if not layers:
            st.info(plain(accesses.why_none(found.case)))
            return
        kinds = chosen_kinds(found.recording.model)
        chart(
            accesses.ranks(layers, kinds),
            alt=accesses.in_words(layers, kinds),
            key="rec_accesses",
        )
        table(accesses.rows(found), alt="Choices of each layer.", key="rec_layers")
        st.caption(accesses.NOTE)
        return
    dots = () if quantity is None else ratios.dots(found.leaves(quantity))
    if quantity is None or not dots:
        st.info("No operator of this case has both a measured and a predicted number.")
        return
    title = QUANTITIES[quantity].title
    chart(ratios.ratio_plot(dots, title), alt=ratios.in_words(dots, title), key="rec_ratios")


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
        inert_frame(record(row, found.choosers) for row in rows),
        width="stretch",
        hide_index=True,
        key="rec_table",
        placeholder="n/a",
        column_config={
            "Chooses": st.column_config.TextColumn(help=CHOOSES),
            "Error": st.column_config.MultiselectColumn(
                options=list(COLOURS), color=list(COLOURS.values())
            ),
        },
        alt="Predicted, measured, their ratio, spread and source of each operator.",
    )


def second_run(found: View) -> None:
    """Another recording of the same model beside this one: its repeat, where there is one."""
    first = found.recording
    repeats = matching(first.model, repeat_names())
    names = [NO_SECOND, *repeats, *matching(first.model)]
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    other = left.selectbox(
        "Second recording of the same model",
        names,
        index=min(len(repeats), 1),
        key="rec_again",
        bind=LINK,
    )
    with right.popover("Upload", width="stretch"):
        again = upload("JSON file of the second recording", "rec_again_file")
    try:
        if again is None and other in {NO_SECOND, None}:
            return
        again = again or load(str(other))
        over_all = tables.changes(first, again)
    except InputError as error:
        st.error(plain(str(error)))
        return
    here = tables.case_changes(found.case, again)
    if here:
        st.text(tables.verdict(here))
        table(tables.side_by_side(here), alt="This case's readings in both runs.", key="rec_here")
    else:
        st.info("The second recording has no reading of this case.")
    with st.expander("Over all cases of both runs"):
        st.markdown(AGAIN)
        table(over_all, alt="How far both runs are apart, over all cases.", key="rec_changes")
        counted = tables.counts(first, again)
        table(counted, alt="Counts of both runs: how many agree.", key="rec_counts")


def machine(recording: "Recording", found: View) -> None:
    """Conditions of the case's runs, the self-check, the sessions."""
    st.subheader("Machine, conditions and self-check")
    table(
        tables.turned(tables.conditions(recording, found.case), "Run"),
        alt="Conditions of each run.",
        key="rec_runs",
    )
    table(tables.checks(recording), alt="Known work measured: self-check.", key="rec_checks")
    table(
        tables.turned(tables.sessions(recording), "Session"),
        alt="Machine and code of each session.",
        key="rec_sessions",
    )


def page() -> None:
    """Answer, chart, table, the second run, the machine."""
    chosen = selection()
    head = st.container()
    recording = opened(chosen.model)
    index = case_of(recording.cases, chosen.workload)
    found = view(recording, index)
    with head:
        st.title(plain(sentence(found)))
        st.text(subtitle(found))
        if disturbed := tables.disturbed(found.case):
            st.warning(plain(disturbed))
        if failed := tables.failed(recording):
            st.warning(plain(f"This recording's self-check failed: {', '.join(failed)}"))
    answer(found)
    quantities = comparable(found)
    start = next((quantities.index(each) for each in FIRST if each in quantities), 0)
    asked = st.selectbox(
        "Quantity by operator",
        quantities,
        index=start,
        key="rec_quantity",
        bind=LINK,
        format_func=lambda name: QUANTITIES[name].title,
    )
    charts(found, asked)
    numbers(found, asked)
    st.subheader("What the step achieved, and what routing cost")
    table(achieved_rows(found), alt="Rates, utilisation and routing cost.", key="rec_achieved")
    explained("How this is measured and compared", HOW)
    st.subheader("Run against run")
    second_run(found)
    machine(recording, found)


page()
