"""Models side by side as JSON: a row for each batch and model, and where an advantage ends."""

from collections.abc import Sequence
from typing import Any

import costmodel
from costmodel.costs.beyond_histogram import beyond, or_none
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.workload import MAX_BATCH
from costmodel.questions.compare import Comparison
from costmodel.questions.compare_mesh import exchanges_s
from costmodel.show.inputs_json import (
    calibration_json,
    calibration_reasons,
    common_formats,
    formats_json,
    hardware_json,
    model_json,
    workload_json,
)
from costmodel.show.told_times import ROW_REASONS, told_rows

SCHEMA_VERSION = 1


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The rows of a comparison, batch by batch, and the advantages over the first model."""
    first = comparison.predictions[0]
    reasons = calibration_reasons(first[0].calibration)
    if unknown := times_unknown(comparison):
        reasons["rows.predicted_s"] = unknown
    rows = comparison_rows(comparison)
    reasons |= _reasons(comparison, rows)
    reasons |= _beyond_reasons(comparison, rows)
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "models": [
            {**model_json(prediction.model), "formats": formats_json(prediction)}
            for prediction in first
        ],
        "workload": {
            **workload_json(first[0].workload),
            **common_formats([prediction.workload for prediction in first]),
            "batch": list(comparison.batches),
        },
        "hardware": hardware_json(
            first[0].hardware,
            tuple(dict.fromkeys(n for prediction in first for n in prediction.ceilings.peak_names)),
        ),
        "calibration": calibration_json(first[0].calibration),
        "reasons": reasons,
        "rows": rows,
        "advantages": [
            {
                "model": advantage.model,
                "reference": advantage.reference,
                "metric": advantage.metric,
                "batches": [list(interval) for interval in advantage.intervals],
                "max_batch": advantage.max_batch,
            }
            for advantage in comparison.advantages
        ],
        "findings": comparison.findings(),
    }


def _reasons(comparison: Comparison, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Why energies, exposed fetches and cached tokens are None, by name; each reason once."""
    reasons: dict[str, dict[str, None]] = {}
    predictions = [one for of_batch in comparison.predictions for one in of_batch]
    for row, prediction in zip(rows, predictions, strict=True):
        for name, reason in ROW_REASONS.items():
            if name in row and row[name] is None:
                time = prediction.time
                why = time.reason if isinstance(time, Unknown) else reason
                reasons.setdefault(f"rows.{name}", {})[why] = None
        for name in ("predicted_j", "predicted_exposed_s", "kv_room_tokens"):
            if row[name] is not None:
                continue
            reason = STEP_QUANTITIES[f"rows.{name}"].none_because
            if not reason:
                time = prediction.time
                unknown = time if isinstance(time, Unknown) else time.energy_j
                reason = unknown.reason if isinstance(unknown, Unknown) else ""
            reasons.setdefault(f"rows.{name}", {})[reason] = None
    return {name: "; ".join(filter(None, each)) for name, each in reasons.items()}


def _beyond_reasons(comparison: Comparison, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Why numbers of some rows are None since a histogram cannot give them, by name."""
    reasons: dict[str, str] = {}
    predictions = [one for of_batch in comparison.predictions for one in of_batch]
    for row, prediction in zip(rows, predictions, strict=True):
        unknown = beyond(prediction.costs.operators, prediction.workload)
        if unknown is not None:
            reasons |= {f"rows.{name}": unknown.reason for name in row if row[name] is None}
    known_to = min((advantage.known_to for advantage in comparison.advantages), default=MAX_BATCH)
    if known_to < MAX_BATCH:
        reasons["advantages.batches"] = (
            f"not known beyond batch {known_to:,}, the tokens that the histogram holds"
        )
    return reasons


def times_unknown(comparison: Comparison) -> str:
    """Why predicted times are None, each reason once; empty where all are known."""
    times = [prediction.time for prediction in comparison.predictions[0]]
    return "; ".join(dict.fromkeys(time.reason for time in times if isinstance(time, Unknown)))


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A flat record of each model at each batch, the models of one batch together."""
    rows = [row for predictions in comparison.predictions for row in prediction_rows(predictions)]
    told = told_rows([one.time for of_batch in comparison.predictions for one in of_batch])
    return [row | of_time for row, of_time in zip(rows, told, strict=True)]


def prediction_rows(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """A flat record of each prediction of one workload, beside the first."""
    return [_row(prediction, predictions[0]) for prediction in predictions]


def bytes_of_first_over_this(first: Prediction, this: Prediction) -> float:
    """Compulsory HBM bytes of the first model over those of this one."""
    return float(first.costs.totals.compulsory_bytes) / float(this.costs.totals.compulsory_bytes)


def _mesh_fields(prediction: Prediction) -> dict[str, Any]:
    """What a row says of the GPUs of a step; of one, that it exchanges nothing."""
    of = prediction.parallel
    on_a_gpu = prediction.memory if of is None else of.step.fullest
    return {
        "gpus": prediction.gpus,
        "mesh": prediction.workload.mesh.label,
        "memory_per_gpu_bytes": on_a_gpu.total_bytes,
        "exchanges_s": exchanges_s(prediction),
    }


def _row(prediction: Prediction, first: Prediction) -> dict[str, Any]:
    sums, routing, time = prediction.costs.totals, prediction.costs.routing, prediction.time
    floor = or_none(prediction.floor_s)
    parameters, kv, memory = (
        prediction.costs.parameters,
        prediction.costs.kv_cache,
        prediction.memory,
    )
    host, disk = prediction.costs.far["host"], prediction.costs.far["disk"]
    energy = None if isinstance(time, Unknown) else time.energy_j
    row = {
        "batch": prediction.workload.batch,
        "model": prediction.model.name,
        "weights_bytes": sums.weight_bytes,
        "table_rows_bytes": sums.row_bytes,
        "kv_read_bytes": sums.kv_read_bytes,
        "flops": sums.flops,
        "routing_flops": routing.flops,
        "routing_compares": routing.compares,
        "routing_bytes": routing.compulsory_bytes,
        "compulsory_bytes": sums.compulsory_bytes,
        "bytes_of_first_over_this": bytes_of_first_over_this(first, prediction),
        "floor_s": floor,
        "predicted_s": None if isinstance(time, Unknown) else time.predicted_s,
        "bound_by": None if floor is None else prediction.bound_by,
        "memory_bytes": memory.total_bytes,
        "fits": memory.fits,
        "max_batch": memory.max_batch,
        "total_without_embeddings": parameters.total_without_embeddings,
        "active_without_embeddings": parameters.active_without_embeddings,
        "stored_weights_bytes": memory.weights_bytes,
        "host_table_bytes": host.table_bytes,
        "disk_table_bytes": disk.table_bytes,
        "host_read_bytes": host.read,
        "disk_read_bytes": disk.read,
        "kv_bytes_per_token": kv.bytes_per_token,
        "kv_room_bytes": memory.kv_room_bytes,
        "kv_room_tokens": memory.kv_room_tokens(kv),
        "predicted_exposed_s": None if isinstance(time, Unknown) else time.fetches.exposed_s,
        "predicted_j": None if isinstance(energy, Unknown) else energy,
        **_mesh_fields(prediction),
    }
    return {name: or_none(value) for name, value in row.items()}
