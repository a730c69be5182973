"""Measured: a recording, case by case, compared with its prediction."""

from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from costmodel import units
from costmodel.errors import InputError
from costmodel.recordings.folders import repeat_names
from costmodel.recordings.quantities import QUANTITIES
from costmodel.show.text import capitalised
from costmodel.units import NOT_KNOWN
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.machines import backend_of
from costmodel.validation.recorded_routing import chosen_kinds
from dashboard.app.address import linked, one_of, switch
from dashboard.app.recordings import load, matching
from dashboard.app.shell import current_selection
from dashboard.app.widgets import (
    Card,
    cards,
    chart,
    explained,
    inert_frame,
    not_measured,
    plain,
    prose,
    table,
)
from dashboard.pages.measured import accesses, ratios, tables, waterfall
from dashboard.pages.measured.cards import achieved_rows, measured_cards
from dashboard.pages.measured.choice import case_of, follow, opened, unlike_sidebar, upload
from dashboard.pages.measured.data import (
    COLOURS,
    ComparedCase,
    comparable,
    compared,
    record,
    sentence,
    subtitle,
)

if TYPE_CHECKING:
    from costmodel.recordings.recording import Recording

NO_SECOND = "none"
FIRST = ("kernel_s", "wall_s", "flops_counted")  # the first that the case has is shown first
CHARTS = ("ratios", "waterfall", "accesses")
ROUTING_ONLY = "The leaf is a router or a selector: it only chooses experts or rows"
HOW = """
Every measured number is a median over repeats, or an exact count; the spread is its first to third
quartile. It is compared with a prediction for the model, workload and machine of the recording,
whatever the sidebar says. Where nothing predicts a number, it is compared with a bound: the
compulsory bytes, the roofline bound or the model FLOPs, as the column "Basis, reason" says. HBM
bytes and kernel times are measured in runs of their own, apart from the run that takes the time.

In the chart a dot is an operator: the median over its layers, with a bar from the smallest to the
largest. Orange: measured is more than predicted; blue: it is less.

The error column: `=` within 5 %, `+` measured up to 1.25 times the prediction, `++` up to 2, `+++`
beyond; `-` the same below it. The page Method says how each quantity is measured.
"""
AGAIN = """
The spread allows sqrt(IQR^2 + IQR'^2) of the two runs' quartiles, over the first median. This is
how far repeats within one run differ. Two runs on other days or other cards can differ by more, and
eager times by much more, since the host determines them.
"""


def draw_cards(case: ComparedCase) -> None:
    """Measured numbers with their predicted counterparts, and why numbers are missing."""
    missing: dict[str, list[str]] = {}
    row = []
    for card in measured_cards(case):
        reason = not_measured(card.reason) if card.measured is None else ""
        if reason:
            missing.setdefault(reason, []).append(card.label)
        row.append(
            Card(
                label=card.label,
                value=card.measured or units.NOT_KNOWN,
                help=". ".join(filter(None, (card.meaning, plain(reason)))),
                note=card.counterpart or f"not {PREDICTED}",
            )
        )
    cards(row)
    for reason, labels in missing.items():
        st.text(f"{', '.join(labels)}: {reason}")


def draw_chart(case: ComparedCase, quantity: str | None, place: DeltaGenerator) -> None:
    """The ratios of a quantity, the waterfall, or how often experts or rows were chosen.

    Which of them is chosen at `place`.
    """
    kind = place.segmented_control(
        "Chart",
        list(CHARTS),
        default=CHARTS[0],
        required=True,
        **linked("rec_chart", one_of(CHARTS), instead=CHARTS[0]),
    )
    if kind == "waterfall":
        parts = case.attribution
        if parts.step is None:
            st.info(plain(f"Where the time goes is not known: {parts.reason}"))
            return
        bars = waterfall.bars(parts.step)
        chart(waterfall.chart(bars), alt=waterfall.in_words(bars), key="rec_waterfall")
        st.markdown(plain(waterfall.sentence(parts.step)))
        st.table(
            [{name: plain(cell) for name, cell in row.items()} for row in waterfall.rows(bars)],
            hide_index=True,
            alt="Each bar of the waterfall, its share of the measured time and what it is",
        )
        st.caption(
            plain(
                " ".join([waterfall.NOTE, *(f"{capitalised(note)}." for note in parts.step.notes)])
            )
        )
        if parts.by_kind:
            st.subheader("The same by kind of operator")
            prose(waterfall.kinds(parts), alt="Each kind's time, and the share of each part in it")
            st.caption(plain(waterfall.KINDS_NOTE))
        return
    if kind == "accesses":
        layers = accesses.layers(case.case)
        if not layers:
            st.info(plain(accesses.why_none(case.case)))
            return
        kinds = chosen_kinds(case.recording.model)
        chart(
            accesses.ranks(layers, kinds),
            alt=accesses.in_words(layers, kinds),
            key="rec_accesses",
        )
        table(accesses.rows(case), alt="Choices of each layer.", key="rec_layers")
        st.caption(accesses.NOTE)
        return
    dots = () if quantity is None else ratios.dots(case.leaves(quantity))
    if quantity is None or not dots:
        st.info("No operator of this case has both a measured and a predicted number.")
        return
    title = QUANTITIES[quantity].title
    chart(ratios.ratio_plot(dots, title), alt=ratios.in_words(dots, title), key="rec_ratios")


def draw_numbers(case: ComparedCase, quantity: str | None) -> None:
    """The table of the step and of a quantity's leaves, or of all numbers of the case."""
    columns = case.joined.columns
    every = st.toggle(
        f"All {sum(len(column.measured) for column in columns):,} numbers of this case",
        **linked("rec_every", switch(), instead=False),
    )
    rows = [
        row
        for column in columns
        if every or column.of_step or column.quantity == quantity
        for row in column.rows()
    ]
    st.dataframe(
        inert_frame(record(row, case.routing_leaves) for row in rows),
        width="stretch",
        hide_index=True,
        key="rec_table",
        placeholder=NOT_KNOWN,
        column_config={
            "Routing": st.column_config.TextColumn(help=ROUTING_ONLY),
            "Error": st.column_config.MultiselectColumn(
                options=list(COLOURS), color=list(COLOURS.values())
            ),
        },
        alt="Predicted, measured, their ratio, spread and source of each operator.",
    )


def draw_second_run(case: ComparedCase) -> None:
    """Another recording of the same model compared with this one: at first its repeat, if any."""
    first = case.recording
    backend = backend_of(case.case, "time")
    alike = matching(first.model, repeat_names(), backend=backend)
    repeats = [name for name in alike if load(name).model == first.model]
    names = [NO_SECOND, *repeats, *matching(first.model, backend=backend)]
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    other = left.selectbox(
        "Second recording of the same model",
        names,
        index=min(len(repeats), 1),
        **linked("rec_again", one_of(names), instead=names[min(len(repeats), 1)]),
    )
    if left_out := [name for name in alike if name not in repeats]:
        st.caption(
            plain(f"Not offered, since its model differs in a field: {', '.join(left_out)}.")
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
    here = tables.case_changes(case.case, again)
    if here:
        st.text(tables.verdict(here))
        table(tables.side_by_side(here), alt="Readings of this case in both runs.", key="rec_here")
    else:
        st.info("The second recording has no reading of this case.")
    with st.expander("Over all cases of both runs"):
        st.markdown(AGAIN)
        table(over_all, alt="Differences of both runs, over all cases.", key="rec_changes")
        counted = tables.counts(first, again)
        table(counted, alt="Counts of both runs, and how many of them are equal.", key="rec_counts")


def draw_machine(recording: "Recording", case: ComparedCase) -> None:
    """The conditions of the case's runs, the self-check, and the sessions of the profiler."""
    st.subheader("Machine, conditions and self-check")
    table(
        tables.turned(tables.conditions(recording, case.case), "Run"),
        alt="Conditions of each run.",
        key="rec_runs",
    )
    table(tables.checks(recording), alt="Self-check: known work, measured.", key="rec_checks")
    table(
        tables.turned(tables.sessions(recording), "Session"),
        alt="Machine and code of each session.",
        key="rec_sessions",
    )


def page() -> None:
    """Answer, chart, table, the second run, the machine."""
    selection = current_selection()
    head = st.container()
    follow(selection)
    recording = opened(selection)
    case = compared(recording, case_of(recording.cases, selection.workload))
    with head:
        st.title(plain(sentence(case)))
        st.text(subtitle(case))
        if unlike := unlike_sidebar(selection, recording, case.case):
            st.info(plain(unlike))
        if disturbed := tables.disturbed(case.case):
            st.warning(plain(disturbed))
        if failed := tables.failed(recording):
            st.warning(plain(f"This recording's self-check failed: {', '.join(failed)}"))
    quantities = comparable(case)
    start = next((quantities.index(name) for name in FIRST if name in quantities), 0)
    titles = [QUANTITIES[name].title for name in quantities]
    left, right = st.columns(2)
    quantity = left.selectbox(
        "Quantity by operator",
        quantities,
        index=start,
        **linked("rec_quantity", one_of(titles), instead=titles[start] if titles else ""),
        format_func=lambda name: QUANTITIES[name].title,
    )
    draw_chart(case, quantity, right)
    draw_cards(case)
    draw_numbers(case, quantity)
    st.subheader("Rates, utilisation and the cost of routing")
    prose(achieved_rows(case), alt="Rates, utilisation and routing cost")
    explained("How this is measured and compared", HOW)
    st.subheader("Two runs compared")
    draw_second_run(case)
    draw_machine(recording, case)


page()
