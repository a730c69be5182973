"""What recordings of every backend hold of the compared models, along the page's axis.

A row is one model's step at one point of the axis by one backend, with its time over that of the
first model, the reference, by the same backend on the same machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TypeAlias, get_args

from costmodel import units
from costmodel.costs.quantities.quantity import DIGITS
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend, Workload
from costmodel.recordings.quantities import QUANTITIES
from costmodel.recordings.recording import Recording
from costmodel.show.text import capitalised
from dashboard.app.measured_points import MEASURED as NAMES
from dashboard.app.measured_points import Along, measured_quantity, points

SCALES = {"s": (1e3, "ms"), "bytes": (1e-9, "GB"), "j": (1e3, "mJ")}

Values: TypeAlias = dict[tuple[str, Backend, int], dict[str, float]]
"""Measured quantities of a model by machine, backend and place on the axis."""


def measured_rows(
    models: Sequence[ModelConfig],
    recordings: Sequence[Mapping[str, Recording]],
    workload: Workload,
    axis: Along,
) -> list[dict[str, object]]:
    """The rows, by place, machine, backend and model; none where nothing is recorded."""
    by_model = [_values(dict(of_model), workload, axis) for of_model in recordings]
    backends: tuple[Backend, ...] = get_args(Backend)
    devices = sorted({device for values in by_model for device, _, _ in values})
    places = sorted({x for values in by_model for _, _, x in values})
    rows: list[dict[str, object]] = []
    for x, device, backend in product(places, devices, backends):
        key = (device, backend, x)
        reference = by_model[0].get(key, {})
        for model, values in zip(models, by_model, strict=True):
            measured = values.get(key)
            if measured is not None:
                row: dict[str, object] = {
                    axis.capitalize(): x,
                    "Machine": device,
                    "Backend": backend,
                }
                rows.append(row | _row(model, measured, reference, workload, x, axis))
    return rows


def _values(recordings: dict[str, Recording], workload: Workload, axis: Along) -> Values:
    """The medians of a model's recordings; of several recordings the first one's."""
    values: Values = {}
    for backend in get_args(Backend):
        for name in NAMES:
            for point in points(recordings, name, replace(workload, backend=backend), axis):
                values.setdefault((point.device, backend, point.x), {}).setdefault(
                    name, point.value
                )
    return values


def _row(  # noqa: PLR0917 - one row of the table
    model: ModelConfig,
    measured: Mapping[str, float],
    reference: Mapping[str, float],
    workload: Workload,
    x: int,
    axis: Along,
) -> dict[str, object]:
    """The cells of one model: its quantities, and its time over the reference's."""
    tokens = (x if axis == "batch" else workload.batch) * workload.new_tokens
    row: dict[str, object] = {"Model": model.name}
    for name in NAMES:
        counterpart = measured_quantity(name, workload)
        assert counterpart is not None
        quantity = QUANTITIES[counterpart[1]]
        scale, unit = SCALES[quantity.unit]
        each = "" if quantity.unit != "j" else " a token"
        value = measured.get(name)
        if value is not None:
            value *= scale / (tokens if each else 1)
        row[f"{capitalised(quantity.title)}{each}, {unit}"] = (
            None if value is None else units.rounded(value, DIGITS)
        )
    time, first = measured.get(NAMES[0]), reference.get(NAMES[0])
    row["Time over the first model's"] = units.ratio(time / first if time and first else None)
    return row
