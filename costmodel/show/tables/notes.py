"""What stands around tables in words: the workload, the calibration, the sources of a model."""

from dataclasses import replace

from costmodel import units
from costmodel.costs.intervals import COVERAGE
from costmodel.costs.kernel_times import Curves, Transfer
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.costs.totals import kept_bytes
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import CHECKPOINT, MAX_CONTEXT, Workload
from costmodel.questions.claims.held_out import NOT_HELD, held, of_calibration
from costmodel.questions.request import Request
from costmodel.routing.by_population import ngram_law_of, routing_of
from costmodel.routing.popularity import UNIFORM_OVERSTATES, Uniform
from costmodel.show.told_times import interval_words

MOVES_NOTHING = "The model has no memory table: the placement moves nothing."


def workload_words(workload: Workload, *others: Workload) -> str:
    """`decode, context 2,048, bf16 (KV bf16), uniform routing`, without the batch.

    `others` are the same workload of other models, whose checkpoints may have other formats. Where
    tables stand outside HBM, it says so: `..., tables=host`.
    """
    new = f", {workload.new_tokens:,} new tokens" if workload.phase == "prefill" else ""
    return f"{workload.phase}{new}, context {workload.context:,}, {format_words(workload, *others)}"


def format_words(workload: Workload, *others: Workload) -> str:
    """`bf16 (KV bf16), uniform routing`: what requests share with their steps.

    Of a checkpoint, `checkpoint experts=mxfp4 (KV bf16)`. Caches that hold something unusual are
    named: `bf16 (KV bf16, MLA expanded, windows whole)`.
    """
    placed = placement_words(workload)
    words = f"{formats_words(workload, *others)}, {workload.routing.label} routing"
    return f"{words}, {placed}" if placed else words


def placement_words(workload: Workload) -> str:
    """`tables=host, 2.000 GB of hot rows in HBM`; empty where all tables stand in HBM."""
    placement = workload.placement
    if not placement.moves:
        return ""
    hot = placement.hot_rows_bytes
    cached = f", {units.formatted(hot, 'bytes')} of hot rows in HBM" if hot else ""
    return f"{placement.label}{cached}"


def formats_words(*workloads: Workload) -> str:
    """`bf16 (KV bf16)`; of several models, all that differ."""
    return " and ".join(dict.fromkeys(map(_formats, workloads)))


def _formats(workload: Workload) -> str:
    weights = workload.dtype_label
    if workload.storage is not None:
        weights = f"{weights} {workload.formats.named}"
    cache = [f"KV {workload.kv_dtype.label}"]
    cache += ["MLA expanded"] * (workload.mla_cache == "expanded")
    cache += ["windows whole"] * (workload.window_cache == "whole")
    return f"{weights} ({', '.join(cache)})"


def routing_note(prediction: Prediction) -> tuple[str, ...]:
    """Which way uniform routing errs, in one sentence, where the model chooses by it."""
    routing = prediction.workload.routing
    uniform = any(
        isinstance(
            ngram_law_of(routing) if op.touched.orders else routing_of(routing, op.touched.kind),
            Uniform,
        )
        for op in prediction.costs.operators
        if op.touched is not None
    )
    return (UNIFORM_OVERSTATES,) if uniform else ()


def storage_notes(workload: Workload) -> tuple[str, ...]:
    """Where the formats of a checkpoint stand, and what of them could not be read exactly."""
    storage = workload.storage
    if storage is None:
        return ()
    return (f"Stored as {storage.origin}", *(f"Note: {note}" for note in storage.notes))


def shipped_format_note(prediction: Prediction) -> tuple[str, ...]:
    """That the release of a model is smaller, where the step does not fit in other formats."""
    storage = prediction.model.storage
    if prediction.memory.fits or storage is None or prediction.workload.storage is not None:
        return ()
    shipped = f"The release is stored in other formats: {storage.weights.label}"
    return (f"{shipped} (--dtype {CHECKPOINT}).",)


def request_words(request: Request) -> str:
    """`16 requests of 2,048 prompt and 256 output tokens`."""
    requests = f"{request.batch:,} request{'' if request.batch == 1 else 's'}"
    label = REQUEST_QUANTITIES["request.output"].label
    return f"{requests} of {request.prompt:,} prompt and {request.output:,} {label}"


def cold_l2_note(prediction: Prediction) -> tuple[str, ...]:
    """Of a step that L2 could hold, that its bound is one from a cold L2; else nothing."""
    if not prediction.fits_l2:
        return ()
    capacity = units.formatted(prediction.hardware.l2_bytes, "capacity")
    held = f"What this step touches fits the {capacity} of L2"
    return (f"{held}: its bound by memory holds from a cold L2 only.",)


def placement_note(prediction: Prediction) -> tuple[str, ...]:
    """Of a step with a placement: what its times rest on, or that no table is moved."""
    if not prediction.workload.placement.moves:
        return ()
    if not any(tables.table_bytes for tables in prediction.costs.far.values()):
        return (MOVES_NOTHING,)
    link = prediction.hardware.link
    assert link is not None
    rate = units.formatted(link.bytes_per_s, "bytes_per_s")
    bound = f"Rows from outside HBM cross {link.name}, {rate} in one direction by datasheet."
    if isinstance(prediction.time, Unknown) or isinstance(prediction.calibration, Unknown):
        return (bound,)
    times = prediction.calibration.link
    assert times is not None
    measured = f"{times.measured.machine}, {times.measured.link}, {times.measured.date}"
    return (f"{bound} Fetches are timed by gathers measured on one card ({measured}).",)


def calibration_note(prediction: Prediction, *, interval: bool = True) -> tuple[str, ...]:
    """By which calibration a time was predicted, and its interval; nothing where none was."""
    curves = prediction.calibration
    if isinstance(curves, Unknown) or isinstance(prediction.time, Unknown):
        return ()
    recurrent = any(
        part.kind == "recurrence" for op in prediction.costs.operators for part in op.parts
    )
    transfer = prediction.time.transfer
    return (
        predicted_by(curves) if transfer is None else transferred_by(transfer),
        *(interval_note(prediction.time, _held(prediction, curves)) if interval else ()),
        *((TRANSFERRED,) if recurrent else ()),
    )


def _held(prediction: Prediction, curves: Curves) -> str:
    """How often such intervals held on models that no fit had seen."""
    workload = prediction.workload
    if workload.phase != "decode" or curves.transfer is not None:
        return NOT_HELD
    return held(workload.backend, curves.name)


def interval_note(time: StepTime, so_far: str) -> tuple[str, ...]:
    """The interval about the predicted time, in two digits; nothing where there is none."""
    if time.interval_s is None:
        return ()
    rests = "errors on leaves that a fit had not seen"
    if time.transfer is not None:
        rests += ", and by how far one engine's share of the bound differs between GPUs and formats"
    note = (
        f"The step takes {interval_words(time.interval_s)}. Such an interval is meant to hold"
        f" {COVERAGE:.0%} of the time, by {rests}; {so_far}."
    )
    return (note,)


def priced_by(curves: Curves | Unknown) -> str:
    """By which calibration times are predicted, or from which they are transferred."""
    if isinstance(curves, Unknown):
        return curves.reason
    return predicted_by(curves) if curves.transfer is None else transferred_by(curves.transfer)


def transferred_by(transfer: Transfer) -> str:
    """That a time was not measured here, and how it came about."""
    return (
        f"Predicted times are {transfer.label}; scaled by datasheets, see docs/accuracy.md"
        " (Other GPUs and formats)."
    )


TRANSFERRED = (
    "No calibration has measured a recurrence: its time is transferred from elementwise kernels"
    " that move as many bytes, and is no more than an estimate."
)


def predicted_by(curves: Curves) -> str:
    """Which calibration it is, and how far its predictions are off."""
    made = curves.calibration
    driver = "" if made.machine.driver is None else f", driver {made.machine.driver}"
    return (
        f"Predicted by calibration {curves.name} ({made.machine.name}{driver}, torch"
        f" {made.machine.torch}, {curves.measured}); {of_calibration(curves.name)}."
    )


def cache_note(prediction: Prediction) -> tuple[str, ...]:
    """That no reference model keeps the cache of this step; nothing where one does."""
    given = prediction.workload
    as_run = replace(given, mla_cache="latent", window_cache="window", mla=given.mla_mode)
    at_most = (workload.step(context=MAX_CONTEXT) for workload in (given, as_run))
    stored, stored_as_run = (kept_bytes(prediction.model, step) for step in at_most)
    if stored == stored_as_run:
        return ()
    note = (
        "Predicted only: running such a cache (MLA expanded, or windows kept whole) is not"
        " implemented in the reference models, so no recording can be set against these numbers."
    )
    return (note,)


def model_notes(model: ModelConfig) -> tuple[str, ...]:
    """Source, notes and, for a reconstruction, what was assumed."""
    notes = [f"Source: {model.source}"]
    notes += [f"Note: {note}" for note in model.notes]
    notes += [f"Reconstruction, assumed: {assumption}" for assumption in model.assumptions]
    return tuple(notes)
