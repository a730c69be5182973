"""Served requests as people read them: times, speed, energy and cost; the work; the memory."""

from collections.abc import Callable

from costmodel import units
from costmodel.costs.footprint import Footprint
from costmodel.costs.latency import Unknown
from costmodel.questions.request import LEFT_OUT, Estimate, Served
from costmodel.show.tables.prediction import calibration_note, model_notes
from costmodel.show.text import Table

Shown = Callable[[float], str]


def request_tables(served: Served) -> list[Table]:
    """What a user and a payer see; the work of both phases; what is resident."""
    return [_answers(served), _work(served), _memory(served)]


def _answers(served: Served) -> Table:
    request, step, decode = served.request, served.prefill_step, served.decode
    workload, name = step.workload, step.hardware.name
    requests = f"{request.batch:,} request{'' if request.batch == 1 else 's'}"
    contexts = f"{request.prompt:,} to {served.end_step.workload.context:,} tokens cached"
    steps = f"mean of {decode.steps:,} decode steps, {contexts}" if decode.steps else "no decode"
    rows = [
        (
            ("time to first token", f"prefill of {request.batch:,} x {request.prompt:,} tokens"),
            served.ttft_s,
            units.seconds,
        ),
        (("time per output token", steps), served.tpot_s, units.seconds),
        (("latency", "to the last token"), served.latency_s, units.seconds),
        (("output speed", "of the batch"), served.tokens_per_s, _speed),
        (("", "of one request"), served.tokens_per_s_per_user, _speed),
        (("energy", "of one request"), served.j_per_request, _joules),
        (("", "per million output tokens"), served.j_per_million_output_tokens, _joules),
        (("", "per million tokens, prompts in"), served.j_per_million_tokens, _joules),
        (("cost", "of one request"), served.usd_per_request, _usd),
        (("", "per million output tokens"), served.usd_per_million_output_tokens, _usd),
        (("", "per million tokens, prompts in"), served.usd_per_million_tokens, _usd),
    ]
    price = request.price_per_hour
    return Table(
        title=(
            f"{step.model.name}: {requests} of {request.prompt:,} prompt and {request.output:,}"
            f" output tokens, {workload.dtype.label} (KV {workload.kv_dtype.label}),"
            f" {workload.routing.label} routing, on {name}"
        ),
        headers=("quantity", "what", "floor", "predicted"),
        rows=tuple((*labels, *_cells(value, shown)) for labels, value, shown in rows),
        text_columns=2,
        notes=(
            "Floor: no implementation is faster, so speeds are at most and costs at least this.",
            f"Left out: {LEFT_OUT}.",
            *([] if price is None else [f"Price: {_usd(price)} for an hour of one {name}."]),
            *_sampling_note(served),
            *_unknown_notes([value for _, value, _ in rows]),
            *calibration_note(step),
            *model_notes(step.model),
        ),
    )


def _sampling_note(served: Served) -> list[str]:
    decode = served.decode
    if decode.evaluated == decode.steps:
        return []
    error = units.significant(100 * decode.error_bound, 2)
    note = (
        f"Of the {decode.steps:,} decode steps {decode.evaluated:,} are evaluated, evenly spaced;"
        f" sums are off by at most {error} % where a step's cost only rises or only falls between"
        " two of them."
    )
    return [note]


def _unknown_notes(values: list[Estimate | float | Unknown]) -> list[str]:
    each = [
        number
        for value in values
        for number in ((value.floor, value.predicted) if isinstance(value, Estimate) else (value,))
    ]
    reasons = dict.fromkeys(number.reason for number in each if isinstance(number, Unknown))
    return [f"{units.NOT_KNOWN}: {reason}." for reason in reasons]


def _cells(value: Estimate | float | Unknown, shown: Shown) -> tuple[str, str]:
    """By the floor and as predicted; energy has no floor."""
    if isinstance(value, Estimate):
        return _cell(value.floor, shown), _cell(value.predicted, shown)
    return "-", _cell(value, shown)


def _cell(value: float | Unknown, shown: Shown) -> str:
    return units.NOT_KNOWN if isinstance(value, Unknown) else shown(value)


def _speed(tokens_per_s: float) -> str:
    return units.scaled(tokens_per_s, "token/s")


def _joules(joules: float) -> str:
    return units.scaled(joules, "J")


def _usd(usd: float) -> str:
    return f"{units.significant(usd)} USD"


def _work(served: Served) -> Table:
    prefill, decode = served.prefill, served.decode
    rows = (
        ("steps", prefill.steps, decode.steps, prefill.steps + decode.steps, units.count),
        ("HBM bytes", prefill.hbm_bytes, decode.hbm_bytes, served.hbm_bytes, units.traffic),
        ("FLOPs", prefill.flops, decode.flops, served.flops, units.flops),
        ("predicted energy", prefill.energy_j, decode.energy_j, served.energy_j, _joules),
    )
    return Table(
        title="Work, of the whole batch",
        headers=("quantity", "prefill", "decode", "total"),
        rows=tuple(
            (name, *(_cell(value, shown) for value in values)) for name, *values, shown in rows
        ),
        notes=("HBM bytes are compulsory: each byte of a step once.",),
    )


def _memory(served: Served) -> Table:
    start, end, request = served.prefill_step.memory, served.end_step.memory, served.request
    size = f"{request.prompt:,} + {request.output:,} tokens"
    rows = [
        ("resident", f"in the prefill: {_fits(start)}", units.capacity(start.total_bytes)),
        ("", f"at the end: {_fits(end)}", units.capacity(end.total_bytes)),
        ("KV cache", "at the end, which the last token never enters", units.capacity(end.kv_bytes)),
        ("capacity", "of the GPU", units.capacity(end.capacity_bytes)),
        ("largest batch", f"of requests of {size}", units.count(served.max_batch)),
    ]
    if served.last_step is not None:
        rows.append(("", "if only the end had to fit", units.count(end.max_batch)))
    return Table(
        title="Memory",
        headers=("quantity", "what", "value"),
        rows=tuple(rows),
        text_columns=2,
        notes=("CUDA context and allocator slack are left out.",),
    )


def _fits(memory: Footprint) -> str:
    return "fits" if memory.fits else "does NOT fit"
