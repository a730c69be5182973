"""The half of the page Trade-offs that sweeps: ranges, the scatter, its front, pins."""

from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from costmodel.costs.predicted import NOT_ASKED
from costmodel.designs import evaluate
from costmodel.errors import InputError
from costmodel.inputs.workload_spec import parse_batches, parse_contexts
from dashboard import tradeoff_charts as charts
from dashboard import tradeoffs
from dashboard.pins import pin, pinned, unpin
from dashboard.selection import Selection
from dashboard.shell import LINK
from dashboard.tradeoffs import Designs
from dashboard.widgets import Card, cards, chart, explained, plain, table

LAST = "_sweep"  # where a session keeps its latest sweep
ALL = "all"
NO_LIMIT = "no limit"
GIB = ("1", "2", "4", "8", "16", "24", "32", "40", "48", "64", "80", "96", "128", "141", NO_LIMIT)
BILLIONS = ("0.5", "1", "2", "4", "7", "10", "14", "20", "30", "50", "100", "200", "400", NO_LIMIT)
MAX_TEXT = 400  # characters of a range
HOW = """\
Every combination of the ranges becomes a model, which the rules of its layers check; each is costed
at every batch and context, as `predict` does. Parameters are without embeddings and LM head; bytes,
times, memory and KV cache are those of one step. A point stands on the Pareto front if no other
allowed point is at least as good on both axes and better on one. Of total parameters more is
better, of all else less. The predicted time is worked out when an axis or the colour shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What the chart shows."""

    x: str
    y: str
    coloured: str


def draw_sweep(found: Selection) -> None:
    """The ranges, the chart, the front."""
    fields = tradeoffs.swept_fields(found.model)
    if not fields:
        st.title("Which design is worth its cost?")
        st.info("This model has neither experts nor memory layers: choose one that has.")
        return
    top = st.container()
    texts = _ranges(fields, found)
    axes = _axes()
    try:
        swept, made = _swept(
            found, texts, timed="predicted time" in (axes.x, axes.y, axes.coloured)
        )
    except InputError as error:
        st.error(plain(str(error)))
        return
    if made.refused:
        said = "; ".join(made.reasons)
        st.warning(plain(f"{made.refused:,} designs break a rule and are left out: {said}"))
    if isinstance(swept, str):
        st.info(plain(swept))
        return
    _results(found, swept, made, axes, top)


def _ranges(fields: list[tradeoffs.Field], found: Selection) -> dict[str, str]:
    """The ranges as they are typed; an empty one is the usual one."""
    texts = {}
    places = st.columns(3)
    for index, field in enumerate(fields):
        texts[field.name] = (
            places[index % 3].text_input(
                field.label,
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
    names = list(charts.MEASURES)
    chosen = [
        str(place.selectbox(label, names, index=names.index(usual), key=key, bind=LINK))
        for place, label, usual, key in zip(
            st.columns(3),
            ("Across", "Up", "Colour"),
            ("total parameters", "HBM bytes", "active parameters"),
            ("to_x", "to_y", "to_colour"),
            strict=True,
        )
    ]
    return Axes(x=chosen[0], y=chosen[1], coloured=chosen[2])


def _swept(
    found: Selection, texts: dict[str, str], *, timed: bool
) -> tuple[charts.Sweep | str, Designs]:
    """The sweep, or why there is none; the latest one of a session is kept."""
    key = (found, texts, timed)
    kept = st.session_state.get(LAST)
    if kept is not None and kept[0] == key:
        result: tuple[charts.Sweep | str, Designs] = kept[1]
        return result
    batches, contexts = parse_batches(texts["batch"]), parse_contexts(texts["context"])
    workloads = len(batches) * len(contexts)
    if workloads > tradeoffs.MAX_WORKLOADS:
        raise InputError(
            f"workloads={workloads:,}: at most {tradeoffs.MAX_WORKLOADS:,} are costed at once"
        )
    made = tradeoffs.designs(
        found.model,
        {
            name: tradeoffs.parse_range(text, name)
            for name, text in texts.items()
            if name not in ("batch", "context")
        },
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
        found.calibration if timed else NOT_ASKED,
        batches=batches,
        contexts=contexts,
    )
    answer: charts.Sweep | str = charts.Sweep(
        evaluated=evaluated, values=made.values, batches=batches, contexts=contexts
    )
    if not made.models:
        answer = "Every design breaks a rule: nothing is left to draw."
    elif timed and evaluated.not_predicted is not None:
        answer = f"Not predicted: {evaluated.not_predicted}. Choose another axis."
    st.session_state[LAST] = (key, (answer, made))
    return answer, made


def _results(
    found: Selection, swept: charts.Sweep, made: Designs, axes: Axes, top: DeltaGenerator
) -> None:
    """What is allowed, the chart, the front's table and the pins."""
    workloads = {f"batch {b}, context {c}": (b, c) for b in swept.batches for c in swept.contexts}
    first, second, third, fourth = st.columns([2, 2, 2, 1], vertical_alignment="bottom")
    at = str(first.selectbox("Workload shown", [*workloads, ALL], key="to_at", bind=LINK))
    memory = second.select_slider(
        "Memory at most, GiB", GIB, value=NO_LIMIT, key="to_gib", bind=LINK
    )
    most = third.select_slider(
        "Total parameters at most, B", BILLIONS, value=NO_LIMIT, key="to_most", bind=LINK
    )
    logarithmic = fourth.toggle("Logarithmic", key="to_log", bind=LINK)
    mask = charts.allowed(
        swept,
        workload=workloads.get(at),
        memory_gib=None if memory == NO_LIMIT else float(memory),
        parameters_b=None if most == NO_LIMIT else float(most),
    )
    best = charts.front(swept.evaluated, axes.x, axes.y, mask)
    shown = int(mask.sum())
    with top:
        st.title(plain(f"Which designs of {found.model.name} are worth their {axes.y}?"))
        cards(
            [
                Card(label="Designs", value=f"{len(made.models):,}"),
                Card(label="Designs x workloads costed", value=f"{swept.evaluated_points:,}"),
                Card(label="Allowed at the workload shown", value=f"{shown:,}"),
                Card(label="On the Pareto front", value=f"{len(best):,}"),
            ]
        )
    if not shown:
        st.info("No design is allowed: loosen a limit.")
        return
    figure = charts.scatter(
        swept, mask, best, x=axes.x, y=axes.y, coloured=axes.coloured, logarithmic=logarithmic
    )
    chart(figure, alt=charts.scatter_alt(swept, best, axes.x, axes.y, shown), key="to_scatter")
    if shown > charts.MAX_DRAWN:
        st.caption("Too many points to draw: every n-th is shown, and all of the front.")
    st.subheader("The Pareto front")
    table(charts.front_rows(swept, best), alt="Designs on the Pareto front", key="to_front")
    _pins(found, swept, made, sorted({swept.at(int(index))[0] for index in best}))
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
