"""Measured: a recording, case by case, beside its prediction."""

import streamlit as st

from costmodel.beside import PREDICTED
from costmodel.errors import InputError
from costmodel.inputs.recording import Case, Recording
from costmodel.inputs.workload import Workload
from dashboard import measured_tables as tables
from dashboard import ratios
from dashboard import waterfall as falls
from dashboard.measured import (
    FIELDS,
    View,
    comparable,
    compared,
    offered,
    place,
    record,
    sentence,
    view,
)
from dashboard.recordings import folder, from_upload, load, matching, recording_names, repeat_names
from dashboard.shell import LINK, selection
from dashboard.widgets import chart, explained, not_measured, plain, table

NO_SECOND = "none"
LABELS = {
    "phase": "Recorded phase",
    "routing": "Recorded routing",
    "dtype": "Recorded format",
    "context": "Recorded context, tokens",
    "new_tokens": "Recorded new tokens",
    "batch": "Recorded batch, sequences",
}
FIRST = ("kernel_s", "wall_s", "flops_counted")  # shown first, of those that there are
CHARTS = {"ratios": "Measured / predicted", "waterfall": "Floor to measured"}
HOW = """
Every measured number is a median over repeats, or an exact count; the spread is its first to third
quartile. The prediction beside it is made anew from the recording's own model, workload and
machine, whatever the sidebar says. Where a prediction has no number of its own, a bound stands
there and the column "Basis, reason" says which: compulsory bytes, floor, useful FLOPs. HBM bytes
and kernel times come from runs of their own, apart from the timed one.

The error column: `=` within 5 %, `+` measured up to 1.25 times the prediction, `++` up to 2, `+++`
beyond; `-` the same below it. How each quantity is measured stands on the page Method.
"""


def upload(label: str, key: str) -> Recording | None:
    """An uploaded recording, read once; None without one, or with one that is refused."""
    given = st.file_uploader(label, type="json", max_upload_size=16, key=key)
    if given is None:
        return None
    kept = st.session_state.get(f"_{key}")
    if kept is None or kept[0] != given.file_id:
        try:
            kept = given.file_id, from_upload(given.getvalue(), given.name)
        except InputError as error:
            st.error(plain(str(error)))
            return None
        st.session_state[f"_{key}"] = kept
    found: Recording = kept[1]
    return found


def opened() -> Recording:
    """The uploaded recording, or the chosen one; the end of the page where there is none."""
    names = recording_names()
    fitting = matching(chosen.model)
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    with right, st.popover("Upload a recording"):
        st.caption("It stays in this session; a link does not carry it.")
        given = upload("JSON file of a recording, at most 16 MiB", "rec_file")
    with left:
        name = st.selectbox(
            "Recording",
            names,
            index=names.index(fitting[0]) if fitting else 0,
            key="rec",
            bind=LINK,
            disabled=given is not None,
            help="First that of the sidebar's model, where there is one.",
        )
    if given is not None:
        return given
    if name is None:
        st.info("There is no recording yet. Measure one on the page Profile, or upload one.")
        st.text(f"Looked in: {folder().absolute()}")
        st.stop()
    try:
        return load(name)
    except InputError as error:
        st.error(plain(str(error)))
        st.stop()


def case_of(cases: tuple[Case, ...], asked: Workload) -> int:
    """Selects that offer what is recorded; they start at the sidebar's workload."""
    if not cases:
        st.info("This recording holds no case.")
        st.stop()
    wished = {"phase": asked.phase, "batch": asked.batch, "context": asked.context}
    picked: dict[str, object] = {}
    for field, column in zip(FIELDS, st.columns(len(FIELDS)), strict=True):
        values = offered(cases, field, picked)
        wish = wished.get(field)
        picked[field] = column.selectbox(
            LABELS[field],
            values,
            index=values.index(wish) if wish in values else 0,
            key=f"rec_{field}",
            bind=LINK,
            disabled=len(values) == 1,
        )
    return place(cases, picked)


def answer(found: View) -> None:
    """Cards: measured, and below it what stands beside it."""
    shown = compared(found)
    for start in (0, 4):
        for column, card in zip(st.columns(4), shown[start : start + 4], strict=True):
            missing = plain(not_measured(card.reason)) if card.measured is None else ""
            column.metric(
                card.label,
                card.measured or "not measured",
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
        default="ratios",
        required=True,
        key="rec_chart",
        bind=LINK,
        format_func=CHARTS.__getitem__,
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
recording = opened()
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
