"""A calibration made up so that times follow by hand: each line has two points, in round numbers.

Device times are in microseconds; `point` adds the launches, of 1 us each, that `Curves` takes off.
Lines of slope 1/2 in log-log: a hundred times the work takes ten times as long.
"""

import json
from pathlib import Path
from typing import Any

from costmodel.costs.kernel_times import Curves
from costmodel.recordings.calibration import Calibration
from costmodel.strict import validated

GRAPH_S, EAGER_S = 1e-6, 5e-6
US = 1e-6


def point(us: float, *, kernels: int = 1, **sizes: int) -> dict[str, Any]:
    s = us * US + kernels * GRAPH_S
    return {"s": s, "q1_s": s, "q3_s": s, "kernels": kernels, **sizes}


def attention(us: float, batch: int, queries: int, keys: int) -> dict[str, Any]:
    sizes = {"heads": 4, "kv_heads": 2, "head_dim": 8}
    return point(us, batch=batch, queries=queries, keys=keys, **sizes)


def table(**changes: object) -> dict[str, Any]:
    """The file as JSON reads it."""
    defaults: dict[str, Any] = {
        "schema_version": 1,
        "name": "by hand",
        "hardware": "h200",
        "machine": {
            "device": "cuda",
            "name": "NVIDIA H200",
            "memory_bytes": 150_109_880_320,
            "python": "3.12.0",
            "torch": "2.11.0+cu130",
            "driver": "580.1",
            "power_limit_w": 700.0,
        },
        "conditions": {"started": "2026-11-23T12:00:00Z", "warm_up": 3},
        "sparsecost_version": "0.1.0",
        "commit": "0123abc",
        "launch": {"graph_s": GRAPH_S, "eager_s": EAGER_S},
        "move": [point(1, bytes=10**4), point(10, bytes=10**6)],
        "gemm": [
            point(us, m=m, n=n, k=100)
            for n, m, us in ((10, 1, 1), (10, 100, 10), (1000, 1, 4), (1000, 100, 40))
        ],
        "grouped": [  # weights in all: 10^4 and 10^6
            point(us, groups=groups, rows=groups * rows, n=100, k=100, kernels=2)
            for groups, rows, us in ((1, 1, 2), (1, 100, 20), (100, 1, 20), (100, 100, 200))
        ],
        "rows": [
            point(us, reads=reads, row_bytes=width)
            for width, reads, us in ((100, 100, 3), (100, 10**4, 30), (10**4, 100, 12))
        ],
        "attention": [
            attention(2, 1, 1, 100),  # 2 pairs of a sequence and a head; 100 keys of 8
            attention(20, 1, 1, 10**4),
            attention(8, 100, 1, 100),
            attention(80, 100, 1, 10**4),
            attention(5, 1, 10, 10),  # 55 pairs
            attention(50, 100, 10, 10),
        ],
        "topk": [
            point(us, rows=rows, width=width, chosen=chosen, kernels=2)
            for chosen, width, rows, us in (
                (8, 100, 1, 6), (8, 100, 100, 60), (8, 10**4, 1, 24), (8, 10**4, 100, 240),
                (32, 100, 1, 9),
            )
        ],
        "power": {
            "idle_w": 100.0,
            "copy_w": 500.0,
            "copy_bytes_per_s": 4e12,  # 1e-10 J/byte
            "gemm_w": 700.0,
            "gemm_flops_per_s": 6e14,  # 1e-12 J/FLOP
        },
    }  # fmt: skip
    return defaults | changes


def calibration(**changes: object) -> Calibration:
    return validated(Calibration, json.loads(json.dumps(table(**changes))), where="test")


def curves(**changes: object) -> Curves:
    return Curves.of(calibration(**changes))


def fast(factor: float = 1e-6) -> Curves:
    """A GPU whose kernels and launches take next to nothing: only its floors are left."""
    values = table()
    for name, points in values.items():
        if isinstance(points, list):
            values[name] = [
                measured | {key: measured[key] * factor for key in ("s", "q1_s", "q3_s")}
                for measured in points
            ]
    values["launch"] = {"graph_s": GRAPH_S * factor, "eager_s": EAGER_S * factor}
    return curves(**values)


def write(path: Path, **changes: object) -> str:
    """The calibration as a file; its path as it is typed."""
    path.write_text(json.dumps(table(**changes)))
    return str(path)
