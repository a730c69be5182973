"""Compare: two to four models on one workload, over batch or context."""

from typing import get_args

import streamlit as st

from costmodel.costs.predict import Prediction
from costmodel.errors import InputError
from costmodel.inputs.catalog import model_names, numbered
from costmodel.inputs.model import ModelConfig
from costmodel.questions.compare import sentences
from costmodel.questions.compare_mesh import mesh_sentences
from costmodel.questions.grid import Grid
from costmodel.questions.request import MAX_PRICE_PER_HOUR
from costmodel.questions.sparse_attention import payoff_sentences
from costmodel.routing.popularity import UNIFORM_OVERSTATES
from costmodel.show.tables.comparison import kept_table
from costmodel.show.tables.mesh import NOT_MEASURED
from costmodel.show.tables.notes import workload_words
from dashboard.app.address import linked, number, one_of, some_of, switch
from dashboard.app.measured_points import (
    Along,
    distinct_points,
    left_out,
    on_gpu,
    points,
    recorded,
)
from dashboard.app.pins import MOST_COMPARED, kept_elsewhere, land, link, pinned, take_linked
from dashboard.app.selection import OWN, Selection, kept_model
from dashboard.app.shell import current_selection, refused
from dashboard.app.widgets import cards, chart, explained, plain, table, text_table
from dashboard.pages.compare import charts, data, decision
from dashboard.pages.compare.measured_table import measured_rows
from dashboard.pages.compare.ratio import ratio_alt, ratio_chart

PAIR = ["olmoe-1b-7b", "ultramemv2-1b-7b"]
FEWEST, MOST = 2, MOST_COMPARED
PRICE_WIDTH = 280  # pixels
AXES: tuple[Along, ...] = get_args(Along)
HOW = """\
Each line is the prediction of one model at every point of the axis; `sparsecost compare` prints the
same at batches of your choice. Crossovers are sought over batches 1 to 1,048,576: a scan in steps
of 2 % of the batch, then a bisection wherever the sign of the difference changes, so that two
crossovers nearer than 2 % to each other are missed. The largest batch that fits is (capacity -
weights - buffers) / (KV cache and activations of one sequence). Measured HBM bytes are the reads
that hardware counters saw; compulsory bytes are reads and writes. The distinct experts or rows of a
layer are an expectation under the chosen routing (uniform: E (1 - (1 - k/E)^N)); the measured ones
are what a recorded step chose, as a mean over the layers."""


def chosen_models(selection: Selection) -> list[ModelConfig]:
    """The chosen presets and pinned designs and, if the toggle is on, the sidebar's model."""
    take_linked()
    land("cmp_models")
    pins = pinned()
    offered = [*model_names(), *pins]
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    names = left.multiselect(
        "Models, the first is the reference",
        offered,
        default=PAIR,
        max_selections=MOST,
        **linked("cmp_models", some_of(offered, most=MOST, check=kept_elsewhere), instead=PAIR),
        help="Designs pinned on the page Trade-offs stand at the end; links carry the chosen ones.",
    )
    link([name for name in names if name in pins])
    added = right.toggle(
        f"And the sidebar's model, {plain(selection.model.name)}",
        value=True,
        **linked("cmp_add", switch(), instead=True),
        help=f"Without effect where it is among the models already, or {MOST} are chosen.",
    )
    models = [kept_model(OWN, pins[name]) if name in pins else kept_model(name) for name in names]
    if added and selection.model not in models and len(models) < MOST:
        models.append(selection.model)
    if not FEWEST <= len(models) <= MOST:
        raise InputError(f"models={len(models)}: {FEWEST} to {MOST} are compared")
    return numbered(models)


def draw_meshes(predictions: list[Prediction], grids: list[Grid]) -> None:
    """Who is faster at which batch on several GPUs, and the mesh of each model."""
    for sentence in mesh_sentences(data.meshed_rows(predictions, grids)):
        st.info(plain(sentence))
    meshes = "; ".join(f"{one.model.name}: {one.workload.mesh.label}" for one in predictions)
    st.caption(plain(f"{meshes}, at every point. {NOT_MEASURED}"))


selection = current_selection()
top = st.container()
try:
    models = chosen_models(selection)
    predictions = [selection.predict(model) for model in models]
except InputError as error:
    with top:
        refused("These models cannot be compared", str(error))
    st.stop()
opening = data.PREDICTED_TIME if decision.timed(predictions) else data.BOUND_TIME
with st.container(horizontal=True):
    name = str(
        st.segmented_control(
            "Compared by",
            list(data.COMPARED),
            default=opening,
            required=True,
            **linked("cmp_by", one_of(data.COMPARED, formerly=data.FORMERLY), instead=opening),
            label_visibility="collapsed",
        )
    )
    axis = st.segmented_control(
        "Over",
        AXES,
        default=AXES[0],
        required=True,
        **linked("cmp_over", one_of(AXES), instead=AXES[0]),
        label_visibility="collapsed",
    )
drawn = st.container()
price = st.number_input(
    "Price of one GPU, USD an hour",
    min_value=0.0,
    max_value=MAX_PRICE_PER_HOUR,
    value=None,
    placeholder="no price",
    width=PRICE_WIDTH,
    **linked("cmp_price", number(0, MAX_PRICE_PER_HOUR, may_be_empty=True), instead=None),
)
quantity = data.COMPARED[name]
meshed = any(prediction.gpus > 1 for prediction in predictions)
workloads = [prediction.workload for prediction in predictions]
grids = data.over(models, selection, axis)
decisive = data.advantages(models, predictions, selection, data.COMPARED[opening])
advantages = []
if axis == "batch":
    advantages = (
        decisive if name == opening else data.advantages(models, predictions, selection, quantity)
    )
recordings = [{} if meshed else recorded(model) for model in models]

with top:
    st.title(plain(decision.headline(predictions)))
    st.caption(plain(f"{workload_words(*workloads)}, on {selection.hardware.name}"))
    st.markdown(
        plain(
            decision.sentence(
                predictions,
                decision.measured_times(predictions, recordings, selection.hardware_name),
                decisive,
                price,
            )
        )
    )
    if large := data.too_large(predictions):
        at = f"batch {selection.workload.batch:,}, context {selection.workload.context:,}"
        st.warning(plain(f"At {at} these do not fit into the GPU's memory: {', '.join(large)}"))
if reason := decision.not_predicted(predictions, recordings):
    st.info(plain(reason))
measured = [
    on_gpu(points(of_model, quantity.axis.quantity.name, workload, axis), selection.hardware_name)
    for of_model, workload in zip(recordings, workloads, strict=True)
]
others = left_out(recordings, quantity.axis.quantity.name, workloads, axis, selection.hardware_name)
with drawn:
    if name != opening:
        st.subheader(plain(data.answer(predictions, grids, name)))
    ratios = ratio_chart(grids, name, axis, measured)
    if ratios is not None:
        chart(ratios, alt=ratio_alt(grids, name, axis), key="cmp_ratio")
of_choice = [words for prediction in predictions for words in payoff_sentences(prediction)]
for sentence in (*sentences(advantages), *of_choice):
    st.info(plain(sentence))
if meshed:
    draw_meshes(predictions, grids)
cards(data.cards(predictions, grids, name), across=len(models))
chart(
    charts.main_chart(
        grids,
        name,
        axis,
        advantages=advantages,
        max_batches=[int(prediction.memory.max_batch) for prediction in predictions],
        points=measured,
    ),
    alt=charts.main_alt(grids, name, axis, advantages),
    key="cmp_main",
)
if meshed:
    st.caption("Recordings are of one GPU, so that no measured points are shown.")
elif not any(measured):
    here = f"{selection.hardware.name}, {selection.workload.backend}"
    st.caption(plain(f"No recording of {here} holds this quantity of these models and steps."))
if others:
    st.caption(plain(f"Not in this chart: what {'; '.join(others)} measured of the same steps."))
if axis == "batch":
    distinct = charts.distinct_chart(
        grids,
        [
            distinct_points(of_model, workload)
            for of_model, workload in zip(recordings, workloads, strict=True)
        ],
    )
    if distinct is None:
        st.caption("None of these models has experts or memory rows.")
    else:
        st.subheader("How many different experts or rows does a layer touch?")
        chart(
            distinct,
            alt="Expected distinct experts and rows of a layer over batch, both axes logarithmic,"
            " with measured points where recordings hold any.",
            key="cmp_distinct",
        )
table(data.rows(grids, predictions, axis), alt="Every quantity of every model", key="cmp_rows")
by_backends = measured_rows(models, recordings, workloads[0], axis)
if by_backends:
    st.subheader("What was measured, by each backend?")
    table(by_backends, alt="Measured steps of every model by every backend", key="cmp_measured")
text_table(kept_table(predictions), key="cmp_kept")
explained("How this is computed", f"{HOW} {UNIFORM_OVERSTATES}")
