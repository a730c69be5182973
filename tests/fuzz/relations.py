"""What holds between predictions, whatever the input: `check_step` asserts it of one model.

Each relation is of the design or the issue, none of it comes from the code's own numbers.
"""

import json
import math
from dataclasses import replace
from random import Random
from typing import Any

from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, Unknown
from costmodel.costs.predict import predict
from costmodel.inputs.hardware import Hardware, load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import MAX_BATCH, MAX_CONTEXT, MAX_NEW_TOKENS, Workload
from costmodel.layers.attention import Attention
from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.routing.popularity import Routing, Uniform
from costmodel.show.prediction_json import prediction_json

H200 = load_hardware("h200")
BATCHES = (1, 2, 3, 7, 64, 1000, MAX_BATCH // 2)
CONTEXTS = (0, 1, 2, 63, 127, 1024, 4096, 2**17, MAX_CONTEXT - 1)
NEW_TOKENS = (1, 2, 129, 2048, MAX_NEW_TOKENS)
READ = ("kv_cache.read_bytes", "hbm_bytes.compulsory", "hbm_bytes.kv", "time.floor_s")
ROUNDING = 1e-12  # of sums of floats, relative


def some_workload(rng: Random, routing: Routing | None = None) -> Workload:
    """A step of any size that is allowed, the largest too."""
    decode = rng.random() < 0.7
    return Workload(
        phase="decode" if decode else "prefill",
        batch=rng.choice(BATCHES),
        context=rng.choice(CONTEXTS),
        new_tokens=1 if decode else rng.choice(NEW_TOKENS),
        routing=routing or Uniform(),
        attention_flops=rng.choice(("causal", "full")),
        logits=rng.choice(("last", "all")),
        window_cache=rng.choice(("window", "whole")),
    )


def predicted(
    model: ModelConfig,
    workload: Workload,
    gpu: Hardware = H200,
    calibration: Curves | Unknown = NOT_ASKED,
) -> dict[str, Any]:
    """The JSON of a prediction, which holds finite numbers and no number below zero."""
    document = prediction_json(predict(model, workload, gpu, calibration))
    json.dumps(document, allow_nan=False)
    for section in ("parameters", "kv_cache", "flops", "hbm_bytes", "routing", "time", "energy"):
        for name, value in document[section].items():
            if isinstance(value, int | float):
                assert value >= 0, f"{section}.{name}={value}"
    return document


def value(document: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - JSON
    """A number of a prediction's JSON by its name: `time.floor_s`."""
    section, _, field = name.partition(".")
    return document[section][field]


def check_step(
    model: ModelConfig,
    rng: Random,
    *,
    gpu: Hardware = H200,
    calibration: Curves | Unknown = NOT_ASKED,
    routing: Routing | None = None,
) -> dict[str, Any]:
    """Assert the relations of one model at some workload; its JSON."""
    workload = some_workload(rng, routing)
    base = predicted(model, workload, gpu, calibration)
    twice = predicted(model, replace(workload, batch=2 * workload.batch), gpu, calibration)
    whole = whole_tokens(model)
    more = workload.context + whole * rng.choice((1, 2, workload.context // whole + 1))
    if more > MAX_CONTEXT:
        more = workload.context
    longer = predicted(model, replace(workload, context=more), gpu, calibration)
    check_longer(base, longer)
    check_twice(base, twice)
    check_bound(base)
    check_sums(base)
    return base


def whole_tokens(model: ModelConfig) -> int:
    """How many tokens more leave a sequence as far within an entry, and within a chunk, as it was.

    Fewer may close an entry, whose tokens are then read no more, or a chunk, which is read no more.
    """
    mixers = [mixer for mixer, _ in model.attention_groups]
    entries = [m.compress_ratio for m in mixers if isinstance(m, CompressedAttention)]
    chunks = [m.attention_chunk_size for m in mixers if isinstance(m, Attention)]
    return math.lcm(*(tokens for tokens in entries + chunks if tokens is not None))


def check_twice(base: dict[str, Any], twice: dict[str, Any]) -> None:
    """Twice the batch is twice the KV cache, and no weight more is stored."""
    for name, number in base["kv_cache"].items():
        doubled = twice["kv_cache"][name]
        per_batch = name in {"stored_bytes", "read_bytes", "written_bytes", "state_bytes"}
        if number is not None:
            assert doubled == (2 * number if per_batch else number), f"kv_cache.{name}: {doubled}"
    assert twice["parameters"] == base["parameters"]
    assert value(twice, "memory.weights_bytes") == value(base, "memory.weights_bytes")
    assert value(twice, "flops.total") >= value(base, "flops.total")


def check_longer(base: dict[str, Any], longer: dict[str, Any]) -> None:
    """Longer by whole entries and chunks never reads less, and its bound is never lower."""
    for name in READ:
        before, after = value(base, name), value(longer, name)
        if before is not None and after is not None:
            assert after >= before * (1 - ROUNDING), f"{name}: {before} at less, {after} at more"
    assert value(longer, "flops.total") >= value(base, "flops.total")


def check_bound(base: dict[str, Any]) -> None:
    """No time is predicted below the roofline bound, of the step or of an operator."""
    floor, time = value(base, "time.floor_s"), base["time"]
    for name in ("predicted_s", "predicted_graph_s", "predicted_eager_s"):
        if time[name] is not None and floor is not None:
            assert time[name] >= floor, f"time.{name}={time[name]} is below floor_s={floor}"
    for operator in base["operators"]:
        if operator["predicted_s"] is not None and not base["regions"]:
            seconds, bound = operator["predicted_s"], operator["floor_s"]
            assert seconds >= bound, f"{operator['path']}: {seconds} is below {bound}"


def check_sums(base: dict[str, Any]) -> None:
    """Operators sum to the totals."""
    for field, name in (("flops", "flops.total"), ("compulsory_bytes", "hbm_bytes.compulsory")):
        total, parts = value(base, name), [o[field] for o in base["operators"]]
        if total is not None and None not in parts:
            summed = sum(o["count"] * o[field] for o in base["operators"])
            assert math.isclose(summed, total, rel_tol=1e-9), f"{name}={total}, parts {summed}"
