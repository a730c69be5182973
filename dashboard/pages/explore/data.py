"""The Explore page as data: its title, its cards, the memory bar and the rows of its tables.

Numbers are those of `predict --json`, formatted by `costmodel.units`.
"""

from dataclasses import dataclass
from typing import Any

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.inputs.workload import MAX_CONTEXT
from costmodel.layers.numbers import Number
from dashboard.app.widgets import Card

JSON = dict[str, Any]
DIGITS = 5  # significant ones in a table
WHOLE = 1000  # tokens per second from which on fractions say nothing


def answer(prediction: Prediction) -> str:
    """The page's title: predicted time, roofline bound, and which resource sets the bound."""
    bound = f"{_time(prediction.floor_s)} roofline bound ({prediction.bound_by})"
    time = prediction.time
    predicted = "" if isinstance(time, Unknown) else f"{_time(time.predicted_s)} predicted, "
    return f"{prediction.model.name}: {predicted}{bound}"


def question(prediction: Prediction) -> str:
    """The line below the title: phase, batch, context and GPU."""
    workload = prediction.workload
    if workload.phase == "decode":
        step = f"decode at batch {workload.batch:,} and {workload.context:,} cached tokens"
    else:
        step = f"prefill of {workload.batch:,} x {workload.new_tokens:,} tokens"
        if workload.context:
            step += f" after {workload.context:,} cached ones each"
    return f"One step of {step} on {prediction.hardware.name}"


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
    compulsory, workload = data["hbm_bytes"], data["workload"]
    share = routing["share_of_time"]
    decode = workload["phase"] == "decode"
    return [
        Card(
            label="Predicted time",
            value=units.seconds(time["predicted_s"]),
            help=_reason(data, "time.predicted_s")
            or f"{'As a CUDA graph' if decode else 'Launched by PyTorch'}, by calibration.",
        ),
        Card(
            label="Floor time",
            value=units.seconds(time["floor_s"]),
            help="The roofline bound: the longer of compulsory bytes / datasheet bandwidth and"
            f" FLOPs / dense peak; here {time['bound_by']} sets it. No implementation is faster.",
        ),
        Card(
            label="Tokens per second",
            value=_tokens(time["tokens_per_s"]),
            help=_reason(data, "time.tokens_per_s")
            or f"At most {units.scaled(time['floor_tokens_per_s'], 'token/s')}, by the roofline"
            " bound.",
        ),
        Card(
            label="Energy per token",
            value=units.scaled(energy["j_per_token"], "J"),
            help=_reason(data, "energy.j_per_token")
            or f"{units.scaled(energy['predicted_j'], 'J')} per step.",
        ),
        Card(
            label="HBM bytes per step",
            value=units.traffic(compulsory["compulsory"]),
            help="Compulsory bytes, each counted once: weights"
            f" {units.traffic(compulsory['weights'])}, KV cache"
            f" {units.traffic(compulsory['kv'])}, memory rows"
            f" {units.traffic(compulsory['table_rows'])}.",
        ),
        Card(
            label="FLOPs per token",
            value=units.flops(flops["per_token"]),
            help=f"{units.flops(flops['total'])} per step; a multiply-add counts 2;"
            f" {flops['attention_convention']} attention.",
        ),
        Card(
            label="KV cache stored",
            value=units.capacity(kv["stored_bytes"]),
            help=f"After the step; {units.traffic(kv['bytes_per_token'])} per token.",
        ),
        Card(
            label="KV cache read",
            value=units.traffic(kv["read_bytes"]),
            help=f"By the step, which also writes {units.traffic(kv['written_bytes'])}.",
        ),
        Card(
            label="Parameters, total",
            value=units.parameters(parameters["total"]),
            help=f"{units.parameters(parameters['total_without_embeddings'])} without embeddings"
            " and LM head.",
        ),
        Card(
            label="Active, no embeddings",
            value=units.parameters(parameters["active_without_embeddings"]),
            help="Parameters that one token uses. With the LM head"
            f" {units.parameters(parameters['active_with_lm_head'])}, with both embeddings"
            f" {units.parameters(parameters['active_with_embeddings'])}.",
        ),
        Card(
            label="Routing, of the time",
            value=units.NOT_KNOWN if share is None else f"{100 * share:.1f} %",
            help=_reason(data, "routing.share_of_time")
            or f"The cost of choosing experts or rows: {units.seconds(routing['time_s'])},"
            f" {units.flops(routing['flops'])}, {units.traffic(routing['hbm_bytes'])} of HBM,"
            f" {units.count(routing['launches'])} launches.",
        ),
        _distinct(routing),
    ]


def _tokens(per_s: float | None) -> str:
    if per_s is None:
        return units.NOT_KNOWN
    return f"{per_s:,.0f}" if per_s >= WHOLE else units.significant(per_s)


def _reason(data: JSON, name: str) -> str:
    """Why a number is not known; empty where it is known."""
    reason: str = data["reasons"].get(name, "")
    return reason


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
        + ("" if union is None else f" {units.count(union)} over all layers of a shared table."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Resident memory against the GPU's capacity, for the memory bar."""

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
            ("activations", "activations"),
        )
    )
    if most_context is None:
        context = "no context fits at this batch"
    elif most_context == MAX_CONTEXT:
        context = f"every context up to {MAX_CONTEXT:,} tokens fits at this batch"
    else:
        context = f"largest context at batch {workload['batch']:,}: {most_context:,} tokens"
    return Fit(
        share=memory["total_bytes"] / memory["capacity_bytes"],
        fits=memory["fits"],
        text=f"{'Fits' if memory['fits'] else 'Does NOT fit'}:"
        f" {units.capacity(memory['total_bytes'])} of {units.capacity(memory['capacity_bytes'])}"
        f" ({contents}); largest batch at this context: {units.count(memory['max_batch'])};"
        f" {context}.",
    )


def operator_rows(data: JSON) -> list[JSON]:
    """The operators as rows: sums over the layers of each path, in the units of the headers."""
    predicted = data["time"]["predicted_graph_s"]
    rows = []
    for operator in data["operators"]:
        count, moved = operator["count"], operator["compulsory_bytes"]
        row = {"Operator": operator["path"], "Layers": count}
        if predicted is not None:
            seconds = count * operator["predicted_s"]
            row["Predicted, us"] = _rounded(seconds * 1e6)
            row["Of predicted, %"] = _rounded(100 * seconds / predicted)
        rows.append(
            row
            | {
                "Floor, us": _rounded(count * operator["floor_s"] * 1e6),
                "Bound by": operator["bound_by"],
                "HBM bytes, MB": _rounded(count * moved / 1e6),
                "FLOPs, G": _rounded(count * operator["flops"] / 1e9),
                "FLOP/byte": _rounded(operator["flops"] / moved) if moved else None,
                "Launches": count * operator["launches"],
            }
        )
    return rows


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
