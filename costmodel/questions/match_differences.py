"""What else differs between a target and its match: numbers of both under the same decode steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from costmodel.costs.columns import Value, step_values
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, Unknown
from costmodel.costs.predict import predict
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import ONE_GPU
from costmodel.questions.compare_mesh import exchanges_s
from costmodel.questions.match import Match

BATCHES = (1, 64, 1024)

# By their names in the JSON of a prediction.
OF_THE_MODEL = (  # no batch changes them
    "parameters.active_without_embeddings",
    "memory.weights_bytes",
    "kv_cache.bytes_per_token",
    "memory.max_batch",
)
OF_THE_STEP = (
    "hbm_bytes.compulsory",
    "hbm_bytes.weights",
    "hbm_bytes.table_rows",
    "hbm_bytes.kv",
    "routing.flops",
    "routing.hbm_bytes",
    "time.floor_s",
    "time.predicted_s",
    "energy.predicted_j",
)


OF_A_MESH = (  # numbers that a mesh changes, and so a batch for which it is chosen
    "memory.weights_bytes",
    "memory.max_batch",
    "rows.gpus",
    "rows.exchanges_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One number of both models; `batch` is None where no batch changes it."""

    name: str  # as in the JSON of a prediction
    batch: int | None
    target: Value
    matched: Value


def differences(
    answer: Match,
    hardware: Hardware,
    batches: Sequence[int] = BATCHES,
    calibration: Curves | Unknown = NOT_ASKED,
    formats: Workload | None = None,
) -> list[Difference]:
    """Memory, KV cache, HBM bytes, times and energy of target and match.

    Decode steps at the context of the match, uniform routing, in the formats of the workload
    `formats` (None: bf16), its tables where that one places them; the batch at which HBM bytes were
    set equal is among the batches. What a calibration would give is None where there is none.
    Where that workload asks for several GPUs, each model has its own mesh at each batch.
    """
    of_model: tuple[str, ...] = OF_THE_MODEL
    of_step: tuple[str, ...] = OF_THE_STEP
    if formats is not None and formats.mesh != ONE_GPU:
        of_model = tuple(name for name in of_model if name not in OF_A_MESH)
        of_step += OF_A_MESH
    found: list[Difference] = []
    for batch in sorted({*batches, answer.batch}):
        workload = replace(formats or Workload(), batch=batch, context=answer.context)
        target, matched = (
            _numbers(model, workload, hardware, calibration)
            for model in (answer.target, answer.model)
        )
        found += [
            Difference(
                name=name,
                batch=None if name in of_model else batch,
                target=target[name],
                matched=matched[name],
            )
            for name in (of_step if found else of_model + of_step)
        ]
    return found


def _numbers(
    model: ModelConfig, workload: Workload, hardware: Hardware, calibration: Curves | Unknown
) -> dict[str, Value]:
    prediction = predict(model, workload, hardware, calibration)
    meshed: dict[str, Value] = {
        "rows.gpus": prediction.gpus,
        "rows.exchanges_s": exchanges_s(prediction),
    }
    return step_values(prediction) | meshed
