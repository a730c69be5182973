"""A prediction as the JSON of `predict --json`. What is not known is null, with its reason."""

from typing import Any

import costmodel
from costmodel.backends import BACKENDS
from costmodel.costs.columns import Value, step_values
from costmodel.costs.latency import OperatorTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.workload import Workload
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part
from costmodel.show.inputs_json import (
    calibration_json,
    calibration_reasons,
    formats_json,
    hardware_json,
    model_json,
    workload_json,
)

SCHEMA_VERSION = 1


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """The prediction as plain dicts, lists, numbers, strings and None."""
    workload, values = prediction.workload, step_values(prediction)
    regions = regions_json(prediction)
    lists = ("operators.", "regions.") if regions else ("operators.",)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "model": {**model_json(prediction.model), "formats": formats_json(prediction)},
        "workload": workload_json(workload),
        "hardware": hardware_json(prediction.hardware, prediction.ceilings.peak_names),
        "calibration": calibration_json(prediction.calibration),
        "backend": workload.backend,
        "reasons": {
            **calibration_reasons(prediction.calibration),
            **unknown_reasons(prediction, values, lists),
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
    document["regions"] = regions
    return document


def unknown_reasons(
    prediction: Prediction, values: dict[str, Value], lists: tuple[str, ...] = ()
) -> dict[str, str]:
    """Why numbers are None, by name: those of a step (`values`), and of `lists` in the JSON."""
    time = prediction.time
    unknown = time if isinstance(time, Unknown) else time.energy_j  # what a calibration lacks
    names = [name for name, value in values.items() if value is None]
    names += [
        name
        for name, quantity in STEP_QUANTITIES.items()
        if name.startswith(lists)
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
    regions = [
        region
        for region in backend.regions(prediction.costs.operators)
        if len(region.operators) > 1
    ]
    times = (
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
            "predicted_s": seconds,
        }
        for region, seconds in zip(regions, times, strict=True)
    ]


def operator_records(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The operators of a prediction's JSON as flat records, for a table file."""
    return [
        {key: value for key, value in operator.items() if not isinstance(value, list | dict)}
        for operator in data["operators"]
    ]
