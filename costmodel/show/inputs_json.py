"""What a prediction was made from, as JSON: model, workload, GPU and calibration."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.step import step_costs
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import ONE_GPU


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
        "towers": [{**asdict(tower), "stored_bytes": tower.stored_bytes} for tower in model.towers],
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
        "dtype": workload.dtype_label,
        "dtype_stored_as": workload.dtype_described,
        "kv_dtype": workload.kv_dtype.label,
        "kv_dtype_stored_as": workload.kv_dtype.described,
        "routing": workload.routing.label,
        "attention_flops": workload.attention_flops,
        "logits": workload.logits,
        "fp32_math": workload.fp32_math,
        "mla": workload.mla_mode,
        "mla_cache": workload.mla_cache,
        "window_cache": workload.window_cache,
        "placement": workload.placement.label,
        "hot_rows_bytes": workload.placement.hot_rows_bytes,
        **({} if workload.mesh == ONE_GPU else {"mesh": workload.mesh.label}),
    }


def formats_json(prediction: Prediction) -> dict[str, str]:
    """The storage formats of the matrices and tables of each group that the model has."""
    step, labels = prediction.workload.step(), dict[str, dict[str, None]]()
    for operator in prediction.costs.operators:
        for weight in operator.weights:
            if weight.matrix:
                labels.setdefault(weight.group, {})[weight.stored_as(step).label] = None
    return {group: " and ".join(of_group) for group, of_group in labels.items()}


def common_formats(workloads: Sequence[Workload]) -> dict[str, str]:
    """The formats of several models' workloads in one: all different labels, in their order."""
    described = [workload_json(workload) for workload in workloads]
    return {
        name: " and ".join(dict.fromkeys(fields[name] for fields in described))
        for name in ("dtype", "dtype_stored_as", "kv_dtype", "kv_dtype_stored_as")
    }


def hardware_json(hardware: Hardware, peak_names: Sequence[str] = ()) -> dict[str, Any]:
    """The datasheet's numbers and their sources; `peak_names` are the peaks that price FLOPs.

    The first of them prices the default format of the weights.
    """
    datasheet = {
        "name": hardware.name,
        **hardware.numbers(),
        **_link_words(hardware),
        "sources": hardware.sources,
    }
    if not peak_names:
        return datasheet
    return {**datasheet, "peak_used": peak_names[0], "other_peaks_used": list(peak_names[1:])}


def _link_words(hardware: Hardware) -> dict[str, str | bool]:
    """What the file says of links besides numbers; nothing of those that it lacks."""
    words: dict[str, str | bool] = {}
    if hardware.link is not None:
        words["link.name"] = hardware.link.name
    if hardware.node is not None:
        node = hardware.node
        words |= {"node.name": node.name, "node.kind": node.kind, "node.reduces": node.reduces}
    if hardware.network is not None:
        words["network.name"] = hardware.network.name
    return words


def calibration_json(calibration: Curves | Unknown) -> dict[str, Any] | None:
    """Which calibration it is: what was measured, when and with what; None where there is none."""
    if isinstance(calibration, Unknown):
        return None
    made = calibration.calibration
    return {
        "name": calibration.name,
        "machine": made.machine.name,
        "started": calibration.measured,
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
