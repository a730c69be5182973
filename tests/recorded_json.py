"""Committed recordings as their own JSON, and tables of the pages: an oracle without our code."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from costmodel.recordings.folders import SHIPPED
from docs.write import ROOT
from tests.committed import FIRST

COMPARISON, MEASURING, ACCURACY = (
    (ROOT / "docs" / page).read_text(encoding="utf-8")
    for page in ("comparison.md", "measuring.md", "accuracy.md")
)
SMALL, LARGE = ("olmoe-227m-1.2b", "ultramemv2-227m-1.2b"), ("olmoe-1b-7b", "ultramemv2-1b-7b")
RUN_OF = {
    "kernel_s": "trace",
    "hbm_read_bytes": "counters",
    "flops_tensor": "counters",
    "energy_j": "energy",
}


@cache
def presets() -> tuple[str, ...]:
    return tuple(path.stem.removeprefix("h200-") for path in FIRST)


@cache
def recorded(model: str) -> dict[str, Any]:
    folder = SHIPPED / "grouped" if "4-kv-heads" in model else SHIPPED
    found: dict[str, Any] = json.loads((folder / f"h200-{model}.json").read_text())
    return found


def a_case(model: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """The case of a model with these fields of its workload; decode at 2,048 unless told."""
    wanted = {"phase": "decode", "context": 2048, "new_tokens": 1, "routing": "uniform"} | fields
    (found,) = [
        case
        for case in recorded(model)["cases"]
        if all(case["workload"][name] == value for name, value in wanted.items())
    ]
    return dict(found["runs"])


def step_value(model: str, quantity: str, **fields: Any) -> float:  # noqa: ANN401 - JSON
    step = a_case(model, **fields)[RUN_OF.get(quantity, "time")]["step"][quantity]
    return float(step.get("median", step.get("value")))


def measured_cases(phase: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Preset and case of each case of a phase that was measured."""
    for model in presets():
        for case in recorded(model)["cases"]:
            if case["runs"] and case["workload"]["phase"] == phase:
                yield model, case


def median_of(run: dict[str, Any], quantity: str) -> float:
    reading = run["step"][quantity]
    return float(reading.get("median", reading.get("value")))


def leaf_sum(  # noqa: PLR0917 - a quantity of leaves, and where
    model: str, run: str, quantity: str, leaves: tuple[str, ...], batch: int, context: int = 2048
) -> float:
    column = a_case(model, batch=batch, context=context)[run]["operators"][quantity]
    values = column.get("median", column.get("values"))
    pairs = zip(recorded(model)["paths"], values, strict=True)
    return float(sum(value for path, value in pairs if path.endswith(leaves) and value))


def table(page: str, name: str) -> list[list[str]]:
    """The rows of a table, without its head."""
    (block,) = re.findall(rf"(?s)<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", page)
    return [line.strip("|\n ").split(" | ") for line in block.splitlines()[2:]]


def percent(cell: str) -> float:
    return float(cell.removesuffix(" %")) / 100
