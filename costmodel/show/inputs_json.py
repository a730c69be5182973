"""What a prediction was made from, as JSON: model, workload, GPU and calibration."""

from dataclasses import asdict
from typing import Any

from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import step_costs
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload


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


def model_overview(preset: str, model: ModelConfig) -> dict[str, Any]:
    """A model's counts by convention and its KV bytes, which no workload changes."""
    costs = step_costs(model, Workload().step())
    return {
        "preset": preset,
        **model_json(model),
        "parameters": asdict(costs.parameters),
        "kv_bytes_per_token_bf16": costs.kv_cache.bytes_per_token,
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
        "mla_cache": workload.mla_cache,
        "window_cache": workload.window_cache,
    }


def hardware_json(hardware: Hardware, peak_name: str | None = None) -> dict[str, Any]:
    """The datasheet's numbers and their sources; `peak_name` is the peak that prices FLOPs."""
    datasheet = {"name": hardware.name, **hardware.numbers(), "sources": hardware.sources}
    return datasheet if peak_name is None else {**datasheet, "peak_used": peak_name}


def calibration_json(calibration: Curves | Unknown) -> dict[str, Any] | None:
    """Which calibration it is: what was measured, when and with what; None where there is none."""
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


def calibration_reasons(calibration: Curves | Unknown) -> dict[str, str]:
    """Why there is no calibration, or what of it was not recorded, by name."""
    if isinstance(calibration, Unknown):
        return {"calibration": calibration.reason}
    reasons = {}
    if calibration.calibration.machine.driver is None:
        reasons["calibration.driver"] = "not recorded"
    if calibration.calibration.commit is None:
        reasons["calibration.commit"] = "not recorded: measured outside a git checkout"
    return reasons
