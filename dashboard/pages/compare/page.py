"""Compare: two to four models on one workload, over batch or context."""

import streamlit as st

from costmodel.costs.latency import Unknown
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model, model_names, numbered
from costmodel.inputs.model import ModelConfig
from costmodel.questions.compare import sentences
from costmodel.show.tables.notes import workload_words
from dashboard.app.own_model import read_model
from dashboard.app.pins import pinned
from dashboard.app.selection import Selection
from dashboard.app.shell import LINK, refused, selection
from dashboard.app.widgets import cards, chart, explained, plain, table
from dashboard.pages.compare import charts as compare_charts
from dashboard.pages.compare import data as compare
from dashboard.pages.compare.measured_points import Axis, distinct_points, points, recorded

PAIR = ["olmoe-1b-7b", "ultramemv2-1b-7b"]
FEWEST, MOST = 2, 4
HOW = """\
Each line is `predict` at every point of the axis; `sparsecost compare` prints the same at batches
of your choice. A crossover is found over batches 1 to 1,048,576: a scan in steps of 2 % of the
batch, then a bisection of every change of sign, so that two crossings nearer than 2 % to each other
would be missed. The largest batch is (capacity - weights - buffers) / (KV cache and activations of
one sequence). Measured HBM bytes are the reads of the hardware counters; compulsory bytes are
reads and writes. Distinct experts or rows of a layer are expected under the chosen routing
(uniform: E (1 - (1 - k/E)^N)), and measured as the means over the layers of what a recorded step
chose."""


def chosen_models(found: Selection) -> list[ModelConfig]:
    """Presets, pinned designs and, when asked, the sidebar's model."""
    pins = pinned()
    names = st.multiselect(
        "Models, the first is the reference",
        [*model_names(), *pins],
        default=PAIR,
        max_selections=MOST,
        key="cmp_models",
        bind=LINK,
        help="Designs pinned on the page Trade-offs stand at the end; a link does not carry them.",
    )
    label = f"And the sidebar's model, {plain(found.model.name)}"
    told = f"Without effect where it is among the models already, or {MOST} are."
    added = st.toggle(label, value=True, key="cmp_add", bind=LINK, help=told)
    models = [read_model(pins[name]) if name in pins else load_model(name) for name in names]
    if added and found.model not in models and len(models) < MOST:
        models.append(found.model)
    if not FEWEST <= len(models) <= MOST:
        raise InputError(f"models={len(models)}: {FEWEST} to {MOST} are compared")
    return numbered(models)


found = selection()
top = st.container()
try:
    models = chosen_models(found)
except InputError as error:
    with top:
        refused("These models cannot be compared", str(error))
    st.stop()
with st.container(horizontal=True):
    name = str(
        st.segmented_control(
            "Compared by",
            list(compare.SHOWN),
            default="HBM bytes",
            required=True,
            key="cmp_by",
            bind=LINK,
        )
    )
    axis: Axis = (
        "context"
        if st.segmented_control(
            "Over", ["batch", "context"], default="batch", required=True, key="cmp_over", bind=LINK
        )
        == "context"
        else "batch"
    )
shown = compare.SHOWN[name]
predictions = [found.predict(model) for model in models]
grids = compare.over(models, found, axis)
advantages = compare.findings(models, predictions, found, shown) if axis == "batch" else []
recordings = [recorded(model) for model in models]

with top:
    st.title(plain(compare.answer(predictions, grids, name)))
    st.caption(plain(f"{workload_words(found.workload)}, on {found.hardware.name}"))
    if large := compare.too_large(predictions):
        at = f"batch {found.workload.batch:,}, context {found.workload.context:,}"
        st.warning(plain(f"At {at} these do not fit the GPU: {', '.join(large)}"))
    for sentence in sentences(advantages):
        st.info(plain(sentence))
    cards(compare.cards(predictions, grids, name), across=len(models))
unknown = predictions[0].time
if isinstance(unknown, Unknown) and compare.values(grids[0], shown)[0] is None:
    st.info(plain(f"Not predicted: {unknown.reason}."))
measured = [points(each, name, found.workload, axis) for each in recordings]
chart(
    compare_charts.main_chart(
        grids,
        name,
        axis,
        advantages=advantages,
        max_batches=[int(each.memory.max_batch) for each in predictions],
        points=measured,
    ),
    alt=compare_charts.main_alt(grids, name, axis, advantages),
    key="cmp_main",
)
if not any(measured):
    st.caption("No recording holds this quantity of these models at this workload.")
if axis == "batch":
    drawn = compare_charts.distinct_chart(
        grids, [distinct_points(each, found.workload) for each in recordings]
    )
    if drawn is None:
        st.caption("None of these models has experts or memory rows.")
    else:
        st.subheader("How many different experts or rows does a layer touch?")
        chart(
            drawn,
            alt="Expected distinct experts and rows of a layer over batch, both axes logarithmic,"
            " with measured points where recordings hold them.",
            key="cmp_distinct",
        )
table(compare.rows(grids, predictions, axis), alt="Every quantity of every model", key="cmp_rows")
explained("How this is computed", HOW)
