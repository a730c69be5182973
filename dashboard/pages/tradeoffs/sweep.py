"""The half of the page Trade-offs that sweeps: ranges, the scatter, its front, pins."""

from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from costmodel.errors import InputError
from costmodel.inputs.parse import parse_batches, parse_contexts
from costmodel.questions.designs.evaluate import evaluate
from dashboard.app.pins import pin, pinned, unpin
from dashboard.app.selection import Selection
from dashboard.app.shell import LINK, refused
from dashboard.app.widgets import Card, cards, chart, explained, plain, table
from dashboard.pages.tradeoffs import charts
from dashboard.pages.tradeoffs import data as tradeoffs
from dashboard.pages.tradeoffs.data import Designs

LAST = "_sweep"  # where a session keeps its latest sweep
ALL = "all"
NO_LIMIT = "no limit"
LIMITS = {  # by measure: the key in the link, and what it may be at most, in the measure's unit
    "memory": ("to_gib", "1 2 4 8 16 24 32 40 48 64 80 96 128 141"),
    "total parameters": ("to_most", "0.5 1 2 4 7 10 14 20 30 50 100 200 400"),
    "active parameters": ("to_active", "0.1 0.2 0.5 0.7 1 1.5 2 3 4 7 10 14 20 40 70"),
    "predicted time": ("to_ms", "0.1 0.2 0.5 1 2 3 5 7 10 15 20 30 50 100 200 500 1000 10000"),
}
MAX_TEXT = 400  # characters of a range
MAX_FRONT = 1000  # points of the front drawn and listed; where designs tie, all may stand on it
HOW = """\
Every combination of the ranges becomes a model, which the rules of its layers check; each is costed
at every batch and context, as `predict` does. Parameters are without embeddings and LM head; bytes,
times, memory and KV cache are those of one step. A point stands on the Pareto front if no other
allowed point is at least as good on both axes and better on one. Of total parameters more is
better, of all else less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What the chart shows."""

    x: str
    y: str
    coloured: str


def draw_sweep(found: Selection, top: DeltaGenerator) -> None:
    """The ranges; in `top` the answer; then the chart and the front."""
    fields = tradeoffs.swept_fields(found.model)
    if not fields:
        top.title(plain(f"{found.model.name} has nothing to sweep"))
        st.info("This model has neither experts nor memory layers: choose one that has.")
        return
    with st.expander("What is swept: sizes, batches, contexts", key="to_ranges"):
        texts = _ranges(fields, found)
    axes = _axes()
    try:
        swept, made = _swept(found, fields, texts)
    except InputError as error:
        with top:
            refused("No sweep was made", str(error))
        return
    if made.refused:
        said = "; ".join(made.reasons)
        st.warning(plain(f"{made.refused:,} designs break a rule and are left out: {said}"))
    unknown = swept.evaluated.not_predicted
    if not made.models or (unknown and "predicted time" in (axes.x, axes.y, axes.coloured)):
        top.title("Nothing to draw")
        st.info(
            plain(f"Not predicted: {unknown}. Choose another axis.")
            if made.models
            else "Every design breaks a rule."
        )
        return
    _results(found, swept, made, axes, top)


def _ranges(fields: list[tradeoffs.SweptField], found: Selection) -> dict[str, str]:
    """The ranges as they are typed; an empty one is the usual one."""
    texts = {}
    grid = st.grid(3)
    for field in fields:
        texts[field.name] = (
            grid.text_input(
                field.size.label,
                placeholder=field.default,
                max_chars=MAX_TEXT,
                key=f"to_{field.name}",
                bind=LINK,
                help=f"A list, 64,128,256, or from-to/step, 64-256/64. Empty: {field.default}",
            )
            or field.default
        )
    left, right = st.columns(2)
    for name, place, own in (
        ("batch", left, found.workload.batch),
        ("context", right, found.workload.context),
    ):
        texts[name] = place.text_input(
            "Batches, sequences" if name == "batch" else "Contexts, cached tokens a sequence",
            placeholder=str(own),
            max_chars=MAX_TEXT,
            key=f"to_{name}",
            bind=LINK,
            help="A list, 1,64,1024. Empty: the sidebar's.",
        ) or str(own)
    return texts


def _axes() -> Axes:
    names, grid = list(charts.MEASURES), st.grid(3)
    chosen = [
        str(grid.selectbox(label, names, index=names.index(usual), key=key, bind=LINK))
        for label, usual, key in zip(
            ("Across", "Up", "Colour"),
            ("total parameters", "HBM bytes", "active parameters"),
            ("to_x", "to_y", "to_colour"),
            strict=True,
        )
    ]
    return Axes(x=chosen[0], y=chosen[1], coloured=chosen[2])


def _swept(
    found: Selection, fields: list[tradeoffs.SweptField], texts: dict[str, str]
) -> tuple[charts.Sweep, Designs]:
    """The sweep and its designs; the latest ones of a session are kept."""
    key = (found, texts)
    kept = st.session_state.get(LAST)
    if kept is not None and kept[0] == key:
        result: tuple[charts.Sweep, Designs] = kept[1]
        return result
    batches, contexts = parse_batches(texts["batch"]), parse_contexts(texts["context"])
    workloads = len(batches) * len(contexts)
    if workloads > tradeoffs.MAX_WORKLOADS:
        raise InputError(
            f"workloads={workloads:,}: at most {tradeoffs.MAX_WORKLOADS:,} are costed at once"
        )
    made = tradeoffs.designs(
        found.model,
        {field.name: tradeoffs.parse_range(texts[field.name], field) for field in fields},
    )
    points = (len(made.models) + 1) * workloads
    if points > tradeoffs.MAX_POINTS:
        raise InputError(
            f"sweep={points:,} designs x workloads: at most {tradeoffs.MAX_POINTS:,} are costed"
        )
    evaluated = evaluate(
        [*made.models, found.model],
        found.workload,
        found.hardware,
        found.calibration,
        batches=batches,
        contexts=contexts,
    )
    swept = charts.Sweep(
        evaluated=evaluated, values=made.values, batches=batches, contexts=contexts
    )
    st.session_state[LAST] = (key, (swept, made))
    return swept, made


def _limits(place: DeltaGenerator, not_predicted: str | None) -> dict[str, float]:
    """The limits that are set, by measure; a button that says how many holds their sliders."""
    known = {
        name: (key, (*steps.split(), NO_LIMIT))
        for name, (key, steps) in LIMITS.items()
        if name != "predicted time" or not_predicted is None
    }
    asked = {**st.query_params.to_dict(), **st.session_state.to_dict()}  # no slider is drawn yet
    count = sum(asked.get(key) in steps[:-1] for key, steps in known.values())
    found = {}
    with place.popover(f"Limits: {count or 'none'} set", width="stretch", key="to_limits"):
        grid = st.grid(2, min_column_width=180)
        for name, (key, steps) in known.items():
            label = f"{name[0].upper()}{name[1:]} at most, {charts.MEASURES[name].unit}"
            most = grid.select_slider(label, steps, value=NO_LIMIT, key=key, bind=LINK)
            if most != NO_LIMIT:
                found[name] = float(most)
        st.caption("Only designs within every limit are drawn and may stand on the front.")
        if not_predicted is not None:
            st.caption(plain(f"No limit of predicted time. Not predicted: {not_predicted}"))
    return found


def _results(
    found: Selection, swept: charts.Sweep, made: Designs, axes: Axes, top: DeltaGenerator
) -> None:
    """What is allowed, the chart, the front's table and the pins."""
    workloads = {f"batch {b}, context {c}": (b, c) for b in swept.batches for c in swept.contexts}
    grid = st.grid(3, vertical_alignment="bottom")
    at = str(grid.selectbox("Workload shown", [*workloads, ALL], key="to_at", bind=LINK))
    limits = _limits(grid, swept.evaluated.not_predicted)
    logarithmic = grid.toggle("Logarithmic axes", key="to_log", bind=LINK)
    mask = charts.allowed(swept, workload=workloads.get(at), limits=limits)
    best = charts.front(swept.evaluated, axes.x, axes.y, mask)
    shown = int(mask.sum())
    with top:
        st.title(
            plain(
                f"{len(best):,} of {shown:,} designs of {found.model.name} are on the Pareto front"
                f" of {axes.x} and {axes.y}"
            )
        )
        cards(
            [
                Card(label="Designs", value=f"{len(made.models):,}"),
                Card(label="Designs x workloads costed", value=f"{swept.evaluated_points:,}"),
                Card(label="Within the limits", value=f"{shown:,}"),
                Card(label="On the Pareto front", value=f"{len(best):,}"),
            ]
        )
    if not shown:
        st.info("No design is allowed: loosen a limit.")
        return
    listed = tradeoffs.spread(best, MAX_FRONT)
    figure = charts.scatter(
        swept, mask, listed, x=axes.x, y=axes.y, coloured=axes.coloured, logarithmic=logarithmic
    )
    chart(figure, alt=charts.scatter_alt(swept, best, axes.x, axes.y, shown), key="to_scatter")
    if shown > charts.MAX_DRAWN:
        st.caption(f"{charts.MAX_DRAWN:,} of the {shown:,} points are drawn, chosen by lot.")
    if len(listed) < len(best):
        st.caption(f"{len(listed):,} points, spread along the front, are drawn and listed.")
    st.subheader("The Pareto front")
    table(charts.front_rows(swept, listed), alt="Designs on the Pareto front", key="to_front")
    _pins(found, swept, made, sorted({swept.at(int(index))[0] for index in listed}))
    explained("How this is computed", HOW)


def _pins(found: Selection, swept: charts.Sweep, made: Designs, best: list[int]) -> None:
    """Designs of the front that the page Compare shall offer."""
    words = {tradeoffs.label(swept.values[index]): index for index in best}
    chosen = st.multiselect("Designs to pin to Compare", list(words), key="to_pins")
    with st.container(horizontal=True):
        if st.button("Pin to Compare", disabled=not chosen, key="to_pin"):
            try:
                pin(
                    [
                        tradeoffs.named(found.model, made.models[words[each]], each)
                        for each in chosen
                    ]
                )
            except InputError as error:
                st.error(plain(str(error)))
            else:
                st.success("Pinned: choose them on the page Compare.")
        st.button("Forget all pins", disabled=not pinned(), on_click=unpin, key="to_unpin")
