"""The values of a step's quantities by name: for the JSON of a prediction and a sweep's columns.

Names are those of the registry (`costs.quantities`), joined by dots: `flops.by_kind.matmul`.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import TypeAlias

import numpy as np

from costmodel.costs.beyond_histogram import without_nan
from costmodel.costs.footprint import Footprint
from costmodel.costs.gpu_axis import joined
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.mesh.predict import Parallel
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_SECTIONS
from costmodel.costs.step import Costs
from costmodel.inputs.workload import Backend
from costmodel.layers.numbers import Count, Number

EXACT_FLOAT = 2**53  # integers up to here become floats without rounding

Value: TypeAlias = Number | bool | str | None


def columns(
    costs: Costs,
    memory: Footprint,
    *,
    tokens: Count,
    backend: Backend,
    floor: Number,
    bound: Value,
    fits_l2: Value,
) -> dict[str, Value]:
    """All numbers of a step, or of a grid of steps, but predicted ones; None: not applicable.

    `tokens` is N = B T; `floor`, `bound` and `fits_l2` are those of the step on its GPU.
    """
    sums, routing, distinct = costs.totals, costs.routing, costs.distinct
    stored: dict[str, Value] = {
        f"{section}.{field.name}": getattr(record, field.name)
        for section, record in (
            ("parameters", costs.parameters),
            ("kv_cache", costs.kv_cache),
            ("memory", memory),
        )
        for field in fields(record)
        if field.name != "by_group"
    }
    return stored | {
        "memory.kv_room_bytes": memory.kv_room_bytes,
        "memory.kv_room_tokens": memory.kv_room_tokens(costs.kv_cache),
        "flops.total": sums.flops,
        "flops.per_token": _quotient(sums.flops, tokens),
        **{f"flops.by_kind.{kind}": flops for kind, flops in costs.flops_by_kind.items()},
        "routing.flops": routing.flops,
        "routing.compares": routing.compares,
        "routing.hbm_bytes": routing.compulsory_bytes,
        "routing.activation_bytes": routing.activation_bytes,
        "routing.intermediate_bytes": routing.intermediate_bytes,
        "routing.launches": costs.kernels(backend).routing_launches(costs.operators),
        "routing.expected_distinct_experts": distinct.experts,
        "routing.expected_distinct_rows": distinct.rows,
        "routing.expected_distinct_rows_union": distinct.rows_union,
        "hbm_bytes.compulsory": sums.compulsory_bytes,
        "hbm_bytes.weights": sums.weight_bytes,
        "hbm_bytes.kv": sums.kv_read_bytes + sums.kv_written_bytes,
        "hbm_bytes.state": sums.state_bytes,
        "hbm_bytes.table_rows": sums.row_bytes,
        "hbm_bytes.row_reads": costs.rows.read_bytes,
        "hbm_bytes.rows_in_sectors": costs.rows.sector_bytes,
        **_far_columns(costs),
        "hbm_bytes.indices": sums.index_bytes,
        "hbm_bytes.io": sums.io_bytes,
        "hbm_bytes.activations": sums.activation_bytes,
        "hbm_bytes.intermediates": sums.intermediate_bytes,
        "time.floor_s": floor,
        "time.floor_tokens_per_s": tokens / floor,
        "time.bound_by": bound,
        "time.fits_l2": fits_l2,
    }


def parallel_columns(costs: Costs, of: Parallel) -> dict[str, Value]:
    """What a step on a mesh has besides: of one GPU, and of exchanges."""
    gpus, fullest, spent = of.step.mesh.gpus, of.step.fullest, of.all_spent
    kept = ("weights_bytes", "kv_bytes", "state_bytes", "activations_bytes")
    of_gpu = {
        **{name: getattr(fullest, name) for name in (*kept, "total_bytes", "capacity_bytes")},
        "flops": costs.totals.flops / gpus,
        "hbm_bytes": costs.totals.compulsory_bytes / gpus,
    }
    exchanged = {
        "bytes": of.node_bytes + of.network_bytes,
        "node_bytes": of.node_bytes,
        "network_bytes": of.network_bytes,
        "floor_s": spent.bound_s,
        "time_s": spent.typical_s,
        "low_s": spent.low_s,
        "high_s": spent.high_s,
    }
    return {
        **{f"parallel.per_gpu.{name}": value for name, value in of_gpu.items()},
        "parallel.busiest_experts": of.busiest_experts,
        "parallel.busiest_rows": of.busiest_rows,
        **{f"parallel.communication.{name}": value for name, value in exchanged.items()},
    }


def _far_columns(costs: Costs) -> dict[str, Value]:
    """What stands outside HBM, and what of it is read."""
    columns: dict[str, Value] = {}
    for place, tables in costs.far.items():
        columns[f"{place}_bytes.read"] = tables.read
        columns[f"{place}_bytes.row_reads"] = tables.row_reads
        if place == "host":  # a disk is read in blocks of its own
            columns["host_bytes.rows_in_sectors"] = tables.sector_bytes
        columns[f"{place}_bytes.table_bytes"] = tables.table_bytes
    return columns


PREDICTED = tuple(
    quantity.name for section in STEP_SECTIONS for quantity in section if quantity.calibrated
)


def predicted_columns(time: StepTime | Unknown, *, tokens: Count) -> dict[str, Value]:
    """The numbers that a calibration gives, by the names of `PREDICTED`; None: not known."""
    if isinstance(time, Unknown):
        return dict.fromkeys(PREDICTED)
    energy = None if isinstance(time.energy_j, Unknown) else time.energy_j
    return {
        "routing.time_s": time.routing_s,
        "routing.share_of_time": time.routing_s / time.graph_s,  # both as part of the graph
        "time.predicted_s": time.predicted_s,
        "time.predicted_graph_s": time.graph_s,
        "time.predicted_eager_s": time.eager_s,
        "time.tokens_per_s": tokens / time.predicted_s,
        "time.predicted_fetch_s": time.fetches.seconds,
        "time.predicted_exposed_s": time.fetches.exposed_s,
        "energy.predicted_j": energy,
        "energy.j_per_token": None if energy is None else energy / tokens,
    }


def told_columns(times: Sequence[StepTime | Unknown]) -> dict[str, Value]:
    """What is told of predicted times besides, for each GPU; nothing that none of them has.

    The ends of the interval, seconds, and the GPU that a time is transferred from.
    """
    known = [time if isinstance(time, StepTime) else None for time in times]
    columns: dict[str, Value] = {}
    for place, name in enumerate(("time.interval_low_s", "time.interval_high_s")):
        ends = joined(
            [time.interval_s[place] if time and time.interval_s else None for time in known]
        )
        columns |= {} if ends is None else {name: ends}
    sources = [time.transfer.source if time and time.transfer else None for time in known]
    if any(sources):
        columns["time.transferred_from"] = np.array(sources, dtype=object).reshape(-1, 1, 1)
    return columns


def step_values(prediction: Prediction) -> dict[str, Value]:
    """All numbers of one step by their names in the JSON; None: not known, or not applicable."""
    return without_nan(computed_values(prediction))


def computed_values(prediction: Prediction) -> dict[str, Value]:
    """The same, with NaN for what a histogram cannot give."""
    workload = prediction.workload
    tokens = workload.batch * workload.new_tokens
    traffic = prediction.traffic()
    return {
        **columns(
            prediction.costs,
            prediction.memory,
            tokens=tokens,
            backend=workload.backend,
            floor=prediction.floor_s,
            bound=prediction.bound_by,
            fits_l2=prediction.fits_l2,
        ),
        **predicted_columns(prediction.time, tokens=tokens),
        **(parallel_columns(prediction.costs, prediction.parallel) if prediction.parallel else {}),
        "hbm_bytes.read": None if isinstance(traffic, Unknown) else traffic.read,
        "hbm_bytes.written": None if isinstance(traffic, Unknown) else traffic.written,
    }


def _quotient(a: Number, b: Number) -> Number:
    """A / b rounded once, as Python divides integers; NumPy would round a and b first."""
    if isinstance(a, np.ndarray) and a.dtype != object and a.max() > EXACT_FLOAT:
        return a.astype(object) / b
    return a / b
