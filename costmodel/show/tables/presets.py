"""Models and GPUs as people read them."""

from collections.abc import Iterable
from typing import Any

from costmodel import units
from costmodel.costs.predict import step_costs
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.show.tables.prediction import model_notes
from costmodel.show.text import Table


def models_table(overviews: Iterable[dict[str, Any]]) -> Table:
    """The presets with their counts by convention."""
    rows = []
    for each in overviews:
        counts = each["parameters"]
        rows.append(
            (
                each["preset"],
                each["name"],
                units.parameters(counts["total"]),
                units.parameters(counts["active_without_embeddings"]),
                units.parameters(counts["active_with_lm_head"]),
                units.parameters(counts["active_with_embeddings"]),
                units.count(each["kv_bytes_per_token_bf16"]),
            )
        )
    return Table(
        title="Models (parameters with norms and biases; KV in bytes per token, bf16)",
        headers=("preset", "model", "total", "active", "+ LM head", "+ both embeddings", "KV"),
        rows=tuple(rows),
        text_columns=2,
        notes=("active: without embeddings; k of E experts, H m rows of a memory layer.",),
    )


def model_table(model: ModelConfig) -> Table:
    """One model: what each group of parameters holds, and its counts."""
    costs = step_costs(model, Workload().step())
    counts = costs.parameters
    groups = [(f"  {group}", f"{held:,}") for group, held in counts.by_group.items()]
    return Table(
        title=model.name,
        headers=("parameters", "count"),
        rows=(
            ("total", f"{counts.total:,}"),
            *groups,
            ("total without embeddings and LM head", f"{counts.total_without_embeddings:,}"),
            ("active without embeddings", f"{counts.active_without_embeddings:,}"),
            ("active with LM head", f"{counts.active_with_lm_head:,}"),
            ("active with both embeddings", f"{counts.active_with_embeddings:,}"),
            *((f"published {key}", units.parameters(int(v))) for key, v in model.published.items()),
            ("KV-cache bytes per token, bf16", f"{costs.kv_cache.bytes_per_token:,}"),
        ),
        notes=model_notes(model),
    )


def hardware_table(hardwares: Iterable[tuple[str, Hardware]]) -> Table:
    """Datasheet numbers of each GPU."""
    return Table(
        title="GPUs (dense peaks, datasheet)",
        headers=("name", "GPU", "bandwidth", "capacity", "L2", "bf16", "fp8", "int8", "power"),
        rows=tuple(
            (
                name,
                gpu.name,
                units.scaled(gpu.hbm_bytes_per_s, "B/s"),
                units.capacity(gpu.capacity_bytes),
                f"{gpu.l2_bytes / 2**20:.0f} MiB",
                units.scaled(gpu.dense_peak_flops_per_s.bf16, "FLOP/s"),
                units.scaled(gpu.dense_peak_flops_per_s.fp8, "FLOP/s"),
                units.scaled(gpu.dense_peak_flops_per_s.int8, "OP/s"),
                units.scaled(gpu.tdp_w, "W"),
            )
            for name, gpu in hardwares
        ),
        text_columns=2,
        notes=("Sources of each number: sparsecost hardware NAME.",),
    )


def hardware_sources(hardware: Hardware) -> Table:
    """Each number of one GPU with its source."""
    return Table(
        title=hardware.name,
        headers=("number", "value", "source"),
        rows=tuple(
            (path, f"{value:,.0f}" if value >= 1 else str(value), hardware.sources[path])
            for path, value in hardware.numbers().items()
        ),
        text_columns=3,
    )
