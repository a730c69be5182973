"""The shapes that a calibration of leaves measures: random models and steps, of no preset.

A shape is a model of many equal layers and one step of it. Its leaves, and with the backend `fused`
its regions, are the points. `FAMILIES` come in turns, so that each beginning of the list has all of
them. The list is drawn once, and committed as `shapes.json` by

    python -m profiler.calibrate.leaves.shapes

A test compares the file with the draw, and with the presets: no product, no heads, no choice and no
row of theirs stands in it.
"""

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from costmodel.costs.step import step_costs
from costmodel.inputs.files import read_json_object
from costmodel.inputs.model import ModelConfig, model_from_table
from costmodel.inputs.model_toml import model_table
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.strict import validated
from profiler.calibrate.leaves.families import FAMILIES, Draws, Table

FILE = Path(__file__).parent / "shapes.json"
SEED = 23
ROUNDS = 6  # of all families
SMALL_LAYERS = 3
MOST_LAYERS, FEWEST_LAYERS = 129, 33  # the first one is left out
WEIGHT_BYTES, CACHE_BYTES = 45e9, 30e9  # of all layers
STEP_S = 0.02  # of all layers, by rates that no kernel exceeds
BYTES_PER_S, FLOPS_PER_S, KERNEL_S = 4.5e12, 8e14, 2e-5  # the last: of all kernels of a layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model of equal layers, a step of it, and what it was drawn for."""

    family: str
    model: ModelConfig
    workload: CaseWorkload


QUICK = 2 * len(FAMILIES)  # shapes of the quick form: the first ones


def drawn_shapes(*, small: bool = False) -> tuple[Shape, ...]:
    """The list, drawn anew; or one of small models of three layers, for a CPU."""
    draws = Draws(SEED, small=small)
    return tuple(
        _shape(family, number, number + place, draws)
        for number in range(ROUNDS)
        for place, family in enumerate(FAMILIES)
    )


def _shape(family: str, number: int, turn: int, draws: Draws) -> Shape:
    """A shape that fits: weights are drawn again, and a context is shortened, until it does."""
    while True:
        model, work = FAMILIES[family](draws, turn)
        name = {"name": f"{family}, {number + 1}", "source": "random"}
        table = {**name, "num_hidden_layers": SMALL_LAYERS, **model}
        config = model_from_table(table, where=family)
        workload = CaseWorkload(dtype="bf16", routing="uniform", **work)
        if draws.small:
            return Shape(family=family, model=config, workload=workload)
        if _weight_bytes(config, workload) <= WEIGHT_BYTES / FEWEST_LAYERS:
            break
    while _cache_bytes(config, workload) > CACHE_BYTES / FEWEST_LAYERS:
        if workload.context:
            workload = replace(workload, context=workload.context * 2 // 3)
        else:
            workload = replace(workload, new_tokens=workload.new_tokens * 2 // 3)
    layers = _most_layers(config, workload)
    config = replace(config, num_hidden_layers=layers)
    return Shape(family=family, model=config, workload=workload)


def _weight_bytes(config: ModelConfig, workload: CaseWorkload) -> int:
    """Of one layer."""
    step = workload.to_workload().step()
    return sum(
        weight.stored_bytes(step)
        for operator in step_costs(config, step).operators
        if operator.layers
        for weight in operator.weights
    )


def _cache_bytes(config: ModelConfig, workload: CaseWorkload) -> float:
    costs = step_costs(config, workload.to_workload().step())
    return int(costs.kv_cache.stored_bytes) / config.num_hidden_layers


def _most_layers(config: ModelConfig, workload: CaseWorkload) -> int:
    """How many layers a model may have to fit into the memory and the time of one shape."""
    costs = step_costs(config, workload.to_workload().step())
    least_s = KERNEL_S + sum(
        max(
            int(each.compulsory_bytes + each.total("activation_bytes")) / BYTES_PER_S,
            int(each.total("flops")) / FLOPS_PER_S,
        )
        for each in costs.operators
        if each.layers
    )
    layers = min(
        WEIGHT_BYTES / _weight_bytes(config, workload),
        CACHE_BYTES / _cache_bytes(config, workload),
        STEP_S / least_s,
    )
    return max(FEWEST_LAYERS, min(MOST_LAYERS, int(layers)))


@cache
def shapes() -> tuple[Shape, ...]:
    """The committed list."""
    table = read_json_object(FILE)
    return tuple(
        Shape(
            family=each["family"],
            model=model_from_table(each["model"], where=FILE.name),
            workload=validated(CaseWorkload, each["workload"], where=FILE.name),
        )
        for each in table["shapes"]
    )


@cache
def small_shapes() -> tuple[Shape, ...]:
    """A list of the same families in small, which a CPU can run."""
    return drawn_shapes(small=True)


def shape_table(shape: Shape) -> Table:
    """A shape as the file and a calibration hold it."""
    work = asdict(shape.workload)
    del work["placement"]  # tables stand in HBM
    return {"family": shape.family, "model": model_table(shape.model), "workload": work}


def shapes_text(drawn: tuple[Shape, ...]) -> str:
    """The file of a list, a shape on a line."""
    lines = ",\n".join(json.dumps(shape_table(shape)) for shape in drawn)
    return f'{{"shapes": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    FILE.write_text(shapes_text(drawn_shapes()))
