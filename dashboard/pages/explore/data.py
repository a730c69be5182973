"""The Explore page as data: its title, its cards, the memory bar and the rows of its tables.

Numbers are those of `predict --json`, formatted by `costmodel.units`.
"""

from dataclasses import dataclass, replace
from typing import Any

from costmodel import units
from costmodel.costs.intervals import COVERAGE
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.quantity import DIGITS
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.costs.roofline import PROMISE
from costmodel.inputs.workload import MAX_CONTEXT
from costmodel.layers.numbers import Number
from costmodel.routing.popularity import UNIFORM_OVERSTATES
from costmodel.show.axis import Axis
from costmodel.show.tables.mesh import mesh_words
from costmodel.show.tables.notes import formats_words
from costmodel.show.text import capitalised
from costmodel.show.told_times import MARK, digits_of, interval_words, row_digits, shown
from dashboard.app.widgets import Card

JSON = dict[str, Any]
SHARE_DIGITS = 3  # significant ones of a share in percent
BOUND_US = Axis(quantity=STEP_QUANTITIES["operators.floor_s"], prefix="u")
PREDICTED_US = Axis(quantity=STEP_QUANTITIES["operators.predicted_s"], prefix="u")


def answer(prediction: Prediction, measured_s: float | None = None) -> str:
    """The page's title: predicted time, measured time where the very step was, roofline bound.

    That a step does not fit comes first.
    """
    label = STEP_QUANTITIES["time.floor_s"].label
    bound = f"{_time(prediction.floor_s)} {label} ({prediction.bound_by})"
    time = prediction.time
    predicted = "" if isinstance(time, Unknown) else f"{_predicted(time)}, "
    seen = "" if measured_s is None else f"{_time(measured_s)} measured, "
    fits = "" if prediction.memory.fits else "does NOT fit; with enough memory "
    return f"{prediction.model.name}: {fits}{predicted}{seen}{bound}"


def question(prediction: Prediction) -> str:
    """The line below the title: phase, batch, context, GPU and storage formats."""
    workload = prediction.workload
    if workload.phase == "decode":
        step = f"decode at batch {workload.batch:,} and {workload.context:,} cached tokens"
    else:
        step = f"prefill of {workload.batch:,} x {workload.new_tokens:,} tokens"
        if workload.context:
            step += f" after {workload.context:,} cached ones each"
    on = f"{prediction.hardware.name}{mesh_words(workload)}"
    return f"One step of {step} on {on}, {formats_words(workload)}"


def _predicted(time: StepTime) -> str:
    """The predicted time with its interval; where it is transferred, from where."""
    about = "" if time.transfer is None else "about "
    seconds = units.seconds(units.rounded(float(time.predicted_s), digits_of(time)))
    within = [] if time.interval_s is None else [interval_words(time.interval_s)]
    if time.transfer is not None:
        within.append(f"transferred from {time.transfer.source}")
    return f"{about}{seconds} predicted" + (f" ({'; '.join(within)})" if within else "")


def _time(seconds: Number) -> str:
    """Seconds with three digits, for a sentence."""
    return units.seconds(float(f"{float(seconds):.3g}"))


def reasons(data: JSON) -> list[str]:
    """Why time or energy is not predicted, each reason once."""
    given = [data["reasons"].get(name) for name in ("time.predicted_s", "energy.predicted_j")]
    return list(dict.fromkeys(reason for reason in given if reason is not None))


def cards(data: JSON) -> list[Card]:
    """The cards of one step, from the JSON of its prediction."""
    time, energy, flops = data["time"], data["energy"], data["flops"]
    parameters, kv, routing = data["parameters"], data["kv_cache"], data["routing"]
    moved = data["hbm_bytes"]
    return [
        _card(data, "time.predicted_s"),
        _card(
            data,
            "time.tokens_per_s",
            f"At most {units.formatted(time['floor_tokens_per_s'], 'tokens_per_s')}, by the"
            f" {STEP_QUANTITIES['time.floor_s'].label}.",
        ),
        _card(
            data,
            "energy.j_per_token",
            f"{STEP_QUANTITIES['energy.predicted_j'].shown(energy['predicted_j'])} per step.",
        ),
        _card(data, "memory.max_batch"),
        _card(data, "time.floor_s", f"Here {time['bound_by']} sets it: {PROMISE}."),
        _card(
            data,
            "hbm_bytes.compulsory",
            f"Weights {units.traffic(moved['weights'])}, KV cache {units.traffic(moved['kv'])},"
            f" memory rows {units.traffic(moved['table_rows'])}.{_far_words(data)}",
        ),
        _card(
            data,
            "flops.per_token",
            f"{units.flops(flops['total'])} per step; a multiply-add counts 2;"
            f" {flops['attention_convention']} attention.",
        ),
        _card(
            data,
            "kv_cache.stored_bytes",
            f"{units.traffic(kv['bytes_per_token'])} per token; of the memory"
            f" {units.capacity(kv['stored_bytes'])}.",
        ),
        _card(
            data,
            "kv_cache.read_bytes",
            f"The step also writes {units.traffic(kv['written_bytes'])}.",
        ),
        _card(
            data,
            "parameters.total",
            f"{units.parameters(parameters['total_without_embeddings'])} without embeddings and LM"
            " head.",
        ),
        _card(
            data,
            "parameters.active_without_embeddings",
            f"With the LM head {units.parameters(parameters['active_with_lm_head'])}, with both"
            f" embeddings {units.parameters(parameters['active_with_embeddings'])}.",
        ),
        _card(
            data,
            "routing.share_of_time",
            f"Routing takes {STEP_QUANTITIES['routing.time_s'].shown(routing['time_s'])},"
            f" {units.flops(routing['flops'])}, {units.traffic(routing['hbm_bytes'])} of HBM and"
            f" {units.count(routing['launches'])} launches.",
        ),
        _distinct(routing),
    ]


def _far_words(data: JSON) -> str:
    """What a step reads of tables outside HBM; empty where none stands there."""
    words = [
        f"{units.traffic(data[f'{place}_bytes']['read'])} of rows from {where}"
        for place, where in (("host", "host memory"), ("disk", "disk"))
        if data[f"{place}_bytes"]["table_bytes"]
    ]
    return f" Beside it, over the link, {' and '.join(words)}." if words else ""


def _card(data: JSON, name: str, further: str = "") -> Card:
    """A number by its name in the JSON: what it counts and `further`, or why it is not known."""
    quantity, time = STEP_QUANTITIES[name], data["time"]
    section, field = name.split(".")
    value = data[section][field]
    card = Card(
        label=capitalised(quantity.short or quantity.label),
        value=shown(quantity, value, row_digits(time)),
        help=data["reasons"].get(name) or f"{capitalised(quantity.counts)}. {further}".strip(),
    )
    if value is None or not quantity.calibrated or "interval_s" not in time:
        return card
    interval = f"Its interval of {COVERAGE:.0%}: {interval_words(time['interval_s'])} a step."
    is_time = name == "time.predicted_s"
    if "transferred_from" not in time:
        if not is_time:
            return card
        note, help_ = interval_words(time["interval_s"]), f"{card.help} {interval}"
        return replace(card, note=note, help=help_)
    label = f"transferred from {time['transferred_from']}: not measured {time['not_measured']}"
    from_where = f"transferred from {time['transferred_from']}"
    note = interval_words(time["interval_s"]) if is_time else from_where
    return replace(
        card,
        value=f"{MARK * bool(value)}{card.value}",
        note=note,
        help=f"{card.help} {capitalised(label)}. {interval}",
    )


def _distinct(routing: JSON) -> Card:
    """The card of expected distinct experts, or rows, or both where a model has both."""
    distinct = {
        what: routing[f"expected_distinct_{what}"]
        for what in ("experts", "rows")
        if routing[f"expected_distinct_{what}"] is not None
    }
    union = routing["expected_distinct_rows_union"]
    return Card(
        label=f"Distinct {' and '.join(distinct) or 'experts or rows'}",
        value=", ".join(map(units.count, distinct.values())) or "none",
        help="How many the step is expected to touch in one sparse layer: a mean over the layers."
        + ("" if union is None else f" {units.count(union)} over all layers of a shared table.")
        + (f" {UNIFORM_OVERSTATES}" if distinct else ""),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Resident memory against the GPU's capacity, for the memory bar; of a mesh, one GPU's."""

    share: float  # of the capacity; may pass 1
    fits: bool
    text: str


def fit(data: JSON, most_context: int | None) -> Fit:
    """The memory bar; `most_context` comes from `max_context`."""
    memory, workload = data["memory"], data["workload"]
    contents = ", ".join(
        f"{what} {units.capacity(memory[f'{name}_bytes'])}"
        for what, name in (
            ("weights", "weights"),
            ("buffers", "buffers"),
            ("KV cache", "kv"),
            *([("towers", "towers")] if memory["towers_bytes"] else []),
            *([("hot rows", "hot_rows")] if memory["hot_rows_bytes"] else []),
            ("activations", "activations"),
        )
    )
    far = {
        where: data[f"{place}_bytes"]["table_bytes"]
        for place, where in (("host", "Host memory"), ("disk", "The disk"))
    }
    elsewhere = "".join(
        f" {where} holds tables of {units.capacity(held)}." for where, held in far.items() if held
    )
    if most_context is None:
        context = "no context fits at this batch"
    elif most_context == MAX_CONTEXT:
        context = f"every context up to {MAX_CONTEXT:,} tokens fits at this batch"
    else:
        context = f"largest context at batch {workload['batch']:,}: {most_context:,} tokens"
    held = data["parallel"]["per_gpu"] if "parallel" in data else memory
    on = ""
    if "parallel" in data:
        on = " on the fullest GPU"
        contents = f"all {data['parallel']['gpus']:,} together: {contents}"
    return Fit(
        share=held["total_bytes"] / held["capacity_bytes"],
        fits=memory["fits"],
        text=f"{'Fits' if memory['fits'] else 'Does NOT fit'}:"
        f" {units.capacity(held['total_bytes'])} of {units.capacity(held['capacity_bytes'])}{on}"
        f" ({contents}); largest batch at this context: {units.count(memory['max_batch'])};"
        f" {context}.{elsewhere}",
    )


def operator_rows(data: JSON) -> list[JSON]:
    """The operators as rows: sums over the layers of each path, in the units of the headers."""
    predicted = data["time"]["predicted_graph_s"]
    rows = []
    for operator in data["operators"]:
        count, moved = operator["count"], operator["compulsory_bytes"]
        launches = operator["launches"]
        row = {"Operator": operator["path"], "Layers": count}
        if predicted is not None:
            seconds = count * operator["predicted_s"]
            row["Predicted, us"] = PREDICTED_US.shown(seconds)
            row["Of predicted, %"] = units.rounded(100 * seconds / predicted, SHARE_DIGITS)
        rows.append(
            row
            | {
                BOUND_US.heading: BOUND_US.shown(count * operator["floor_s"]),
                "Bound by": operator["bound_by"],
                "HBM bytes, MB": units.rounded(count * moved / 1e6, DIGITS),
                "FLOPs, G": units.rounded(count * operator["flops"] / 1e9, DIGITS),
                "FLOP/byte": units.rounded(operator["flops"] / moved, DIGITS) if moved else None,
                "Launches": None if launches is None else count * launches,
            }
        )
    for exchange in data.get("parallel", {}).get("exchanges", ()):
        count = exchange["count"]
        row = {"Operator": exchange["path"], "Layers": count}
        if predicted is not None:
            seconds = count * exchange["time_s"]
            row["Predicted, us"] = PREDICTED_US.shown(seconds)
            row["Of predicted, %"] = units.rounded(100 * seconds / predicted, SHARE_DIGITS)
        rows.append(
            row
            | {
                BOUND_US.heading: BOUND_US.shown(count * exchange["floor_s"]),
                "Bound by": "exchange",
            }
        )
    return rows
