"""A summary of a calibration as JSON and as a table: best rates, launch costs and power."""

from pathlib import Path
from typing import Any

from costmodel import units
from costmodel.recordings.calibration import Calibration
from costmodel.show.text import Table
from profiler.calibrate.calibration import CalibrationResult

SCHEMA_VERSION = 1
SKINNY_M = 16  # a product of at most so many rows is bound by reading its weight
BF16_BYTES = 2


def summary(result: CalibrationResult, path: Path) -> dict[str, Any]:
    """The best rate of each curve, the launch costs and the power, as JSON."""
    made = result.calibration
    curves = (made.move, made.gemm, made.grouped, made.rows, made.attention, made.topk)
    return {
        "schema_version": SCHEMA_VERSION,
        "file": str(path),
        "name": made.name,
        "hardware": made.hardware,
        "gpu": made.machine.name,
        "points": sum(map(len, curves)),
        "left_out": result.left_out,
        "launch": {"graph_s": made.launch.graph_s, "eager_s": made.launch.eager_s},
        "best": _best_rates(made),
        "power": None
        if made.power is None
        else {
            "idle_w": made.power.idle_w,
            "copy_w": made.power.copy_w,
            "gemm_w": made.power.gemm_w,
        },
    }


def _best_rates(made: Calibration) -> dict[str, float | None]:
    """The highest rate over the points of each kind; None where there are no points."""
    skinny = [p for p in made.gemm if p.m <= SKINNY_M]
    decode = [p for p in made.attention if p.queries == 1]
    return {
        "copy_bytes_per_s": max(p.bytes / p.s for p in made.move),
        "gemm_flops_per_s": max(2 * p.m * p.n * p.k / p.s for p in made.gemm),
        "skinny_gemm_bytes_per_s": max(
            (p.n * p.k * BF16_BYTES / p.s for p in skinny), default=None
        ),
        "grouped_bytes_per_s": max(p.groups * p.n * p.k * BF16_BYTES / p.s for p in made.grouped),
        "rows_bytes_per_s": max(p.reads * p.row_bytes / p.s for p in made.rows),
        "decode_attention_bytes_per_s": max(
            (2 * p.batch * p.kv_heads * p.keys * p.head_dim * BF16_BYTES / p.s for p in decode),
            default=None,
        ),
    }


def summary_table(of: dict[str, Any]) -> Table:
    """The result of `summary` as a table."""
    best, launch, power = of["best"], of["launch"], of["power"]
    rows = [
        ("copy", units.scaled(best["copy_bytes_per_s"], "B/s"), "read and written"),
        ("matrix product", units.scaled(best["gemm_flops_per_s"], "FLOP/s"), "bf16"),
        _streamed("skinny product", best["skinny_gemm_bytes_per_s"], f"m of {SKINNY_M} at most"),
        _streamed("grouped product", best["grouped_bytes_per_s"], "weights of all groups"),
        _streamed("decode attention", best["decode_attention_bytes_per_s"], "keys and values"),
        _streamed("random rows", best["rows_bytes_per_s"], "embedding_bag"),
        ("launch in a graph", units.seconds(launch["graph_s"]), "a kernel that does nothing"),
        ("launch, eager", units.seconds(launch["eager_s"]), "the host being the bottleneck"),
    ]
    if power is not None:
        watts = ", ".join(
            f"{units.significant(power[f'{load}_w'], 3)} W {load}" for load in ("copy", "gemm")
        )
        rows.append(("power", f"{units.significant(power['idle_w'], 3)} W idle", watts))
    left_out = f"; {of['left_out']} left out, see above" if of["left_out"] else ""
    return Table(
        title=f"{of['gpu']}: the best of {of['points']} points{left_out}",
        headers=("ceiling", "measured", "of what"),
        rows=tuple(rows),
        text_columns=3,
        notes=(
            f"Written to {of['file']}.",
            f"Use it with: sparsecost predict MODEL --calibration {of['file']}",
        ),
    )


def _streamed(name: str, bytes_per_s: float | None, what: str) -> tuple[str, str, str]:
    return name, units.scaled(bytes_per_s, "B/s"), what
