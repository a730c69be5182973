"""Report: what a step costs, in words, tables and charts to keep, in six formats."""

from functools import partial

import streamlit as st

from costmodel.errors import InputError
from costmodel.inputs.catalog import model_names
from costmodel.questions.request import MAX_PRICE_PER_HOUR
from costmodel.show.text import Table
from dashboard.app.selection import OWN, OWN_FILE
from dashboard.app.shell import LINK, refused, selection
from dashboard.app.widgets import EDGES, LETTER, WIDEST, chart, explained, inert_frame, plain
from dashboard.pages.report.data import (
    LABELS,
    MAX_MORE,
    MIME,
    Found,
    Wanted,
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
from dashboard.report.words import title

ROW, MOST_ROWS = 35, 20  # pixels of a table's row; rows beyond which it scrolls
FILES = {  # what a button says, and what its file holds
    ".html": ("HTML", "One file with interactive charts, about 5 MB; prints well."),
    ".md": ("Markdown", "All tables, no charts."),
    ".csv": ("CSV", "The operators of every step."),
    ".json": ("JSON", "All inputs and numbers: `sparsecost report` draws the report from it."),
    ".xlsx": ("Excel", "A sheet for each section."),
    ".parquet": ("Parquet", "The operators of every step."),
}


def wanted() -> Wanted:
    """What the page's controls say."""
    more = st.multiselect(
        "Models beside the sidebar's",
        model_names(),
        max_selections=MAX_MORE,
        key="rep_models",
        bind=LINK,
    )
    with st.container(horizontal=True):
        kept = [
            name
            for name in CONTENTS
            if st.checkbox(LABELS[name], value=True, key=f"rep_{name}", bind=LINK)
        ]
    columns = st.columns(2)
    compared = columns[0].text_input(
        "Batches compared, a list",
        key="rep_batches",
        bind=LINK,
        placeholder="1,4,16,...,4096 and the sidebar's",
    )
    price = columns[1].number_input(
        "Price of an hour of the GPU, USD",
        min_value=0.0,
        max_value=MAX_PRICE_PER_HOUR,
        value=None,
        key="rep_price",
        bind=LINK,
        placeholder="not given",
    )
    return Wanted(
        more=tuple(more),
        contents=tuple(kept),
        compared=compared.replace(" ", ""),
        price_per_hour=price,
    )


def held(report: Report) -> str:
    """What the report holds."""
    counts = (
        (len(report.inputs.models), "model", "models"),
        (sum(len(step.operators) for step in report.steps), "operator", "operators"),
        (
            len(report.inputs.workload.compared_batches) if report.comparison else 0,
            "batch compared",
            "batches compared",
        ),
        (sum(each.cases for each in report.inputs.recordings), "measured case", "measured cases"),
    )
    return ", ".join(f"{count:,} {one if count == 1 else more}" for count, one, more in counts)


def downloads(report: Report) -> None:
    """A button for each format; the file is made when it is asked for."""
    grid = st.grid(len(FILES), min_column_width=110)
    for suffix, (label, holds) in FILES.items():
        grid.download_button(
            label,
            data=partial(report_bytes, report, suffix),
            file_name=file_name(report, suffix),
            mime=MIME[suffix],
            on_click="ignore",
            key=f"rep_get_{suffix[1:]}",
            help=holds,
            width="stretch",
        )


def preview(report: Report) -> None:
    """One section as the files show it."""
    held = {section.title: section for section in sections(report)}
    chosen = st.segmented_control(
        "Preview",
        list(held),
        default=next(iter(held)),
        required=True,
        key="rep_preview",
        bind=LINK,
    )
    section = held.get(str(chosen), next(iter(held.values())))
    for text in section.lead:
        st.text(text)
    for index, each in enumerate(charts(report, section.name)):
        st.subheader(plain(each.title))
        chart(each.figure, alt=each.alt, key=f"rep_chart_{section.name}_{index}")
    for index, table in enumerate(section.tables):
        draw_table(table, key=f"rep_table_{section.name}_{index}")
    if section.folded:
        box = st.expander(f"{len(section.folded)} more tables", key="rep_more", on_change="rerun")
        if box.open:
            with box:
                for index, table in enumerate(section.folded):
                    draw_table(table, key=f"rep_more_{section.name}_{index}")


def draw_table(table: Table, key: str) -> None:
    """A table of the report; two of its columns may have the same name, so they are numbered."""
    st.subheader(plain(table.title))
    names = [f"c{index}" for index in range(len(table.headers))]
    st.dataframe(
        inert_frame(dict(zip(names, row, strict=True)) for row in table.rows),
        column_config={
            name: st.column_config.TextColumn(
                header,
                alignment="left" if index < table.text_columns else "right",
                width=min(LETTER * max(map(len, (header, *cells))) + EDGES, WIDEST),
            )
            for index, (name, header, *cells) in enumerate(
                zip(names, table.headers, *table.rows, strict=True)
            )
        },
        width="stretch",
        hide_index=True,
        key=key,
        alt=table.title,
        height=ROW * (min(len(table.rows), MOST_ROWS) + 1) + 3,
    )
    if table.notes:
        st.text("\n".join(table.notes))


def page() -> None:
    """Answer, controls, files, command, preview."""
    chosen = selection()
    heading = st.empty()
    choice = wanted()
    try:
        models = models_of(chosen, choice)
        found = recordings_of(models) if "measured" in choice.contents else Found()
        report = report_on(asked(chosen, choice, found), found.recordings)
    except InputError as error:
        with heading.container():
            refused("This report cannot be made", str(error))
        st.stop()
    with heading.container():
        st.title(plain(title(report)))
        for line in answers(report):
            st.text(line)
        st.caption(f"A report to keep. It holds {held(report)}.")
    for unread in found.unread:
        st.warning(plain(unread))
    st.subheader("Download")
    downloads(report)
    st.caption("The same from the command line:")
    st.code(command(chosen, choice, found, ".html"), language="bash", wrap_lines=True)
    if chosen.model_name == OWN:
        st.caption(f"{OWN_FILE} stands for the file of your own model.")
    preview(report)
    explained(
        "How this is made",
        "Every format shows the same numbers, those of `sparsecost predict`, `compare` and"
        " `validate`. The JSON holds all inputs and all numbers; `sparsecost report FILE.json --out"
        " FILE.html` draws the report again from it, without predicting anew. CSV and Parquet hold"
        " the operators of every step. Sources of every number stand in the section Method.",
    )


page()
