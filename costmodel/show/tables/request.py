"""Served requests as people read them: times, speed, energy and cost; the work; the memory."""

from costmodel import units
from costmodel.costs.quantities.meshes import OF_REQUESTS
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.costs.roofline import PROMISE
from costmodel.questions.request import LEFT_OUT, Served
from costmodel.questions.target_batch import TargetBatch
from costmodel.show.request_answers import answers, reasons, shown_value
from costmodel.show.request_json import numbers
from costmodel.show.tables.mesh import NOT_MEASURED, mesh_words
from costmodel.show.tables.notes import (
    cache_note,
    calibration_note,
    format_words,
    model_notes,
    request_words,
    routing_note,
    shipped_format_note,
    storage_notes,
)
from costmodel.show.text import Table
from costmodel.show.told_times import interval_notes

NO_BOUND = "-"
DECODE_STEPS = REQUEST_QUANTITIES["decode.steps"].label
PHASES = ("prefill", "decode", "total")
WORK = {  # of a step, and its sums over the steps of each phase
    "hbm_bytes.compulsory": "hbm_bytes.{}",
    "flops.total": "flops.{}",
    "energy.predicted_j": "energy.{}_j",
}
MEMORY = (
    "memory.prefill_bytes",
    "memory.prefill_fits",
    "memory.end_bytes",
    "memory.end_fits",
    "memory.kv_end_bytes",
    "memory.capacity_bytes",
    "memory.max_batch",
)


def request_tables(served: Served, found: TargetBatch | None = None) -> list[Table]:
    """Three tables: times, speed and cost; the work of prefill and decode; the memory needed.

    `found` is the batch that a target gave, where one was asked for: its answer is the first note.
    """
    return [_answers(served, found), _work(served), _memory(served)]


def _answers(served: Served, found: TargetBatch | None) -> Table:
    request, step = served.request, served.prefill_step
    workload, gpu, price = step.workload, step.hardware.name, request.price_per_hour
    return Table(
        title=(
            f"{step.model.name}: {request_words(request)}, {format_words(workload)}, on {gpu}"
            f"{mesh_words(workload)}"
        ),
        headers=("quantity", STEP_QUANTITIES["time.floor_s"].label, "predicted", "what it counts"),
        rows=tuple(
            (
                answer.quantity.label,
                NO_BOUND if answer.bound_words is None else answer.bound_words,
                answer.predicted_words,
                answer.quantity.counts,
            )
            for answer in answers(served).values()
        ),
        ends_in_text=True,
        notes=(
            *([] if found is None else [found.sentence()]),
            f"{_steps(served)}.",
            f"By the bound, speeds are at most and costs at least this: {PROMISE}.",
            f"Left out: {LEFT_OUT}.",
            *([] if price is None else [_price_note(price, served)]),
            *_mesh_notes(served),
            *_sampling_note(served),
            *(f"{units.NOT_KNOWN}: {reason}." for reason in reasons(served)),
            *shipped_format_note(served.end_step),
            *routing_note(step),
            *calibration_note(step, interval=False),
            *interval_notes(served),
            *cache_note(step),
            *storage_notes(workload),
            *model_notes(step.model),
        ),
    )


def _price_note(price: float, served: Served) -> str:
    """What one GPU costs, and several together."""
    step, gpus = served.prefill_step, served.gpus
    of_all = f", {units.formatted(gpus * price, 'usd')} for that of all {gpus}" if gpus > 1 else ""
    hour = units.formatted(price, "usd")
    return f"Price: {hour} for an hour of one {step.hardware.name}{of_all}."


def _mesh_notes(served: Served) -> list[str]:
    """What the GPUs of a mesh spend on exchanges; nothing on one GPU."""
    if served.gpus == 1:
        return []
    values = numbers(served)
    taken = [
        f"{quantity.label} {shown_value(quantity, values[quantity.name])}"
        for quantity in OF_REQUESTS
        if quantity.name in values
    ]
    return [f"Time of exchanges, part of every predicted time: {', '.join(taken)}.", NOT_MEASURED]


def _steps(served: Served) -> str:
    request, decode = served.request, served.decode
    prefill = f"Prefill of {request.batch:,} x {request.prompt:,} tokens"
    if not decode.steps:
        return f"{prefill}, no decode step"
    contexts = f"{request.prompt:,} to {served.end_step.workload.context:,} tokens cached"
    return f"{prefill}, then the mean of {decode.steps:,} {DECODE_STEPS}, {contexts}"


def _sampling_note(served: Served) -> list[str]:
    decode = served.decode
    if decode.evaluated == decode.steps:
        return []
    note = (
        f"Of the {decode.steps:,} {DECODE_STEPS} {decode.evaluated:,} are evaluated, evenly spaced;"
        f" sums are off by at most {units.formatted(decode.error_bound, 'share')} where a step's"
        " cost only rises or only falls between two of them."
    )
    return [note]


def _work(served: Served) -> Table:
    values = numbers(served)
    steps = (served.prefill.steps, served.decode.steps, served.prefill.steps + served.decode.steps)
    return Table(
        title="Work, of the whole batch",
        headers=("quantity", *PHASES),
        rows=(
            ("steps", *map(units.count, steps)),
            *(
                (
                    STEP_QUANTITIES[of_step].label,
                    *(
                        shown_value(REQUEST_QUANTITIES[name], values[name])
                        for name in map(of_phase.format, PHASES)
                    ),
                )
                for of_step, of_phase in WORK.items()
            ),
        ),
    )


def _too_large(served: Served) -> str:
    memory = "GPU's memory" if served.gpus == 1 else f"memory of {served.gpus} GPUs"
    return f"A batch of such requests does NOT fit the {memory}."


def _memory(served: Served) -> Table:
    values = numbers(served)
    names = (*MEMORY, *["memory.max_batch_at_end"] * (served.last_step is not None))
    quantities = [REQUEST_QUANTITIES[name] for name in names]
    return Table(
        title="Memory",
        headers=("quantity", "value", "what it counts"),
        rows=tuple(
            (quantity.label, shown_value(quantity, values[quantity.name]), quantity.counts)
            for quantity in quantities
        ),
        ends_in_text=True,
        notes=(
            "CUDA context and allocator slack are left out.",
            *([] if served.fits else [_too_large(served)]),
        ),
    )
