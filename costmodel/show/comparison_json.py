"""Models side by side as JSON: a row for each batch and model, and where an advantage ends."""

from typing import Any

import costmodel
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.questions.compare import Comparison, sentences
from costmodel.show.inputs_json import (
    calibration_json,
    calibration_reasons,
    common_formats,
    formats_json,
    hardware_json,
    model_json,
    workload_json,
)

SCHEMA_VERSION = 1


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The rows of a comparison, batch by batch, and the advantages over the first model."""
    first = comparison.predictions[0]
    reasons = calibration_reasons(first[0].calibration)
    unknown = [prediction.time for prediction in first if isinstance(prediction.time, Unknown)]
    if unknown:
        reasons["rows.predicted_s"] = unknown[0].reason
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
        "rows": comparison_rows(comparison),
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
        "findings": sentences(comparison.advantages),
    }


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """A flat record of each model at each batch, the models of one batch together."""
    return [
        _row(batch, prediction, predictions[0])
        for batch, predictions in zip(comparison.batches, comparison.predictions, strict=True)
        for prediction in predictions
    ]


def bytes_of_first_over_this(first: Prediction, this: Prediction) -> float:
    """Compulsory HBM bytes of the first model over those of this one."""
    return float(first.costs.totals.compulsory_bytes) / float(this.costs.totals.compulsory_bytes)


def _row(batch: int, prediction: Prediction, first: Prediction) -> dict[str, Any]:
    sums, routing, time = prediction.costs.totals, prediction.costs.routing, prediction.time
    return {
        "batch": batch,
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
        "floor_s": prediction.floor_s,
        "predicted_s": None if isinstance(time, Unknown) else time.predicted_s,
        "bound_by": prediction.bound_by,
        "memory_bytes": prediction.memory.total_bytes,
        "fits": prediction.memory.fits,
        "max_batch": prediction.memory.max_batch,
    }
