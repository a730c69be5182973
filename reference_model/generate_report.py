"""The output of `sparsecost generate`: a JSON document, and a table made from it."""

from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import costmodel
from costmodel import units
from costmodel.costs.step import step_costs
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.show.text import Table

if TYPE_CHECKING:
    from reference_model.generate import Generated

SCHEMA_VERSION = 1
ONE_STEP = "not measured (one step has no spread)"


def document(config: ModelConfig, last: Workload, done: "Generated") -> dict[str, Any]:
    """All numbers of a run beside those predicted, as JSON; `last` is the last decode step."""
    costs = step_costs(config, last.step())
    steps = len(done.step_s)
    context, step_s = last.context + 1 - steps, median(done.step_s)
    low, _, high = quantiles(done.step_s, n=4) if steps > 1 else (None, None, None)
    missing = ("decode.step_quartile_low_s", "decode.step_quartile_high_s")
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "model": {"name": config.name, "notes": list(config.notes)},
        "workload": {
            "batch": last.batch,
            "context": context,
            "new_tokens": steps,
            "dtype": last.dtype_label,
        },
        "device": {"kind": done.device, "name": done.device_name, "torch": done.torch_version},
        "parameters": {"total": done.parameters, "predicted_total": costs.parameters.total},
        "kv_cache": {
            "held_bytes": done.cache_held_bytes,
            "predicted_bytes": costs.kv_cache.stored_bytes,
            "allocated_bytes": done.cache_allocated_bytes,
        },
        "prefill": {
            "time_s": done.prefill_s,
            "tokens_per_s": last.batch * context / done.prefill_s,
        },
        "decode": {
            "mode": "graph" if done.graph else "eager",
            "backend": last.backend,
            "step_median_s": step_s,
            "step_quartile_low_s": low,
            "step_quartile_high_s": high,
            "tokens_per_s": last.batch / step_s,
        },
        "tokens": list(done.tokens),
        "reasons": dict.fromkeys(missing, ONE_STEP) if steps == 1 else {},
    }


def table(report: dict[str, Any]) -> Table:
    """The table of a document."""
    work, device, cache = report["workload"], report["device"], report["kv_cache"]
    parameters, prefill, decode = report["parameters"], report["prefill"], report["decode"]
    batch, context, steps = work["batch"], work["context"], work["new_tokens"]
    low, high = decode["step_quartile_low_s"], decode["step_quartile_high_s"]
    mode = "replays of a CUDA graph" if decode["mode"] == "graph" else "eager steps"
    prompt = f"{batch:,} x {context:,} tokens in {units.seconds(prefill['time_s'])}"
    held = f"held: {batch:,} x {context + steps:,} tokens"
    kernels = "" if decode["backend"] == "torch" else f", by {decode['backend']} kernels"
    rows = (
        ("device", device["name"], f"torch {device['torch']}"),
        ("parameters", _count(**parameters), "with embeddings"),
        ("KV cache bytes", _count(cache["held_bytes"], cache["predicted_bytes"]), held),
        ("prefill", _rate(prefill), prompt),
        ("decode", _rate(decode), f"{steps:,} {mode} of {batch:,} tokens{kernels}"),
        ("decode step", units.seconds(decode["step_median_s"]), "median"),
        ("", ONE_STEP, "")
        if low is None
        else ("", f"{units.seconds(low)} to {units.seconds(high)}", "middle half of the steps"),
    )
    return Table(
        title=f"{report['model']['name']}: run with random weights and tokens, {work['dtype']}",
        headers=("quantity", "value", "what"),
        rows=rows,
        text_columns=3,
        notes=("Wall times of one run, no profile: `sparsecost predict` says what a step costs.",),
    )


def _rate(phase: dict[str, float]) -> str:
    return f"{units.significant(phase['tokens_per_s'])} tokens/s"


def _count(total: int, predicted_total: int) -> str:
    """A count, and whether it is the predicted one."""
    verdict = "as predicted" if total == predicted_total else f"predicted: {predicted_total:,}"
    return f"{total:,} ({verdict})"
