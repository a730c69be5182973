"""What stands around tables in words: the workload, the calibration, the sources of a model."""

from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import CHECKPOINT, Workload
from costmodel.questions.request import Request


def workload_words(workload: Workload, *others: Workload) -> str:
    """`decode, context 2,048, bf16 (KV bf16), uniform routing`, without the batch.

    `others` are the same workload of other models, whose checkpoints may have other formats.
    """
    new = f", {workload.new_tokens:,} new tokens" if workload.phase == "prefill" else ""
    return f"{workload.phase}{new}, context {workload.context:,}, {format_words(workload, *others)}"


def format_words(workload: Workload, *others: Workload) -> str:
    """`bf16 (KV bf16), uniform routing`: what requests share with their steps.

    Of a checkpoint, `checkpoint experts=mxfp4 (KV bf16)`.
    """
    return f"{formats_words(workload, *others)}, {workload.routing.label} routing"


def formats_words(*workloads: Workload) -> str:
    """`bf16 (KV bf16)`; of several models, all that differ."""
    return " and ".join(dict.fromkeys(map(_formats, workloads)))


def _formats(workload: Workload) -> str:
    weights = workload.dtype_label
    if workload.storage is not None:
        leaves = " and single leaves" if workload.formats.leaves else ""
        weights = f"{weights} {workload.formats.label}{leaves}"
    return f"{weights} (KV {workload.kv_dtype.label})"


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


def calibration_note(prediction: Prediction) -> tuple[str, ...]:
    """By which calibration a time was predicted, in one line; nothing where none was."""
    curves = prediction.calibration
    if isinstance(curves, Unknown) or isinstance(prediction.time, Unknown):
        return ()
    return (predicted_by(curves, prediction.workload),)


def predicted_by(curves: Curves, workload: Workload) -> str:
    """Which calibration it is, and that it claims no accuracy."""
    made = curves.calibration
    driver = "" if made.machine.driver is None else f", driver {made.machine.driver}"
    fused = (
        " Launches are those of fused kernels that need not exist: a projection."
        if workload.backend == "fused"
        else ""
    )
    return (
        f"Predicted by calibration {made.name} ({made.machine.name}{driver}, torch"
        f" {made.machine.torch}, {made.conditions.started});"
        f" no accuracy is claimed: see sparsecost validate.{fused}"
    )


def model_notes(model: ModelConfig) -> tuple[str, ...]:
    """Source, notes and, for a reconstruction, what was assumed."""
    notes = [f"Source: {model.source}"]
    notes += [f"Note: {note}" for note in model.notes]
    notes += [f"Reconstruction, assumed: {assumption}" for assumption in model.assumptions]
    return tuple(notes)
