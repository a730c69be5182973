"""Figures of claims: numbers of predictions on one H200, and medians that this project measured."""

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from costmodel.costs.calibrations import calibrated
from costmodel.costs.columns import step_values
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.quantities.quantity import DIGITS
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.costs.totals import kv_bytes_per_token
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import Hardware, load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.questions.claims.claim import Figure
from costmodel.recordings.quantities import QUANTITIES

FILE = Path(__file__).parents[2] / "presets" / "claims" / "measured.csv"
GPU = "h200"
CONTEXT = 2048
BATCHES = (1, 4, 16, 64, 256, 1024)
NOT_MEASURED = "not measured"
LAUNCHES = "launches of a step, as plain PyTorch makes them"


def model(name: str | ModelConfig) -> ModelConfig:
    """A preset by its name; a model as it is."""
    return load_model(name) if isinstance(name, str) else name


def short(name: str | ModelConfig) -> str:
    """The model's name without `(reconstruction)`."""
    return model(name).name.partition(" (")[0]


@cache
def gpu() -> tuple[Hardware, Curves | Unknown]:
    """The GPU of all figures, and its calibration."""
    return load_hardware(GPU), calibrated(GPU)


def prediction(config: ModelConfig, batch: int, context: int = CONTEXT) -> Prediction:
    """A decode step in bf16 under uniform routing, on the calibrated GPU."""
    return predict(config, Workload(batch=batch, context=context), *gpu())


def value(config: ModelConfig, quantity: str, batch: int, context: int = CONTEXT) -> float | None:
    """A number of that step by its name in the JSON of `predict`; `launches` of the whole step."""
    step = prediction(config, batch, context)
    if quantity == "launches":
        launches = step.kernels.step_launches(step.costs.operators)
        return None if launches is None else float(launches)
    if quantity == "kv_cache.bytes_per_token":
        return float(kv_bytes_per_token(config, step.workload.step()))
    found = step_values(step)[quantity]
    assert found is None or isinstance(found, int | float), quantity
    return None if found is None else float(found)


def computed(
    quantity: str,
    sides: Iterable[str | ModelConfig],
    *,
    batch: int,
    context: int = CONTEXT,
    names: tuple[str, ...] | None = None,
    of: str = "",
) -> Figure:
    """A number of predictions of one or two models, side by side.

    Args:
        quantity: Its name in the JSON of `predict`, or `launches`.
        sides: The models.
        batch: Sequences of the decode step.
        context: Cached tokens of each.
        names: Of the sides, where they are not the models' names.
        of: What stands before the quantity's label.
    """
    models = [model(side) for side in sides]
    registered = STEP_QUANTITIES.get(quantity)
    label = LAUNCHES if registered is None else registered.label
    stored = quantity.startswith("parameters.")
    at = "" if stored else f", batch {batch:,}, context {context:,}"
    return Figure(
        what=f"{of}{label}{at}",
        unit="count" if registered is None else registered.unit,
        way="computed",
        sides=names or tuple(map(short, models)),
        values=tuple(value(one, quantity, batch, context) for one in models),
        source=f"sparsecost predict: {quantity}",
        digits=DIGITS if registered is None else registered.digits,
    )


@cache
def measured_steps() -> Mapping[tuple[str, str, int, int, str, str], tuple[float, str]]:
    """Values and files of `measured.csv`, by what they are of."""
    return {
        (
            *(row["model"], row["backend"], int(row["batch"]), int(row["context"])),
            *(row["routing"], row["quantity"]),
        ): (float(row["value"]), row["source"])
        for row in csv.DictReader(FILE.read_text(encoding="utf-8").splitlines())
    }


def measured(
    quantity: str,
    sides: tuple[str, ...],
    *,
    batch: int,
    backend: str = "torch",
    context: int = CONTEXT,
) -> Figure:
    """Medians that were measured of presets, side by side; None where nothing was."""
    found = [
        measured_steps().get((side, backend, batch, context, "uniform", quantity)) for side in sides
    ]
    lacking = [short(side) for side, one in zip(sides, found, strict=True) if one is None]
    return Figure(
        what=f"{QUANTITIES[quantity].title}, {backend}, batch {batch:,}, context {context:,}",
        unit="j" if quantity.endswith("_j") else "s" if quantity.endswith("_s") else "bytes",
        way="measured",
        sides=tuple(map(short, sides)),
        values=tuple(None if one is None else one[0] for one in found),
        source=", ".join(dict.fromkeys(one[1] for one in found if one is not None)) or NOT_MEASURED,
        reason=f"{NOT_MEASURED} of {' and '.join(lacking)} at this batch" if lacking else None,
    )


def kept(figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """Those that have a value of any side: points that nobody measured are no figures."""
    return tuple(one for one in figures if any(value is not None for value in one.values))


def alike(ratio: float | None, within: float) -> bool:
    """Whether neither side is more than `within` above the other."""
    return ratio is not None and max(ratio, 1 / ratio) <= 1 + within
