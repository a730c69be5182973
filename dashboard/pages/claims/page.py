"""Is it true?: claims with verdicts, public measurements, predicted beside measured."""

import streamlit as st

from costmodel.backends import BACKENDS
from costmodel.questions.claims.held_out import QUANTITIES, held_out
from costmodel.questions.published.public_rows import public_rows
from costmodel.questions.published.public_shares import by_batch
from costmodel.show.tables.claims import NOTES
from costmodel.show.tables.held_out import accuracy_table, protocol, sentence
from costmodel.show.tables.public import batch_table, coverage_table, skipped_table
from dashboard.app.address import linked, one_of
from dashboard.app.entry import PAGES_FOLDER
from dashboard.app.widgets import chart, explained, plain, prose, table, text_table
from dashboard.pages.claims import charts, data, worst

HOW_PUBLIC = """
Others measured these times and published them; this project repeated none. The bound is computed
from datasheets alone. What a row leaves open is taken so that the bound holds whatever the truth is
(docs/public_measurements.md). A prediction needs a calibration of the GPU in the formats of the
row; where there is none, the table says why. No row was left out because a bound exceeds it.
"""
WHATEVER = "This page shows the same whatever the sidebar says."


def draw_claims() -> None:
    """The verdicts, and one claim with all its figures."""
    st.title(plain(data.sentence()))
    st.caption(WHATEVER)
    ids = data.ids()
    claim = st.segmented_control(
        "Claim",
        ids,
        default=ids[0],
        required=True,
        **linked("cl_id", one_of(ids), instead=ids[0]),
        help="C: the UltraMemV2 paper. R: its reviewers.",
    )
    answer = data.answer_of(claim or ids[0])
    st.subheader(plain(f"{answer.claim.id}: {answer.verdict.word}"))
    st.markdown(plain(answer.claim.claim))
    st.markdown(plain(answer.verdict.because))
    table(
        data.figure_rows(answer),
        alt=f"Figures of claim {answer.claim.id}, computed and measured.",
        key="cl_figures",
    )
    st.caption(plain(f"Stands in: {answer.claim.stands}. Judged here: {answer.claim.judged}"))
    view = answer.claim.view
    st.page_link(
        PAGES_FOLDER / view.page / "page.py",
        label=f"See it on the page {view.page.capitalize()}",
        icon=":material/arrow_forward:",
        query_params=view.query,
    )
    for note in NOTES:
        st.caption(note)
    st.subheader("All claims")
    prose(data.verdicts(), alt="Claims, what is judged of each, and the verdict")


def draw_public() -> None:
    """The shares of public rows, engines' rules, energy, and what was skipped."""
    head = st.container()
    columns = st.columns(len(data.FILTERS))
    wanted = {}
    for column, (of, label) in zip(columns, data.FILTERS.items(), strict=True):
        options = [data.EVERY, *data.names(of)]
        key = f"cl_{of}"
        wanted[of] = str(
            column.selectbox(label, options, **linked(key, one_of(options), instead=data.EVERY))
        )
    bounds = data.chosen(wanted)
    with head:
        st.title("What others measured, beside the bound")
        st.text(data.public_sentence(bounds) if bounds else "No row is of all that is chosen.")
    if bounds:
        chart(
            charts.shares(bounds),
            alt="Scatter of bound over measured by batch, both axes logarithmic, a line at 1; the"
            " table below has the rows.",
            key="cl_shares",
        )
        shown = sorted(bounds, key=lambda bound: -bound.share)[: data.MAX_ROWS]
        st.caption(f"{len(shown):,} of {len(bounds):,} rows, the nearest to their bound first.")
        table(map(data.row_cells, shown), alt="Public rows beside their bounds.", key="cl_rows")
    explained("How rows are compared", HOW_PUBLIC)
    text_table(batch_table(by_batch(data.public().bounds)), key="cl_batches")
    st.subheader("Energy that others measured")
    table(
        [data.energy_cells(*one) for one in data.energies()],
        alt="Measured energy and power, and the bound of the step.",
        key="cl_energy",
    )
    text_table(skipped_table(data.public()), key="cl_skipped")
    text_table(coverage_table(public_rows(), data.public()), key="cl_coverage")


def draw_accuracy() -> None:
    """Held-out steps: predicted over measured with intervals, worst first."""
    head = st.container()
    time = next(iter(QUANTITIES))
    left, right = st.columns(2)
    with left:
        title = st.segmented_control(
            "Quantity",
            list(QUANTITIES),
            default=time,
            required=True,
            **linked("cl_quantity", one_of(QUANTITIES), instead=time),
        )
    with right:
        backend = st.segmented_control(
            "Backend",
            [data.EVERY, *BACKENDS],
            default=data.EVERY,
            required=True,
            **linked("cl_backend", one_of([data.EVERY, *BACKENDS]), instead=data.EVERY),
        )
    quantity = QUANTITIES[title or time]
    steps = held_out().select(quantity, backend=data.backend_named(backend))
    head.title(plain(sentence(title or time)))
    if steps:
        chart(
            charts.held_out(steps),
            alt="Predicted over measured by measured, with 90 % intervals; a line where both agree;"
            " the table below has the steps.",
            key="cl_held_out",
        )
        text_table(accuracy_table(quantity), key="cl_accuracy")
        st.caption(f"{len(steps):,} steps, the worst first.")
        table(map(data.step_cells, steps), alt="Held-out steps.", key="cl_steps")
    else:
        st.info(plain(protocol()))


def draw_worst() -> None:
    """What `validate` says of the shipped recordings: a parity plot, the worst cases first."""
    steps = worst.overview().steps
    titles = list(steps)
    title = st.selectbox(
        "Quantity of a step",
        titles,
        **linked("cl_worst", one_of(titles), instead=titles[0]),
    )
    entries = steps[str(title)]
    st.title(plain(worst.sentence(str(title), entries)))
    st.info(worst.OF_DEVELOPMENT)
    chart(
        worst.parity(entries),
        alt=f"Predicted against measured {title}, both axes logarithmic, a line where both agree;"
        " the table below has the worst.",
        key="cl_worst_parity",
    )
    shown = worst.step_rows(entries)
    st.caption(f"{len(shown):,} of {len(entries):,} steps, the worst first.")
    table(shown, alt=f"Steps by how far {title} is off.", key="cl_worst_steps")
    st.subheader("Operators that are farthest off in kernel time, each at its worst")
    table(worst.leaf_rows(), alt="Operators by how far kernel time is off.", key="cl_worst_leaves")
    st.caption("The same from the command line, with every row: sparsecost validate --all")


part = st.segmented_control(
    "Part",
    list(data.PARTS),
    default=data.CLAIMS,
    required=True,
    **linked("cl_part", one_of(data.PARTS), instead=data.CLAIMS),
)
if part == data.PUBLIC:
    draw_public()
elif part == data.ACCURACY:
    draw_accuracy()
elif part == data.WORST:
    draw_worst()
else:
    draw_claims()
