"""What the Explore page says of one step: its answer, its cards, its rows, as data.

Numbers are those of `predict --json`, formatted by `costmodel.units`.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Any

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.workload import MAX_CONTEXT
from costmodel.layers.numbers import Number
from dashboard.app.widgets import Card

JSON = dict[str, Any]
DIGITS = 5  # significant ones in a table
WHOLE = 1000  # tokens per second from which on fractions say nothing


def answer(prediction: Prediction) -> str:
    """The page's title."""
    floor = f"{_time(prediction.floor_s)} floor, bound by {prediction.bound_by}"
    time = prediction.time
    predicted = "" if isinstance(time, Unknown) else f"{_time(time.predicted_s)} predicted, "
    return f"{prediction.model.name}: {predicted}{floor}"


def asked(prediction: Prediction) -> str:
    """Of what the title is the answer."""
    workload = prediction.workload
    if workload.phase == "decode":
        step = f"decode at batch {workload.batch:,} and {workload.context:,} cached tokens"
    else:
        step = f"prefill of {workload.batch:,} x {workload.new_tokens:,} tokens"
        if workload.context:
            step += f" after {workload.context:,} cached ones"
    return f"One step of {step} on {prediction.hardware.name}"


def _time(seconds: Number) -> str:
    """Three digits, as a sentence wants them."""
    return units.seconds(float(f"{float(seconds):.3g}"))


def reasons(data: JSON) -> list[str]:
    """Why numbers of the cards are not known, each once."""
    found = [data["reasons"].get(name) for name in ("time.predicted_s", "energy.predicted_j")]
    return list(dict.fromkeys(reason for reason in found if reason is not None))


def cards(data: JSON) -> list[Card]:
    """The page's answer, from the JSON of a prediction."""
    time, energy, flops = data["time"], data["energy"], data["flops"]
    parameters, kv, routing = data["parameters"], data["kv_cache"], data["routing"]
    compulsory, workload = data["hbm_bytes"], data["workload"]
    share = routing["share_of_time"]
    decode = workload["phase"] == "decode"
    return [
        Card(
            label="Predicted time",
            value=units.seconds(time["predicted_s"]),
            help=_known(data, "time.predicted_s")
            or f"{'As a CUDA graph' if decode else 'Launched by PyTorch'}, by calibration.",
        ),
        Card(
            label="Floor time",
            value=units.seconds(time["floor_s"]),
            help=f"Bound by {time['bound_by']}: the longer of compulsory bytes over the datasheet's"
            " bandwidth and FLOPs over its dense peak. No implementation is faster.",
        ),
        Card(
            label="Tokens per second",
            value=_tokens(time["tokens_per_s"]),
            help=_known(data, "time.tokens_per_s")
            or f"At most {units.scaled(time['floor_tokens_per_s'], 'token/s')} by the floor.",
        ),
        Card(
            label="Energy per token",
            value=units.scaled(energy["j_per_token"], "J"),
            help=_known(data, "energy.j_per_token")
            or f"{units.scaled(energy['predicted_j'], 'J')} a step.",
        ),
        Card(
            label="HBM bytes per step",
            value=units.traffic(compulsory["compulsory"]),
            help="Compulsory, each byte once: weights"
            f" {units.traffic(compulsory['weights'])}, KV cache"
            f" {units.traffic(compulsory['kv'])}, memory rows"
            f" {units.traffic(compulsory['table_rows'])}.",
        ),
        Card(
            label="FLOPs per token",
            value=units.flops(flops["per_token"]),
            help=f"{units.flops(flops['total'])} a step; a multiply-add is 2;"
            f" {flops['attention_convention']} attention.",
        ),
        Card(
            label="KV cache stored",
            value=units.capacity(kv["stored_bytes"]),
            help=f"After the step; {units.traffic(kv['bytes_per_token'])} a token.",
        ),
        Card(
            label="KV cache read",
            value=units.traffic(kv["read_bytes"]),
            help=f"By the step, which writes {units.traffic(kv['written_bytes'])}.",
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
            help=_known(data, "routing.share_of_time")
            or f"Choosing experts or rows: {units.seconds(routing['time_s'])},"
            f" {units.flops(routing['flops'])}, {units.traffic(routing['hbm_bytes'])} of HBM,"
            f" {units.count(routing['launches'])} launches.",
        ),
        _distinct(routing),
    ]


def _tokens(per_s: float | None) -> str:
    if per_s is None:
        return units.NOT_KNOWN
    return f"{per_s:,.0f}" if per_s >= WHOLE else units.significant(per_s)


def _known(data: JSON, name: str) -> str:
    """Why a number is not known; empty if it is."""
    reason: str = data["reasons"].get(name, "")
    return reason


def _distinct(routing: JSON) -> Card:
    """Expected distinct experts, rows, or both where a model has both."""
    found = {
        what: routing[f"expected_distinct_{what}"]
        for what in ("experts", "rows")
        if routing[f"expected_distinct_{what}"] is not None
    }
    union = routing["expected_distinct_rows_union"]
    return Card(
        label=f"Distinct {' and '.join(found) or 'experts or rows'}",
        value=", ".join(map(units.count, found.values())) or "none",
        help="Expected to be touched by the step in one sparse layer, on average."
        + ("" if union is None else f" {units.count(union)} over all layers of a shared table."),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Resident memory against the GPU's capacity."""

    share: float  # of the capacity; may pass 1
    fits: bool
    text: str


def fit(data: JSON, most_context: int | None) -> Fit:
    """The memory bar; `most_context` is that of `max_context`."""
    memory, workload = data["memory"], data["workload"]
    held = ", ".join(
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
        f" ({held}); largest batch at this context: {units.count(memory['max_batch'])}; {context}.",
    )


def max_context(prediction: Prediction) -> int | None:
    """The most cached tokens with which this batch fits; None if it does not with none."""

    def too_large(context: int) -> bool:
        workload = replace(prediction.workload, context=context)
        return not predict(prediction.model, workload, prediction.hardware).memory.fits

    first = bisect_left(range(MAX_CONTEXT + 1), x=True, key=too_large)
    return first - 1 if first else None


def operator_rows(data: JSON) -> list[JSON]:
    """The operators, as sums over the layers of their paths, in units of the headers."""
    predicted = data["time"]["predicted_graph_s"]
    rows = []
    for each in data["operators"]:
        count, moved = each["count"], each["compulsory_bytes"]
        row = {
            "Operator": each["path"],
            "Layers": count,
            "Bound by": each["bound_by"],
            "FLOPs, G": _rounded(count * each["flops"] / 1e9),
            "HBM bytes, MB": _rounded(count * moved / 1e6),
            "FLOP/byte": _rounded(each["flops"] / moved) if moved else None,
            "Launches": count * each["launches"],
            "Floor, us": _rounded(count * each["floor_s"] * 1e6),
        }
        if predicted is not None:
            seconds = count * each["predicted_s"]
            row["Predicted, us"] = _rounded(seconds * 1e6)
            row["Of predicted, %"] = _rounded(100 * seconds / predicted)
        rows.append(row)
    return rows


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
