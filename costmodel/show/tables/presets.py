"""Models and GPUs as people read them."""

from collections.abc import Iterable
from typing import Any

from costmodel import units
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.costs.step import step_costs
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.show.tables.columns import cell, head
from costmodel.show.tables.notes import model_notes
from costmodel.show.text import Table

ACTIVE = ("active_without_embeddings", "active_with_lm_head", "active_with_embeddings")


def models_table(overviews: Iterable[dict[str, Any]]) -> Table:
    """The presets with their counts by convention."""
    counts = ("total", *ACTIVE)
    return Table(
        title="Models (KV cache in bf16)",
        headers=(
            "preset",
            "model",
            *(head(f"parameters.{count}") for count in counts),
            head("kv_cache.bytes_per_token"),
        ),
        rows=tuple(
            (
                overview["preset"],
                overview["name"],
                *(cell(f"parameters.{count}", overview["parameters"][count]) for count in counts),
                cell("kv_cache.bytes_per_token", overview["kv_bytes_per_token_bf16"]),
            )
            for overview in overviews
        ),
        text_columns=2,
        notes=(f"active: {STEP_QUANTITIES['parameters.active_without_embeddings'].counts}.",),
    )


def model_table(model: ModelConfig) -> Table:
    """One model: what each group of parameters holds, and its counts."""
    costs = step_costs(model, Workload().step())
    counts = costs.parameters
    by_name = {
        "total": counts.total,
        **{f"by_group.{group}": held for group, held in counts.by_group.items()},
        **{name: getattr(counts, name) for name in ("total_without_embeddings", *ACTIVE)},
    }
    return Table(
        title=model.name,
        headers=("quantity", "value"),
        rows=(
            *(
                (STEP_QUANTITIES[f"parameters.{name}"].label, f"{count:,}")
                for name, count in by_name.items()
            ),
            *(
                (f"{tower.name}, beside the text model", f"{tower.parameters:,}")
                for tower in model.towers
            ),
            *((f"published {key}", units.parameters(int(v))) for key, v in model.published.items()),
            (
                f"{STEP_QUANTITIES['kv_cache.bytes_per_token'].label}, bf16, B",
                f"{costs.kv_cache.bytes_per_token:,}",
            ),
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
                units.formatted(gpu.hbm_bytes_per_s, "bytes_per_s"),
                units.capacity(gpu.capacity_bytes),
                f"{gpu.l2_bytes / 2**20:.0f} MiB",
                units.formatted(gpu.dense_peak_flops_per_s.bf16, "flops_per_s"),
                units.formatted(gpu.dense_peak_flops_per_s.fp8, "flops_per_s"),
                units.scaled(gpu.dense_peak_flops_per_s.int8, "OP/s"),
                units.formatted(gpu.tdp_w, "w"),
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
