"""Report: what a step costs, as sentences, tables and charts to keep, in six formats."""

from functools import partial

import streamlit as st

from costmodel.errors import InputError
from costmodel.inputs.catalog import model_names
from costmodel.questions.request import MAX_PRICE_PER_HOUR
from dashboard.app.address import linked, number, one_of, some_of, switch, text_up_to
from dashboard.app.own_gpu import GPU_FILE
from dashboard.app.selection import OWN, OWN_FILE
from dashboard.app.shell import current_selection, refused
from dashboard.app.widgets import chart, explained, plain, text_table
from dashboard.pages.report.data import (
    LABELS,
    MAX_LIST_CHARS,
    MAX_MORE,
    MIME,
    Recorded,
    ReportForm,
    asked,
    command,
    file_name,
    models_of,
    recordings_of,
    report_on,
)
from dashboard.report.charts import charts
from dashboard.report.document import CONTENTS, Report
from dashboard.report.files import report_bytes
from dashboard.report.sections import answers, sections
from dashboard.report.verdict import verdict
from dashboard.report.words import title

FILES = {  # by suffix: the label of a button, and what its file contains
    ".html": ("HTML", "One file with interactive charts, 0.7 MB and more; prints well."),
    ".md": ("Markdown", "All tables, no charts."),
    ".csv": ("CSV", "The operators of every step."),
    ".json": ("JSON", "All inputs and numbers: `sparsecost report` draws the report from it."),
    ".xlsx": ("Excel", "A sheet for each section."),
    ".parquet": ("Parquet", "The operators of every step."),
}


def draw_form() -> ReportForm:
    """The page's own controls, and their values."""
    more = st.multiselect(
        "Models besides the sidebar's",
        model_names(),
        max_selections=MAX_MORE,
        **linked("rep_models", some_of(model_names(), most=MAX_MORE), instead=()),
    )
    with st.container(horizontal=True):
        kept = [
            name
            for name in CONTENTS
            if st.checkbox(
                LABELS[name], value=True, **linked(f"rep_{name}", switch(), instead=True)
            )
        ]
    columns = st.columns(2)
    compared = columns[0].text_input(
        "Batches compared, a list",
        max_chars=MAX_LIST_CHARS,
        **linked("rep_batches", text_up_to(MAX_LIST_CHARS), instead=""),
        placeholder="1,4,16,...,4096 and the sidebar's",
    )
    price = columns[1].number_input(
        "Price of an hour of the GPU, USD",
        min_value=0.0,
        max_value=MAX_PRICE_PER_HOUR,
        value=None,
        **linked("rep_price", number(0, MAX_PRICE_PER_HOUR, may_be_empty=True), instead=None),
        placeholder="not given",
    )
    return ReportForm(
        more=tuple(more),
        contents=tuple(kept),
        compared=compared.replace(" ", ""),
        price_per_hour=price,
    )


def contents(report: Report) -> str:
    """How many models, operators, batches and cases the report contains."""
    counts = (
        (len(report.inputs.models), "model", "models"),
        (sum(len(step.operators) for step in report.steps), "operator", "operators"),
        (
            len(report.inputs.workload.compared_batches) if report.comparison else 0,
            "batch compared",
            "batches compared",
        ),
        (
            sum(recording.cases for recording in report.inputs.recordings),
            "measured case",
            "measured cases",
        ),
    )
    return ", ".join(f"{count:,} {one if count == 1 else more}" for count, one, more in counts)


def draw_downloads(report: Report) -> None:
    """A button for each format; a file is made when its button is pressed."""
    grid = st.grid(len(FILES), min_column_width=150)
    for suffix, (label, about) in FILES.items():
        grid.download_button(
            f"Download {label}",
            data=partial(report_bytes, report, suffix),
            file_name=file_name(report, suffix),
            mime=MIME[suffix],
            on_click="ignore",
            key=f"rep_get_{suffix[1:]}",
            help=about,
            width="stretch",
        )


def draw_preview(report: Report) -> None:
    """One section of the report, as the files show it."""
    by_title = {section.title: section for section in sections(report)}
    chosen = st.segmented_control(
        "Preview",
        list(by_title),
        default=next(iter(by_title)),
        required=True,
        **linked("rep_preview", one_of(by_title), instead=next(iter(by_title))),
        label_visibility="collapsed",
    )
    section = by_title.get(str(chosen), next(iter(by_title.values())))
    for text in section.lead:
        if text not in answers(report):  # which stand above already
            st.text(text)
    for index, drawn in enumerate(charts(report, section.name)):
        st.subheader(plain(drawn.title))
        chart(drawn.figure, alt=drawn.alt, key=f"rep_chart_{section.name}_{index}")
    for index, table in enumerate(section.tables):
        text_table(table, key=f"rep_table_{section.name}_{index}")
    if section.folded:
        count, only = len(section.folded), not section.tables
        box = st.expander(
            f"{count} {'more ' * (not only)}table{'s' * (count > 1)}",
            expanded=only,
            key=f"rep_more_{section.name}",
            on_change="rerun",
        )
        if box.open:
            with box:
                for index, table in enumerate(section.folded):
                    text_table(table, key=f"rep_more_{section.name}_{index}")


def page() -> None:
    """Answer, controls, files, command, preview."""
    selection = current_selection()
    heading = st.empty()
    with st.expander("What the report contains", key="rep_form"):
        form = draw_form()
    try:
        models = models_of(selection, form)
        recorded = recordings_of(models) if "measured" in form.contents else Recorded()
        report = report_on(asked(selection, form, recorded), recorded.recordings)
    except InputError as error:
        with heading.container():
            refused("This report cannot be made", str(error))
        st.stop()
    with heading.container():
        st.title(plain(title(report)))
        st.text(verdict(report))
        for line in answers(report):
            st.text(line)
        st.caption(f"A report to keep. It contains {contents(report)}.")
    for reason in recorded.errors:
        st.warning(plain(reason))
    draw_downloads(report)
    draw_preview(report)
    st.caption("The same from the command line:")
    st.code(command(selection, form, recorded, ".html"), language="bash", wrap_lines=True)
    for name, file, what in (
        (selection.model_name, OWN_FILE, "model"),
        (selection.hardware_name, GPU_FILE, "GPU"),
    ):
        if name == OWN:
            st.caption(f"{file} stands for the file of your own {what}.")
    explained(
        "How this is made",
        "All formats have the same numbers: those of `sparsecost predict`, `compare` and"
        " `validate`. The JSON contains all inputs and all numbers; `sparsecost report FILE.json"
        " --out FILE.html` draws the report from it again, without a new prediction. CSV and"
        " Parquet contain the operators of every step. The section Method names the source of"
        " every number.",
    )


page()
