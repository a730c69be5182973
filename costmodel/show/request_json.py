"""Served requests as JSON and as one flat record. Unknown is null, with its reason."""

from dataclasses import asdict
from typing import Any

from costmodel.costs.beyond_histogram import beyond, is_unknown
from costmodel.costs.intervals import COVERAGE
from costmodel.costs.latency import Unknown
from costmodel.questions.request import LEFT_OUT, NO_DECODE, NO_PRICE, Estimate, Served
from costmodel.questions.target_batch import TargetBatch
from costmodel.show.inputs_json import workload_json
from costmodel.show.parallel_json import NOT_MEASURED, mesh_json
from costmodel.show.prediction_json import prediction_json
from costmodel.show.told_times import request_intervals, transfer_json

SCHEMA_VERSION = 1
OF_STEPS = ("sparsecost_version", "model", "hardware", "calibration", "backend")


def numbers(served: Served) -> dict[str, Any]:
    """Every number of served requests by its name in the JSON, such as `ttft.predicted_s`.

    What a histogram cannot give is `Unknown`, with the reason of the first step that lacks it.
    """
    computed = _computed(served)
    prefill, end = served.prefill_step, served.end_step
    unknown = beyond(prefill.costs.operators, prefill.workload) or beyond(
        end.costs.operators, end.workload
    )
    if unknown is None:
        return computed
    if is_unknown(prefill.floor_s):
        computed["ttft.bound_by"] = unknown
    return {name: unknown if is_unknown(value) else value for name, value in computed.items()}


def _computed(served: Served) -> dict[str, Any]:
    """The same, with NaN for what a histogram cannot give."""
    request, prefill, decode = served.request, served.prefill, served.decode
    start, end = served.prefill_step.memory, served.end_step.memory
    return {
        "request.prompt": request.prompt,
        "request.output": request.output,
        "request.batch": request.batch,
        "request.price_per_hour": _or(request.price_per_hour, NO_PRICE),
        "request.output_tokens": served.output_tokens,
        "request.total_tokens": served.total_tokens,
        **_both("ttft", "s", served.ttft_s),
        "ttft.bound_by": served.prefill_step.bound_by,
        **_both("tpot", "s", served.tpot_s),
        **_both("latency", "s", served.latency_s),
        **_both("throughput", "tokens_per_s", served.tokens_per_s),
        **_both("throughput", "tokens_per_s_per_user", served.tokens_per_s_per_user),
        "decode.steps": decode.steps,
        "decode.evaluated": decode.evaluated,
        "decode.error_bound": decode.error_bound,
        "hbm_bytes.prefill": prefill.hbm_bytes,
        "hbm_bytes.decode": decode.hbm_bytes,
        "hbm_bytes.total": served.hbm_bytes,
        "flops.prefill": prefill.flops,
        "flops.decode": decode.flops,
        "flops.total": served.flops,
        "energy.prefill_j": prefill.energy_j,
        "energy.decode_j": decode.energy_j,
        "energy.total_j": served.energy_j,
        "energy.j_per_request": served.j_per_request,
        "energy.j_per_million_output_tokens": served.j_per_million_output_tokens,
        "energy.j_per_million_tokens": served.j_per_million_tokens,
        **_both("cost", "usd", served.usd),
        **_both("cost", "usd_per_request", served.usd_per_request),
        **_both("cost", "usd_per_million_output_tokens", served.usd_per_million_output_tokens),
        **_both("cost", "usd_per_million_tokens", served.usd_per_million_tokens),
        "memory.prefill_bytes": start.total_bytes,
        "memory.end_bytes": end.total_bytes,
        "memory.kv_end_bytes": end.kv_bytes,
        "memory.capacity_bytes": end.capacity_bytes,
        "memory.prefill_fits": start.fits,
        "memory.end_fits": end.fits,
        "memory.fits": served.fits,
        "memory.max_batch": served.max_batch,
        "memory.max_batch_at_end": end.max_batch,
        **_exchange_seconds(served),
    }


def _both(section: str, what: str, estimate: Estimate) -> dict[str, float | Unknown]:
    return {
        f"{section}.floor_{what}": estimate.floor,
        f"{section}.predicted_{what}": estimate.predicted,
    }


def _or(value: Any, unknown: Unknown) -> Any:  # noqa: ANN401 - any value
    return unknown if value is None else value


def request_json(served: Served, found: TargetBatch | None = None) -> dict[str, Any]:
    """Served requests as plain dicts, lists, numbers, strings and None.

    `found` is the batch that a target gave, where one was asked for.
    """
    step = prediction_json(served.prefill_step)
    reasons = {name: why for name, why in step["reasons"].items() if name.startswith("calibration")}
    last = None if served.last_step is None else workload_json(served.last_step.workload)
    if last is None:
        reasons["workload.last_decode"] = NO_DECODE.reason
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        **{name: step[name] for name in OF_STEPS},
        "workload": {"prefill": step["workload"], "last_decode": last},
        **_parallel(served),
        **({} if found is None else {"target": _target(found)}),
        "left_out": LEFT_OUT,
        "reasons": reasons,
    }
    for name, value in numbers(served).items():
        section, last_name = name.split(".")
        unknown = isinstance(value, Unknown)
        document.setdefault(section, {})[last_name] = None if unknown else value
        if unknown:
            reasons[name] = value.reason
    for section, interval in request_intervals(served).items():
        document[section] |= {"interval_s": interval, "interval_coverage": COVERAGE}
    if of_time := transfer_json(served.prefill_step.time):
        document["time"] = of_time
    return document


def _target(found: TargetBatch) -> dict[str, Any]:
    """A target and the batch that meets it; 0 where none does."""
    return {
        **asdict(found.target),
        "batch": found.batch,
        "basis": found.basis,
        "limited_by": found.limited_by,
        "memory_batch": found.memory_batch,
        "answer": found.sentence(),
    }


def _parallel(served: Served) -> dict[str, Any]:
    """The mesh; empty on one GPU."""
    prefill = served.prefill_step.parallel
    if prefill is None:
        return {}
    return {"parallel": {**mesh_json(prefill.step.mesh), "measured": NOT_MEASURED}}


def _exchange_seconds(served: Served) -> dict[str, float]:
    """What exchanges take of the prefill and of the last decode step; empty on one GPU."""
    steps = {"prefill": served.prefill_step, "last_decode": served.last_step}
    return {
        f"parallel.{name}_exchanges_s": float(step.parallel.all_spent.typical_s)
        for name, step in steps.items()
        if step is not None and step.parallel is not None
    }


def request_record(served: Served) -> dict[str, Any]:
    """Served requests as one line of a table file: what was asked, and every number."""
    step, calibration = served.prefill_step, served.prefill_step.calibration
    return {
        "model": step.model.name,
        "hardware": step.hardware.name,
        "calibration": None if isinstance(calibration, Unknown) else calibration.name,
        **transfer_json(step.time),
        "dtype": step.workload.dtype_label,
        "kv_dtype": step.workload.kv_dtype.label,
        "routing": step.workload.routing.label,
        "backend": step.workload.backend,
        "gpus": served.gpus,
        "mesh": step.workload.mesh.label,
        **{
            name: None if isinstance(value, Unknown) else value
            for name, value in numbers(served).items()
        },
    }
