"""What a calibration found, in a few ceilings: as JSON and as a table."""

from pathlib import Path
from typing import Any

from costmodel import units
from costmodel.recordings.calibration import Calibration
from costmodel.show.text import Table
from profiler.calibrate.calibration import Done

SCHEMA_VERSION = 1
SKINNY_M = 16  # rows of a product at or below which its weight's bytes set the pace
BF16_BYTES = 2


def summary(done: Done, path: Path) -> dict[str, Any]:
    """The best rate of each curve, the launch costs and the power."""
    found = done.calibration
    curves = (found.move, found.gemm, found.grouped, found.rows, found.attention, found.topk)
    return {
        "schema_version": SCHEMA_VERSION,
        "file": str(path),
        "name": found.name,
        "hardware": found.hardware,
        "gpu": found.machine.name,
        "points": sum(map(len, curves)),
        "left_out": done.left_out,
        "launch": {"graph_s": found.launch.graph_s, "eager_s": found.launch.eager_s},
        "best": _best(found),
        "power": None
        if found.power is None
        else {
            "idle_w": found.power.idle_w,
            "copy_w": found.power.copy_w,
            "gemm_w": found.power.gemm_w,
        },
    }


def _best(found: Calibration) -> dict[str, float | None]:
    """The fastest point of each kind; None where it has no points."""
    skinny = [p for p in found.gemm if p.m <= SKINNY_M]
    decode = [p for p in found.attention if p.queries == 1]
    return {
        "copy_bytes_per_s": max(p.bytes / p.s for p in found.move),
        "gemm_flops_per_s": max(2 * p.m * p.n * p.k / p.s for p in found.gemm),
        "skinny_gemm_bytes_per_s": max(
            (p.n * p.k * BF16_BYTES / p.s for p in skinny), default=None
        ),
        "grouped_bytes_per_s": max(p.groups * p.n * p.k * BF16_BYTES / p.s for p in found.grouped),
        "rows_bytes_per_s": max(p.reads * p.row_bytes / p.s for p in found.rows),
        "decode_attention_bytes_per_s": max(
            (2 * p.batch * p.kv_heads * p.keys * p.head_dim * BF16_BYTES / p.s for p in decode),
            default=None,
        ),
    }


def table(found: dict[str, Any]) -> Table:
    """The same for people."""
    best, launch, power = found["best"], found["launch"], found["power"]
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
    left_out = f"; {found['left_out']} left out, see above" if found["left_out"] else ""
    return Table(
        title=f"{found['gpu']}: the best of {found['points']} points{left_out}",
        headers=("ceiling", "measured", "of what"),
        rows=tuple(rows),
        text_columns=3,
        notes=(
            f"Written to {found['file']}.",
            f"Use it with: sparsecost predict MODEL --calibration {found['file']}",
        ),
    )


def _streamed(name: str, bytes_per_s: float | None, what: str) -> tuple[str, str, str]:
    return name, units.scaled(bytes_per_s, "B/s"), what
