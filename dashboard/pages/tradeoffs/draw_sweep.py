"""Draws the half of the page Trade-offs that sweeps: ranges, the scatter, its front, pins."""

from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from costmodel.errors import InputError
from costmodel.show.text import capitalised
from dashboard.app.address import linked, one_of, switch, text_up_to
from dashboard.app.pins import pin_to_compare, pinned, unpin
from dashboard.app.selection import Selection
from dashboard.app.shell import refused
from dashboard.app.widgets import Card, cards, chart, explained, plain, table
from dashboard.pages.tradeoffs import charts, data
from dashboard.pages.tradeoffs.answer import answer
from dashboard.pages.tradeoffs.data import Designs, SweptField
from dashboard.pages.tradeoffs.sweep import (
    DESIGN_QUANTITIES,
    FORMERLY,
    PREDICTED_TIME,
    TOTAL,
    Sweep,
    allowed,
    front,
    front_rows,
    run_sweep,
)

LAST = "_sweep"  # where a session keeps its latest sweep
ALL = "all"
NO_LIMIT = "no limit"
LIMITS = {  # by quantity: the key in the link, and the limits to choose from, in its unit
    "memory": ("to_gib", "1 2 4 8 16 24 32 40 48 64 80 96 128 141"),
    TOTAL: ("to_most", "0.5 1 2 4 7 10 14 20 30 50 100 200 400"),
    "active parameters": ("to_active", "0.1 0.2 0.5 0.7 1 1.5 2 3 4 7 10 14 20 40 70"),
    PREDICTED_TIME: ("to_ms", "0.1 0.2 0.5 1 2 3 5 7 10 15 20 30 50 100 200 500 1000 10000"),
}
NARROW = 180  # pixels of a control
MAX_TEXT = 400  # characters of a range
MAX_FRONT = 1000  # points of the front drawn and listed; where designs tie, all may be on it
HOW = """\
Every combination of the ranges becomes a design: a model that the rules of its layers check and
that is costed at every batch and context, as `sparsecost predict` does. Parameters are without
embeddings and LM head; bytes, times, memory and KV cache are those of one step. A design is on the
Pareto front if no other one within the limits is at least as good on both axes and better on one.
More total parameters are better; of all other quantities less is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """The quantities along the axes of the chart, and the one that colours its points."""

    x: str
    y: str
    coloured: str


def draw_sweep(selection: Selection, top: DeltaGenerator) -> None:
    """The ranges, the answer in `top`, the chart and the front."""
    fields = data.swept_fields(selection.model)
    if not fields:
        top.title(plain(f"{selection.model.name} has nothing to sweep"))
        st.info("This model has neither experts nor memory layers: choose one that has.")
        return
    with st.expander("What is swept: sizes, batches, contexts", key="to_ranges"):
        texts = _ranges(fields, selection)
    axes = _axes(fields)
    try:
        sweep, designs = _sweep(selection, fields, texts)
    except InputError as error:
        with top:
            refused("These designs cannot be swept", str(error))
        return
    if designs.refused:
        reasons = "; ".join(designs.reasons)
        st.warning(plain(f"{designs.refused:,} designs break a rule and are left out: {reasons}"))
    unknown, transfer = sweep.evaluated.not_predicted, sweep.evaluated.transfer
    if not designs.models or (unknown and PREDICTED_TIME in (axes.x, axes.y, axes.coloured)):
        top.title("Nothing to draw")
        st.info(
            plain(f"Not predicted: {unknown}. Choose another axis.")
            if designs.models
            else "Every design breaks a rule."
        )
        return
    if transfer is not None and PREDICTED_TIME in (axes.x, axes.y, axes.coloured):
        st.info(plain(f"{capitalised(PREDICTED_TIME)}: {transfer.label}."))
    _results(selection, sweep, designs, axes, top)


def _ranges(fields: list[SweptField], selection: Selection) -> dict[str, str]:
    """The ranges as typed, by field, batch and context; the default where nothing is typed."""
    texts = {}
    grid = st.grid(3)
    for field in fields:
        texts[field.name] = (
            grid.text_input(
                field.size.label,
                placeholder=field.default,
                max_chars=MAX_TEXT,
                **linked(f"to_{field.name}", text_up_to(MAX_TEXT), instead=field.default),
                help=f"A list, 64,128,256, or from-to/step, 64-256/64. Empty: {field.default}",
            )
            or field.default
        )
    left, right = st.columns(2)
    for name, place, own in (
        ("batch", left, selection.workload.batch),
        ("context", right, selection.workload.context),
    ):
        texts[name] = place.text_input(
            "Batches, sequences" if name == "batch" else "Contexts, cached tokens a sequence",
            placeholder=str(own),
            max_chars=MAX_TEXT,
            **linked(f"to_{name}", text_up_to(MAX_TEXT), instead=own),
            help="A list, 1,64,1024. Empty: the sidebar's.",
        ) or str(own)
    return texts


def _axes(fields: list[SweptField]) -> Axes:
    """The quantities of the chart: of the designs, or any of the swept sizes."""
    sizes = {field.name: field.size.label for field in fields}
    about = "; ".join(f"{name}: {label}" for name, label in sizes.items())
    names, grid = [*DESIGN_QUANTITIES, *sizes], st.grid(3, min_column_width=NARROW)
    chosen = [
        str(
            grid.selectbox(
                label,
                names,
                index=names.index(usual),
                **linked(key, one_of(names, formerly=FORMERLY), instead=usual),
                help=f"A number of a design, or a size that is swept: {about}.",
            )
        )
        for label, usual, key in zip(
            ("Across", "Up", "Colour"),
            (TOTAL, "HBM bytes", "active parameters"),
            ("to_x", "to_y", "to_colour"),
            strict=True,
        )
    ]
    return Axes(x=chosen[0], y=chosen[1], coloured=chosen[2])


def _sweep(
    selection: Selection, fields: list[SweptField], texts: dict[str, str]
) -> tuple[Sweep, Designs]:
    """The sweep and its designs; the latest one of a session is kept."""
    key = (selection, texts)
    kept = st.session_state.get(LAST)
    if kept is not None and kept[0] == key:
        latest: tuple[Sweep, Designs] = kept[1]
        return latest
    result = run_sweep(selection, fields, texts)
    st.session_state[LAST] = (key, result)
    return result


def _limits(place: DeltaGenerator, not_predicted: str | None) -> dict[str, float]:
    """The limits that are set, by quantity; their sliders are in a popover that counts them."""
    known = {
        name: (key, (*steps.split(), NO_LIMIT))
        for name, (key, steps) in LIMITS.items()
        if name != PREDICTED_TIME or not_predicted is None
    }
    state = {**st.query_params.to_dict(), **st.session_state.to_dict()}  # no slider is drawn yet
    count = sum(state.get(key) in steps[:-1] for key, steps in known.values())
    limits = {}
    with place.popover(f"Limits: {count or 'none'} set", width="stretch", key="to_limits"):
        grid = st.grid(2, min_column_width=180)
        for name, (key, steps) in known.items():
            label = f"{DESIGN_QUANTITIES[name].axis.heading}, at most"
            most = grid.select_slider(
                label, steps, value=NO_LIMIT, **linked(key, one_of(steps), instead=NO_LIMIT)
            )
            if most != NO_LIMIT:
                limits[name] = float(most)
        st.caption("Only designs within all limits are drawn and can be on the front.")
        if not_predicted is not None:
            st.caption(plain(f"No limit of predicted time. Not predicted: {not_predicted}"))
    return limits


def _results(
    selection: Selection, sweep: Sweep, designs: Designs, axes: Axes, top: DeltaGenerator
) -> None:
    """The workload shown, the limits, the chart, the table of the front and the pins."""
    workloads = {f"batch {b}, context {c}": (b, c) for b in sweep.batches for c in sweep.contexts}
    grid = st.grid(3, min_column_width=NARROW, vertical_alignment="bottom")
    at = str(
        grid.selectbox(
            "Workload shown",
            [*workloads, ALL],
            **linked("to_at", one_of([*workloads, ALL]), instead=next(iter(workloads))),
        )
    )
    limits = _limits(grid, sweep.evaluated.not_predicted)
    with grid.container():
        logarithmic = st.toggle("Logarithmic axes", **linked("to_log", switch(), instead=False))
        from_zero = st.toggle(
            "Axes from zero",
            value=True,
            **linked("to_zero", switch(), instead=True),
            help="Otherwise they begin near the points, and say how far apart these are.",
        )
    mask = allowed(sweep, workload=workloads.get(at), limits=limits)
    best = front(sweep, axes.x, axes.y, mask)
    count = int(mask.sum())
    with top:
        name = selection.model.name
        if count:
            st.title(plain(answer(sweep, mask, best, x=axes.x, y=axes.y, model=name)))
        else:
            st.title(plain(f"No design of {name} is within the limits"))
            st.info("Loosen one of the limits.")
    listed = data.spread(best, MAX_FRONT)
    if count:
        figure = charts.scatter(
            sweep,
            mask,
            listed,
            x=axes.x,
            y=axes.y,
            coloured=axes.coloured,
            logarithmic=logarithmic,
            from_zero=from_zero,
        )
        chart(figure, alt=charts.scatter_alt(sweep, best, axes.x, axes.y, count), key="to_scatter")
    stars = charts.front_name(axes.x, axes.y)
    cards(
        [
            Card(label="Designs", value=f"{len(designs.models):,}"),
            Card(label="Designs x workloads costed", value=f"{sweep.design_points:,}"),
            Card(label="Within the limits", value=f"{count:,}"),
            Card(label=plain(capitalised(stars)), value=f"{len(best):,}"),
        ]
    )
    if not count:
        return
    if count > charts.MAX_DRAWN:
        st.caption(f"A random sample is drawn: {charts.MAX_DRAWN:,} of the {count:,} points.")
    if len(listed) < len(best):
        st.caption(
            f"Of the {len(best):,} points of the front, {len(listed):,} are drawn and listed."
        )
    st.subheader(plain(capitalised(stars)))
    table(front_rows(sweep, listed), alt=f"Designs: {stars}", key="to_front")
    _pins(selection, sweep, designs, sorted({sweep.at(int(point))[0] for point in listed}))
    explained("How this is computed", HOW)


def _pins(selection: Selection, sweep: Sweep, designs: Designs, best: list[int]) -> None:
    """Buttons that pin designs of the front, so that the page Compare offers them."""
    words = {data.label(sweep.values[index]): index for index in best}
    chosen = st.multiselect("Designs to pin to Compare", list(words), key="to_pins")
    with st.container(horizontal=True):
        if st.button("Pin to Compare", disabled=not chosen, key="to_pin"):
            pin_to_compare(
                [data.named(selection.model, designs.models[words[text]], text) for text in chosen],
                selection.model_name,
            )
        st.button("Forget all pins", disabled=not pinned(), on_click=unpin, key="to_unpin")
