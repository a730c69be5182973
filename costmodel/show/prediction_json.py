"""A prediction as the JSON of `predict --json`. What is not known is null, with its reason."""

from collections.abc import Iterable, Mapping
from typing import Any

import costmodel
from costmodel.backends import BACKENDS
from costmodel.backends.step_kernels import StepKernels
from costmodel.costs.beyond_histogram import TOLD_BY_FLOOR, beyond, is_unknown, or_none
from costmodel.costs.columns import Value, computed_values, step_values
from costmodel.costs.intervals import COVERAGE
from costmodel.costs.latency import OperatorTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES
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
from costmodel.show.parallel_json import parallel_json
from costmodel.show.told_times import NO_LEAVES, transfer_json

SCHEMA_VERSION = 1
ONE_LAYER = "one layer"
ALL_LAYERS = "all_layers_"  # before the name of a number: its sum over the layers
"""What the numbers of an operator or a region are of: one of its `count` layers, not their sum."""
TRAFFIC = frozenset(
    {
        *("hbm_bytes.read", "operators.hbm_read_bytes"),
        *("hbm_bytes.written", "operators.hbm_written_bytes"),
    }
)
INTERVAL = ("interval_s", "interval_coverage")
NOT_SUMMED = frozenset({"batch", "context", "count"})  # numbers of a record that layers share


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
            **_interval_reasons(prediction),
        },
    }
    for name, value in values.items():
        *sections, last = name.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    document["parameters"]["by_group"] = prediction.costs.parameters.by_group
    document["hbm_bytes"] |= _read_interval(prediction)
    document["time"] |= interval_json(prediction) | transfer_json(prediction.time)
    document["energy"] |= _energy_interval(prediction)
    document["flops"]["attention_convention"] = workload.attention_flops
    if prediction.parallel is not None:
        document["parallel"] = parallel_json(prediction) | document["parallel"]
    document["operators"] = operators_json(prediction)
    document["regions"] = regions
    return document


def _read_interval(prediction: Prediction) -> dict[str, Any]:
    """The interval about the bytes read, and how often it holds; nothing without them."""
    traffic = prediction.traffic()
    if isinstance(traffic, Unknown) or is_unknown(traffic.read):
        return {}
    return {"read_interval": list(traffic.read_interval), "interval_coverage": COVERAGE}


def interval_json(prediction: Prediction) -> dict[str, Any]:
    """The interval about the predicted time, seconds, and how often it is meant to hold."""
    time = prediction.time
    if isinstance(time, Unknown) or time.interval_s is None:
        return dict.fromkeys(INTERVAL)
    return dict(zip(INTERVAL, ([float(end) for end in time.interval_s], COVERAGE), strict=True))


def _interval_reasons(prediction: Prediction) -> dict[str, str]:
    """Why there is no interval; nothing where there is one."""
    time = prediction.time
    reason = NO_LEAVES
    if isinstance(time, Unknown):
        reason = time.reason
    elif time.interval_s is not None:
        return {}
    return {f"time.{name}": reason for name in INTERVAL}


def _energy_interval(prediction: Prediction) -> dict[str, Any]:
    """The interval about the energy of the predicted time; nothing without steady loops."""
    curves, time = prediction.calibration, prediction.time
    if isinstance(curves, Unknown) or isinstance(time, Unknown) or curves.energy is None:
        return {}
    if isinstance(time.energy_j, Unknown):
        return {}
    ends = time.interval_s
    timed = None if ends is None else (float(time.predicted_s), float(ends[0]), float(ends[1]))
    interval = curves.energy.interval_j(float(time.energy_j), timed)
    return {"interval_j": list(interval), "interval_coverage": COVERAGE}


def unknown_reasons(
    prediction: Prediction, values: dict[str, Value], lists: tuple[str, ...] = ()
) -> dict[str, str]:
    """Why numbers are None, by name: those of a step (`values`), and of `lists` in the JSON."""
    time = prediction.time
    unknown = time if isinstance(time, Unknown) else time.energy_j  # what a calibration lacks
    reasons = _beyond_reasons(prediction, values, lists)
    names = [name for name, value in values.items() if value is None and name not in reasons]
    names += [
        name
        for name in STEP_QUANTITIES
        if name.startswith(lists) and _always_none(prediction, name)
    ]
    for name in names:
        quantity = STEP_QUANTITIES[name]
        reason = quantity.none_because
        if name in TRAFFIC:
            traffic = prediction.traffic()
            assert isinstance(traffic, Unknown), name
            reason = traffic.reason
        elif quantity.by_backend:
            reason = _refusal(prediction, name) or ""
        elif not reason:
            assert isinstance(unknown, Unknown), name
            reason = unknown.reason
        reasons[name] = reason
    return reasons


def _beyond_reasons(
    prediction: Prediction, values: dict[str, Value], lists: tuple[str, ...]
) -> dict[str, str]:
    """The reasons of what a histogram cannot give, by name."""
    unknown = beyond(prediction.costs.operators, prediction.workload)
    if unknown is None:
        return {}
    computed = computed_values(prediction)
    names = [name for name in values if name in TOLD_BY_FLOOR or is_unknown(computed.get(name))]
    if lists:
        records = {
            "operators": operators_json(prediction),
            "operators.parts": [
                part for operator in operators_json(prediction) for part in operator["parts"]
            ],
            "regions": regions_json(prediction),
        }
        listed = {
            f"{list_name}.{field}"
            for list_name, of_list in records.items()
            for record in of_list
            for field, value in record.items()
            if value is None
        }
        names += sorted(name for name in listed if not _always_none(prediction, name))
    return dict.fromkeys(names, unknown.reason)


def _always_none(prediction: Prediction, name: str) -> bool:
    """Whether a number is None for another reason than the routing of the step."""
    quantity = STEP_QUANTITIES.get(name)
    if quantity is None:  # what is named, such as the limiting resource
        return False
    untimed = quantity.calibrated and isinstance(prediction.time, Unknown)
    refused = quantity.by_backend and _refusal(prediction, name) is not None
    refused |= name in TRAFFIC and prediction.parallel is not None
    return bool(quantity.none_because) or untimed or refused


def _refusal(prediction: Prediction, name: str) -> str | None:
    """Why a number of launches is None; of `launches_by_backend.NAME` it is that backend's."""
    owner, _, backend = name.rpartition(".")
    if owner.endswith("by_backend"):
        return prediction.costs.kernels(backend).refusal
    return prediction.kernels.refusal


def operators_json(prediction: Prediction) -> list[dict[str, Any]]:
    """The operators in the order of the step; numbers are those of one of their `count` layers."""
    operators, time = prediction.costs.operators, prediction.time
    kernels = {name: prediction.costs.kernels(name) for name in BACKENDS}
    times = [None] * len(operators) if isinstance(time, Unknown) else time.operators
    traffic = prediction.traffic()
    moved = [(None, None)] * len(operators) if isinstance(traffic, Unknown) else traffic.operators
    return [
        _operator_json(prediction, operator, operator_time, kernels)
        | {"hbm_read_bytes": or_none(read), "hbm_written_bytes": or_none(written)}
        for operator, operator_time, (read, written) in zip(operators, times, moved, strict=True)
    ]


def _operator_json(
    prediction: Prediction,
    operator: Operator,
    time: OperatorTime | None,
    kernels: dict[str, StepKernels],
) -> dict[str, Any]:
    parts_s = [None] * len(operator.parts) if time is None else time.parts_s
    floor = or_none(prediction.operator_floor_s(operator))
    by_backend = {name: of.operator_launches(operator) for name, of in kernels.items()}
    record = {
        "path": operator.path,
        "kind": operator.kind,
        "numbers_of": ONE_LAYER,
        "count": operator.count,
        "flops": operator.total("flops"),
        "compares": operator.total("compares"),
        "compulsory_bytes": operator.compulsory_bytes,
        "activation_bytes": operator.total("activation_bytes"),
        "intermediate_bytes": operator.total("intermediate_bytes"),
        "row_reads": operator.row_read_bytes,
        "host_read_bytes": operator.total("host_bytes"),
        "disk_read_bytes": operator.total("disk_bytes"),
        "hbm_read_bytes": None,
        "hbm_written_bytes": None,
        "launches": by_backend[prediction.workload.backend],
        "launches_by_backend": by_backend,
        "floor_s": floor,
        "predicted_s": None if time is None else time.seconds,
        "bound_by": None if floor is None else prediction.operator_bound_by(operator),
        "formula": operator.formula,
        "source": operator.source,
        "parts": [
            _part_json(
                part,
                seconds,
                {name: of.launches(operator, part) for name, of in kernels.items()},
                prediction.workload.backend,
            )
            for part, seconds in zip(operator.parts, parts_s, strict=True)
        ],
    }
    return _known(record)


def _part_json(
    part: Part, predicted_s: Number | None, by_backend: dict[str, Number | None], backend: str
) -> dict[str, Any]:
    record = {
        "name": part.name,
        "kind": part.kind,
        "routing": part.routing,
        "flops": part.flops,
        "compares": part.compares,
        "bytes": part.compulsory_bytes,
        "activation_bytes": part.activation_bytes,
        "intermediate_bytes": part.intermediate_bytes,
        "launches": by_backend[backend],
        "launches_by_backend": by_backend,
        "predicted_s": predicted_s,
    }
    return _known(record)


def _known(record: dict[str, Any]) -> dict[str, Any]:
    """The record with None for what a histogram cannot give."""
    return {name: or_none(value) for name, value in record.items()}


def regions_json(prediction: Prediction) -> list[dict[str, Any]]:
    """The regions that kernels of the backend span; numbers are those of one of `count` layers."""
    kernels, time = prediction.kernels, prediction.time
    regions = [
        region
        for region in kernels.regions(prediction.costs.operators)
        if len(region.operators) > 1
    ]
    times = (
        [None] * len(regions) if isinstance(time, Unknown) else [t.seconds for t in time.regions]
    )
    records = [
        {
            "path": region.path,
            "leaves": [operator.leaf for operator in region.operators],
            "numbers_of": ONE_LAYER,
            "count": region.count,
            "flops": sum(operator.total("flops") for operator in region.operators),
            "compares": sum(operator.total("compares") for operator in region.operators),
            "compulsory_bytes": sum(o.compulsory_bytes for o in region.operators),
            "activation_bytes": sum(o.total("activation_bytes") for o in region.operators),
            "intermediate_bytes": sum(o.total("intermediate_bytes") for o in region.operators),
            "row_reads": sum(o.row_read_bytes for o in region.operators),
            "host_read_bytes": sum(o.total("host_bytes") for o in region.operators),
            "disk_read_bytes": sum(o.total("disk_bytes") for o in region.operators),
            "launches": kernels.region_launches(region),
            "predicted_s": seconds,
        }
        for region, seconds in zip(regions, times, strict=True)
    ]
    return [_known(record) for record in records]


def operator_records(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The operators of a prediction's JSON as flat records, for a table file."""
    return with_all_layers(
        [
            {key: value for key, value in operator.items() if not isinstance(value, list | dict)}
            for operator in data["operators"]
        ]
    )


def with_all_layers(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records of operators with `all_layers_NAME`, the sum over the layers, beside each number.

    Args:
        records: Of operators as in the JSON, numbers of one of `count` layers; None is unknown.
    """
    widened = []
    for record in records:
        columns: dict[str, Any] = {}
        for name, value in record.items():
            columns[name] = value
            if name not in NOT_SUMMED and (value is None or type(value) in (int, float)):
                columns[f"{ALL_LAYERS}{name}"] = None if value is None else record["count"] * value
        widened.append(columns)
    return widened
