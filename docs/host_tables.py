"""Tables of docs/three_ways.md that are measured: steps with tables in host memory on an H200.

What was measured stands in benchmarks/host_tables_h200.json; what stands beside it is predicted.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from costmodel import units
from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Phase, Workload
from costmodel.layers.placement import Place, Placement
from docs.markdown import markdown

FILE = Path(__file__).parents[1] / "benchmarks" / "host_tables_h200.json"
MODELS = ("ultramemv2-1b-7b", "engram-1b-7b-reconstruction")
STEPS = ((1, 1), (16, 1), (64, 1), (256, 1), (1, 1024))  # sequences, new tokens
CONTEXT = 2048
PLACES: tuple[Place, ...] = ("hbm", "host")
GPU = "h200"
READ = "host_read_bytes"  # a reading of each process that counted


@cache
def _measured() -> Mapping[str, Any]:
    run: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return run


def _predicted(model: str, batch: int, new: int, place: Place) -> Prediction:
    phase: Phase = "decode" if new == 1 else "prefill"
    workload = Workload(
        phase=phase,
        batch=batch,
        new_tokens=new,
        context=CONTEXT if new == 1 else 0,
        placement=Placement(tables=place),
    )
    return predict(load_model(model), workload, load_hardware(GPU), calibrated(GPU))


def _label(model: str, batch: int, new: int, place: str) -> str:
    return f"{model}, {batch} x {new} tokens, {place}"


def host_steps() -> str:
    """Steps in both places: measured, predicted, the difference."""
    rows: list[tuple[str, ...]] = []
    for model in MODELS:
        for place in PLACES:
            for batch, new in STEPS:
                step = _measured()["steps"].get(_label(model, batch, new, place))
                time = _predicted(model, batch, new, place).time
                if step is None or isinstance(time, Unknown):
                    continue
                measured, predicted = step["us"]["median"] * 1e-6, float(time.graph_s)
                rows.append((
                    load_model(model).name, "HBM" if place == "hbm" else "host",
                    f"{batch} x {new}", units.seconds(measured), units.seconds(predicted),
                    f"{100 * (predicted / measured - 1):+.1f} %",
                ))  # fmt: skip
    head = ("model", "tables", "sequences x tokens", "measured", "predicted", "difference")
    return markdown(head, rows, text=2)


def host_counts() -> str:
    """Bytes read from host memory by counters, less those of the same step with tables in HBM.

    Of several readings the median.
    """
    rows: list[tuple[str, ...]] = []
    for model in MODELS:
        for batch, new in STEPS:
            near, far = (
                round(median(_measured()["bytes"][_label(model, batch, new, place)][READ]))
                for place in PLACES
            )
            found = _predicted(model, batch, new, "host")
            wanted = float(found.costs.far["host"].sector_bytes)
            rows.append((
                load_model(model).name, f"{batch} x {new}", f"{far:,}", f"{near:,}",
                f"{wanted:,.0f}", f"{100 * ((far - near) / wanted - 1):+.2f} %",
            ))  # fmt: skip
    head = (
        "model", "sequences x tokens", "counted", "with tables in HBM", "rows x sectors",
        "difference",
    )  # fmt: skip
    return markdown(head, rows)


def host_hiding() -> str:
    """What host memory adds to steps of the n-gram model, over the same step with tables in HBM."""
    model = MODELS[1]
    rows: list[tuple[str, ...]] = []
    for batch, new in STEPS:
        near, late, ahead = (
            _measured()["steps"][_label(model, batch, new, place)]
            for place in (*PLACES, "host, fetched ahead")
        )
        us, fetch_us = near["us"]["median"], ahead["fetch_us"]["median"]
        added = (f"{step['us']['median'] - us:+,.0f}" for step in (late, ahead))
        rows.append((f"{batch} x {new}", f"{us:,.0f}", f"{fetch_us:,.0f}", *added))
    head = (
        "sequences x tokens", "tables in HBM (us)", "fetches alone (us)",
        "fetched in their layer (us)", "fetched ahead (us)",
    )  # fmt: skip
    return markdown(head, rows, text=0)


TABLES: dict[str, Callable[[], str]] = {
    "host_steps": host_steps,
    "host_counts": host_counts,
    "host_hiding": host_hiding,
}
