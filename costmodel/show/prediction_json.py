"""A prediction as the JSON of the contract (design section 7). Unknown is null, with its reason."""

from dataclasses import asdict
from typing import Any

import costmodel
from costmodel.backends import BACKENDS
from costmodel.costs.columns import PREDICTED, columns, predicted_columns
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import OperatorTime, Unknown
from costmodel.costs.predict import Prediction, step_costs
from costmodel.costs.roofline import NO_CACHE_MODEL
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part
from costmodel.questions.compare import Comparison, sentences

SCHEMA_VERSION = 1

REASONS = {
    "hbm_bytes.read": NO_CACHE_MODEL,
    "hbm_bytes.written": NO_CACHE_MODEL,
    "operators.hbm_read_bytes": NO_CACHE_MODEL,
    "operators.hbm_written_bytes": NO_CACHE_MODEL,
}
OF_OPERATORS = ("operators.predicted_s", "operators.parts.predicted_s")


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """The prediction as plain dicts, lists, numbers, strings and None."""
    costs, workload = prediction.costs, prediction.workload
    reasons = REASONS | _time_reasons(prediction)
    for what, found, reason in (
        ("experts", costs.distinct.experts, "the model has no experts"),
        ("rows", costs.distinct.rows, "the model has no memory layer"),
        ("rows_union", costs.distinct.rows_union, "no layers share a memory table"),
    ):
        if found is None:
            reasons[f"routing.expected_distinct_{what}"] = reason
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "model": model_json(prediction.model),
        "workload": workload_json(workload),
        "hardware": hardware_json(prediction.hardware, prediction.ceilings.peak_name),
        "calibration": calibration_json(prediction.calibration),
        "backend": workload.backend,
        "reasons": reasons,
    }
    for name, value in _named(prediction).items():
        *sections, last = name.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    document["parameters"]["by_group"] = costs.parameters.by_group
    document["flops"]["attention_convention"] = workload.attention_flops
    time = prediction.time
    times = [None] * len(costs.operators) if isinstance(time, Unknown) else time.operators
    document["operators"] = [
        operator_json(prediction, operator, its_time)
        for operator, its_time in zip(costs.operators, times, strict=True)
    ]
    document["regions"] = regions_json(prediction)
    return document


def _time_reasons(prediction: Prediction) -> dict[str, str]:
    """Why what a calibration would give is null, by name."""
    found, time = _calibration_reasons(prediction.calibration), prediction.time
    if isinstance(time, Unknown):
        found |= dict.fromkeys((*PREDICTED, *OF_OPERATORS), time.reason)
    elif isinstance(time.energy_j, Unknown):
        energy = (name for name in PREDICTED if name.startswith("energy."))
        found |= dict.fromkeys(energy, time.energy_j.reason)
    return found


def _calibration_reasons(calibration: Curves | Unknown) -> dict[str, str]:
    if isinstance(calibration, Unknown):
        return {"calibration": calibration.reason}
    found = {}
    if calibration.calibration.machine.driver is None:
        found["calibration.driver"] = "not recorded"
    if calibration.calibration.commit is None:
        found["calibration.commit"] = "not recorded: measured outside a git checkout"
    return found


def calibration_json(calibration: Curves | Unknown) -> dict[str, Any] | None:
    """Which calibration it is: what was measured, when and with what."""
    if isinstance(calibration, Unknown):
        return None
    made = calibration.calibration
    return {
        "name": made.name,
        "machine": made.machine.name,
        "started": made.conditions.started,
        "driver": made.machine.driver,
        "torch": made.machine.torch,
        "commit": made.commit,
    }


def _named(prediction: Prediction) -> dict[str, Any]:
    """The numbers of the prediction, those that are not known yet among them."""
    workload = prediction.workload
    tokens = workload.batch * workload.new_tokens
    return {
        **columns(
            prediction.costs,
            prediction.memory,
            tokens=tokens,
            backend=workload.backend,
            floor=prediction.floor_s,
            bound=prediction.bound_by,
        ),
        **predicted_columns(prediction.time, tokens=tokens),
        "hbm_bytes.read": None,
        "hbm_bytes.written": None,
    }


def model_json(model: ModelConfig) -> dict[str, Any]:
    """What a reader must know of the model."""
    return {
        "name": model.name,
        "source": model.source,
        "reconstruction": bool(model.assumptions),
        "assumptions": list(model.assumptions),
        "notes": list(model.notes),
        "published": model.published,
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.num_hidden_layers,
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": model.tie_word_embeddings,
    }


def workload_json(workload: Workload) -> dict[str, Any]:
    """The workload with its conventions resolved and its formats described."""
    return {
        "phase": workload.phase,
        "batch": workload.batch,
        "context": workload.context,
        "new_tokens": workload.new_tokens,
        "dtype": workload.dtype.label,
        "dtype_stored_as": workload.dtype.described,
        "kv_dtype": workload.kv_dtype.label,
        "kv_dtype_stored_as": workload.kv_dtype.described,
        "routing": workload.routing.label,
        "attention_flops": workload.attention_flops,
        "logits": workload.logits,
        "mla": workload.mla_mode,
    }


def hardware_json(hardware: Hardware, peak_name: str | None = None) -> dict[str, Any]:
    """The datasheet's numbers and their sources."""
    found = {"name": hardware.name, **hardware.numbers(), "sources": hardware.sources}
    return found if peak_name is None else {**found, "peak_used": peak_name}


def operator_json(
    prediction: Prediction, operator: Operator, time: OperatorTime | None
) -> dict[str, Any]:
    """One operator; its numbers are those of one of its `count` layers."""
    workload = prediction.workload
    parts_s = [None] * len(operator.parts) if time is None else time.parts_s
    by_backend = {name: backend.operator_launches(operator) for name, backend in BACKENDS.items()}
    return {
        "path": operator.path,
        "kind": operator.kind,
        "count": operator.count,
        "flops": operator.total("flops"),
        "compares": operator.total("compares"),
        "compulsory_bytes": operator.compulsory_bytes,
        "activation_bytes": operator.total("activation_bytes"),
        "intermediate_bytes": operator.total("intermediate_bytes"),
        "hbm_read_bytes": None,
        "hbm_written_bytes": None,
        "launches": by_backend[workload.backend],
        "launches_by_backend": by_backend,
        "floor_s": prediction.operator_floor_s(operator),
        "predicted_s": None if time is None else time.seconds,
        "bound_by": prediction.operator_bound_by(operator),
        "formula": operator.formula,
        "source": operator.source,
        "parts": [
            _part_json(operator, part, workload, seconds)
            for part, seconds in zip(operator.parts, parts_s, strict=True)
        ],
    }


def _part_json(
    operator: Operator, part: Part, workload: Workload, predicted_s: Number | None
) -> dict[str, Any]:
    by_backend = {name: backend.launches(operator, part) for name, backend in BACKENDS.items()}
    return {
        "name": part.name,
        "kind": part.kind,
        "routing": part.routing,
        "flops": part.flops,
        "compares": part.compares,
        "bytes": part.compulsory_bytes,
        "activation_bytes": part.activation_bytes,
        "intermediate_bytes": part.intermediate_bytes,
        "launches": by_backend[workload.backend],
        "launches_by_backend": by_backend,
        "predicted_s": predicted_s,
    }


def regions_json(prediction: Prediction) -> list[dict[str, Any]]:
    """The regions that kernels of the backend span, with the sums of their operators' layers."""
    backend, time = BACKENDS[prediction.workload.backend], prediction.time
    regions = [r for r in backend.regions(prediction.costs.operators) if len(r.operators) > 1]
    seconds = (
        [None] * len(regions) if isinstance(time, Unknown) else [t.seconds for t in time.regions]
    )
    return [
        {
            "path": region.path,
            "leaves": [operator.leaf for operator in region.operators],
            "count": region.count,
            "flops": sum(operator.total("flops") for operator in region.operators),
            "compares": sum(operator.total("compares") for operator in region.operators),
            "compulsory_bytes": sum(o.compulsory_bytes for o in region.operators),
            "activation_bytes": sum(o.total("activation_bytes") for o in region.operators),
            "intermediate_bytes": sum(o.total("intermediate_bytes") for o in region.operators),
            "launches": sum(backend.operator_launches(o) for o in region.operators),
            "predicted_s": its_time,
        }
        for region, its_time in zip(regions, seconds, strict=True)
    ]


def operator_records(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The operators of a prediction's JSON as flat records, for a table file."""
    return [
        {key: value for key, value in operator.items() if not isinstance(value, list | dict)}
        for operator in data["operators"]
    ]


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The rows of a comparison, batch by batch, and the advantages over the first model."""
    first = comparison.predictions[0]
    reasons = _calibration_reasons(first[0].calibration)
    if isinstance(first[0].time, Unknown):
        reasons["rows.predicted_s"] = first[0].time.reason
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "models": [model_json(prediction.model) for prediction in first],
        "workload": {**workload_json(first[0].workload), "batch": list(comparison.batches)},
        "hardware": hardware_json(first[0].hardware, first[0].ceilings.peak_name),
        "calibration": calibration_json(first[0].calibration),
        "reasons": reasons,
        "rows": [
            _comparison_record(batch, prediction, line[0])
            for batch, line in zip(comparison.batches, comparison.predictions, strict=True)
            for prediction in line
        ],
        "advantages": [
            {
                "model": found.model,
                "reference": found.reference,
                "metric": found.metric,
                "batches": [list(interval) for interval in found.intervals],
                "max_batch": found.max_batch,
            }
            for found in comparison.advantages
        ],
        "findings": sentences(comparison.advantages),
    }


def _comparison_record(batch: int, prediction: Prediction, first: Prediction) -> dict[str, Any]:
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
        "bytes_of_first_over_this": float(first.costs.totals.compulsory_bytes)
        / float(sums.compulsory_bytes),
        "floor_s": prediction.floor_s,
        "predicted_s": None if isinstance(time, Unknown) else time.predicted_s,
        "bound_by": prediction.bound_by,
        "memory_bytes": prediction.memory.total_bytes,
        "fits": prediction.memory.fits,
        "max_batch": prediction.memory.max_batch,
    }


def model_overview(preset: str, model: ModelConfig) -> dict[str, Any]:
    """A model's counts by convention and its KV bytes, which no workload changes."""
    costs = step_costs(model, Workload().step())
    return {
        "preset": preset,
        **model_json(model),
        "parameters": asdict(costs.parameters),
        "kv_bytes_per_token_bf16": costs.kv_cache.bytes_per_token,
    }
