"""How a number came about: its formula, the formula with this case's values, and its terms.

Formulas are those of the cost model: an operator carries its own, a total is described by the
docstring of the function that computes it. Nothing is computed here but sums for checking.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

from costmodel import units
from costmodel.backends import BACKENDS
from costmodel.costs.footprint import Footprint
from costmodel.costs.latency import OperatorTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part
from dashboard.pages.explore.letters import letters, put_in

MICRO = 1e6  # us of a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """The working of one number; `lines` can be checked with a calculator."""

    lines: tuple[str, ...]
    terms: tuple[dict[str, Any], ...]  # a table: what the lines sum
    terms_are: str
    letters: tuple[dict[str, Any], ...] = ()
    source: str
    doc: str = ""


class Documented(TypedDict):
    """Where a total is computed, and the docstring that says how."""

    source: str
    doc: str


def documented(function: Callable[..., Any] | type) -> Documented:
    """Where a total is computed, and the docstring that says how."""
    module = function.__module__.replace(".", "/")
    return {
        "source": f"{module}.py, {function.__qualname__}",
        "doc": inspect.getdoc(function) or "",
    }


def times(prediction: Prediction) -> Iterable[tuple[Operator, OperatorTime | None]]:
    """Each operator with its predicted time, where there is one."""
    operators, time = prediction.costs.operators, prediction.time
    if isinstance(time, Unknown):
        return [(operator, None) for operator in operators]
    return list(zip(operators, time.operators, strict=True))


def floor_line(prediction: Prediction, moved: Number, flops: Number, floor_s: float) -> str:
    """Floor = max(bytes / bandwidth, FLOPs / peak), with the values of this case."""
    hardware = prediction.hardware
    peak, name = hardware.peak_flops_per_s(prediction.workload.dtype.name)
    return (
        f"floor = max({units.count(moved)} B / {hardware.hbm_bytes_per_s:g} B/s,"
        f" {units.count(flops)} FLOP / {peak:g} FLOP/s of {name}) = {units.seconds(floor_s)}"
    )


def largest_batch(memory: Footprint, batch: int) -> str:
    """(capacity - weights - buffers) / ((KV cache + activations) / batch), and its result."""
    return (
        f"({units.count(memory.capacity_bytes)} - {units.count(memory.weights_bytes)}"
        f" - {units.count(memory.buffers_bytes)})"
        f" / (({units.count(memory.kv_bytes)} + {units.count(memory.activations_bytes)})"
        f" / {batch:,}) = {units.count(memory.max_batch)}"
    )


def operator_working(prediction: Prediction, operator: Operator) -> Working:
    """The working of an operator: one of its layers, part by part, and all of them."""
    time = next(time for each, time in times(prediction) if each.path == operator.path)
    found = letters(prediction.model, prediction.workload.step(), operator)
    flops, moved = operator.total("flops"), operator.compulsory_bytes
    layers = f"{operator.count} layer{'' if operator.count == 1 else 's'}"
    lines = [
        f"formula:     {operator.formula}",
        f"with values: {put_in(operator.formula, found)}",
        "",
        f"FLOPs = {units.count(flops)}; of {layers}: {units.count(operator.count * flops)}",
        f"HBM bytes = {units.count(moved)}; of {layers}: {units.count(operator.count * moved)}",
        floor_line(prediction, moved, flops, prediction.operator_floor_s(operator)),
    ]
    if time is not None:
        seconds = float(time.seconds)
        lines.append(
            f"predicted = {units.seconds(seconds)} (its parts and launches, at least the floor);"
            f" of {layers}: {units.seconds(operator.count * seconds)}"
        )
    return Working(
        lines=tuple(lines),
        letters=tuple(
            {
                "Letter": letter.name,
                "Value": "none" if letter.value is None else units.count(letter.value),
                "Meaning": letter.meaning,
            }
            for letter in found
        ),
        terms=tuple(
            _part(operator, part, None if time is None else time.parts_s[index])
            for index, part in enumerate(operator.parts)
        ),
        terms_are="The parts of one layer; they sum to its FLOPs and HBM bytes",
        source=operator.source,
    )


def _part(operator: Operator, part: Part, seconds: Number | None) -> dict[str, Any]:
    row = {
        "Part": part.name,
        "Kind": part.kind,
        "Chooses": "yes" if part.routing else "",
        "FLOPs": part.flops,
        "Compares": part.compares,
        "Weights, B": part.weight_bytes,
        "KV, B": part.kv_read_bytes + part.kv_written_bytes,
        "Table rows, B": part.row_bytes,
        "Indices, B": part.index_bytes,
        "Step's own in and out, B": part.io_bytes,
        "Launches, torch": BACKENDS["torch"].launches(operator, part),
        "Launches, fused": BACKENDS["fused"].launches(operator, part),
        "Priced as": _shape(part),
        "Between operators, B": part.activation_bytes,
        "Between parts, B": part.intermediate_bytes,
    }
    return row if seconds is None else {**row, "Predicted, us": float(seconds) * MICRO}


def _shape(part: Part) -> str:
    """By which measured curve a part is priced: `Gemm m=64, n=2048, k=2048`."""
    if part.shape is None:
        return "the bytes it moves"
    sizes = ", ".join(f"{name}={value:g}" for name, value in asdict(part.shape).items())
    return f"{type(part.shape).__name__} {sizes}"


def by_operator(prediction: Prediction, header: str, quantity: str) -> tuple[dict[str, Any], ...]:
    """What each operator adds to a total."""
    rows = []
    for operator in prediction.costs.operators:
        one = (
            operator.compulsory_bytes
            if quantity == "compulsory_bytes"
            else operator.total(quantity)
        )
        if one:
            rows.append(
                {
                    "Operator": operator.path,
                    f"{header}, one layer": one,
                    "Layers": operator.count,
                    f"{header}, all": operator.count * one,
                }
            )
    return tuple(rows)
