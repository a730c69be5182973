"""A prediction as the JSON of the contract (design section 7). Unknown is null, with its reason."""

from typing import Any

import costmodel
from costmodel.costs.columns import Value, step_values
from costmodel.costs.latency import OperatorTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Number, Operator, Part
from costmodel.show.inputs_json import (
    calibration_json,
    calibration_reasons,
    hardware_json,
    model_json,
    workload_json,
)

SCHEMA_VERSION = 1


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """The prediction as plain dicts, lists, numbers, strings and None."""
    workload, values = prediction.workload, step_values(prediction)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "model": model_json(prediction.model),
        "workload": workload_json(workload),
        "hardware": hardware_json(prediction.hardware, prediction.peak_name),
        "calibration": calibration_json(prediction.calibration),
        "backend": workload.backend,
        "reasons": {
            **calibration_reasons(prediction.calibration),
            **unknown_reasons(prediction, values),
        },
    }
    for name, value in values.items():
        *sections, last = name.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    document["parameters"]["by_group"] = prediction.costs.parameters.by_group
    document["flops"]["attention_convention"] = workload.attention_flops
    document["operators"] = operators_json(prediction)
    return document


def unknown_reasons(prediction: Prediction, values: dict[str, Value]) -> dict[str, str]:
    """Why each number of a step (`values`) and of its operators that is None is so, by name."""
    time = prediction.time
    unknown = time if isinstance(time, Unknown) else time.energy_j  # what a calibration lacks
    names = [name for name, value in values.items() if value is None]
    names += [
        name
        for name, quantity in STEP_QUANTITIES.items()
        if name.startswith("operators.")
        and (quantity.none_because or (quantity.calibrated and isinstance(time, Unknown)))
    ]
    reasons = {}
    for name in names:
        reason = STEP_QUANTITIES[name].none_because
        if not reason:
            assert isinstance(unknown, Unknown), name
            reason = unknown.reason
        reasons[name] = reason
    return reasons


def operators_json(prediction: Prediction) -> list[dict[str, Any]]:
    """The operators in the order of the step; numbers are those of one of their `count` layers."""
    operators, time = prediction.costs.operators, prediction.time
    times = [None] * len(operators) if isinstance(time, Unknown) else time.operators
    return [
        _operator_json(prediction, operator, operator_time)
        for operator, operator_time in zip(operators, times, strict=True)
    ]


def _operator_json(
    prediction: Prediction, operator: Operator, time: OperatorTime | None
) -> dict[str, Any]:
    workload = prediction.workload
    parts_s = [None] * len(operator.parts) if time is None else time.parts_s
    by_backend = {
        "torch": operator.total("launches_torch"),
        "fused": operator.total("launches_fused"),
    }
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
            _part_json(part, workload, seconds)
            for part, seconds in zip(operator.parts, parts_s, strict=True)
        ],
    }


def _part_json(part: Part, workload: Workload, predicted_s: Number | None) -> dict[str, Any]:
    return {
        "name": part.name,
        "kind": part.kind,
        "routing": part.routing,
        "flops": part.flops,
        "compares": part.compares,
        "bytes": part.compulsory_bytes,
        "activation_bytes": part.activation_bytes,
        "intermediate_bytes": part.intermediate_bytes,
        "launches": getattr(part, f"launches_{workload.backend}"),
        "launches_by_backend": {"torch": part.launches_torch, "fused": part.launches_fused},
        "predicted_s": predicted_s,
    }


def operator_records(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The operators of a prediction's JSON as flat records, for a table file."""
    return [
        {key: value for key, value in operator.items() if not isinstance(value, list | dict)}
        for operator in data["operators"]
    ]
