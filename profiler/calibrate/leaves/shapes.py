"""The shapes that a calibration of leaves measures: random models and steps, of no preset.

A shape is a model of many equal layers and one step of it. Its leaves, and with the backend `fused`
its regions, are the points. Sizes are log-uniform, off powers of two and off the usual batches and
contexts; some lie at the edge of a tile of 128. `FAMILIES` come in turns, so that each beginning of
the list has all of them. The list is drawn once, and committed as `shapes.json` by

    python -m profiler.calibrate.leaves.shapes

A test compares the file with the draw, and with the presets: no product, no heads, no choice and no
row of theirs stands in it.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import exp, log
from pathlib import Path
from random import Random
from typing import Any

from costmodel.costs.step import step_costs
from costmodel.inputs.files import read_json_object
from costmodel.inputs.model import ModelConfig, model_from_table
from costmodel.inputs.model_toml import model_table
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.strict import validated

FILE = Path(__file__).parent / "shapes.json"
SEED = 23
ROUNDS = 6  # of all families
SMALLER = 16  # times, on a CPU
SMALL_LAYERS = 3
EDGE = 128  # elements, tokens or keys of a tile
LEAST_ODD = 9  # the odd part of a width is larger
EDGE_SHARE = 0.15  # of sizes that lie at or one step beyond an edge
TABLE_BYTES = 160e6  # of an LM head: more than L2 holds, so that each copy reads it anew
MOST_LAYERS, FEWEST_LAYERS = 129, 33  # the first one is left out
WEIGHT_BYTES, CACHE_BYTES = 45e9, 30e9  # of all layers
STEP_S = 0.02  # of all layers, by rates that no kernel exceeds
BYTES_PER_S, FLOPS_PER_S, KERNEL_S = 4.5e12, 8e14, 2e-5  # the last: of all kernels of a layer

Table = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model of equal layers, a step of it, and what it was drawn for."""

    family: str
    model: ModelConfig
    workload: CaseWorkload


class _Draws:
    """Random sizes. Only `Random.random` is called, which every Python computes alike."""

    def __init__(self, seed: int, *, small: bool = False) -> None:
        self._uniform, self.small = Random(seed).random, small  # noqa: S311 - no secret

    def chance(self, share: float) -> bool:
        return self._uniform() < share

    def of(self, *choices: Any) -> Any:  # noqa: ANN401
        return choices[int(self._uniform() * len(choices))]

    def size(self, low: float, high: float, multiple: int = 1) -> int:
        """A log-uniform multiple of `multiple`; now and then at a tile's edge.

        It is no power of two, and where multiples are asked for no small multiple of one: widths of
        models mostly are.
        """
        while True:
            value = exp(log(low) + self._uniform() * (log(high) - log(low)))
            size = max(1, round(value / multiple)) * multiple
            if self.small:
                return max(4 // multiple, 1, round(value / SMALLER / multiple)) * multiple
            if value > 2 * EDGE and self.chance(EDGE_SHARE):
                size = round(value / EDGE) * EDGE + (0 if multiple > EDGE else multiple)
            odd = size // (size & -size)
            if odd > (LEAST_ODD if multiple > 1 else 1) and low <= size <= high + multiple:
                return size


def _gqa(draws: _Draws, **fixed: Any) -> Table:  # noqa: ANN401
    group = draws.of(1, 2, 3, 4, 5, 6, 7)
    kv_heads = draws.of(1, 2, 3, 4, 5, 6, 7, 10) if group > 1 else draws.of(6, 10, 14, 18, 22)
    return {
        "kind": "gqa",
        "num_attention_heads": kv_heads * group,
        "num_key_value_heads": kv_heads,
        "head_dim": draws.of(64, 128, 128, 256),
        "qk_norm": draws.of("none", "head", "full"),
    } | fixed


def _mla(draws: _Draws) -> Table:
    table = {
        "kind": "mla",
        "num_attention_heads": draws.of(6, 10, 12, 20, 24, 40),
        "kv_lora_rank": draws.of(256, 512),
        "qk_nope_head_dim": draws.of(64, 96, 192),
        "qk_rope_head_dim": draws.of(32, 64),
        "v_head_dim": draws.of(64, 96, 160),
    }
    if draws.chance(0.5):
        table["q_lora_rank"] = draws.size(500, 1800, 64)
    return table


def _dense(draws: _Draws) -> Table:
    return {"kind": "dense", "intermediate_size": draws.size(700, 15_000, 8)}


def _moe(draws: _Draws) -> Table:
    experts = draws.size(10, 190)
    table = {
        "kind": "moe",
        "num_experts": experts,
        "num_experts_per_tok": draws.of(*range(1, min(11, experts // 2))),
        "moe_intermediate_size": draws.size(200, 2600, 8),
        "norm_topk_prob": draws.chance(0.5),
        "scoring": draws.of("softmax", "softmax", "sigmoid", "softmax_of_chosen"),
    }
    if draws.chance(0.4):
        table["shared_intermediate_size"] = draws.size(300, 3000, 8)
    return table


def _ultramem(draws: _Draws, *, newer: bool) -> Table:
    table: Table = {
        "kind": "ultramem",
        "layers": "all",
        "knum": draws.size(180, 900),
        "knn": draws.size(11, 127),
        "key_dim": draws.size(100, 700, 8),
        "value_dim": draws.size(150, 1000, 16),
        "num_heads": draws.of(1, 1, 2),
    }
    if newer:
        table |= {"pre_value_dim": draws.size(100, 600, 8), "value_expansion_outputs": "shared"}
    return table


def _product_key(draws: _Draws) -> Table:
    return {
        "kind": "product_key",
        "layers": "all",
        "num_keys": draws.size(180, 900),
        "num_heads": draws.of(1, 2, 3, 5),
        "knn": draws.size(9, 100),
        "key_dim": draws.size(100, 600, 8),
        "value_dim": draws.size(200, 1500, 8),
        "gate": draws.chance(0.5),
        "output_projection": True,
        "shared_table": False,
        "replaces_ffn": draws.chance(0.3),
    }


def _peer(draws: _Draws) -> Table:
    return {
        "kind": "peer",
        "layers": "all",
        "num_keys": draws.size(150, 500),
        "num_heads": draws.of(2, 3, 5, 6),
        "knn": draws.size(9, 30),
        "key_dim": draws.size(60, 300, 8),
    }


def _decode(draws: _Draws, turn: int) -> Table:
    """Batches in five strata, of which each family takes another in each round."""
    low, high = ((1, 1), (2, 12), (13, 62), (65, 250), (260, 1000))[turn % 5]
    batch = 1 if high == 1 else draws.size(low, high)
    return {
        "phase": "decode",
        "batch": batch,
        "context": draws.size(300, 30_000),
        "new_tokens": 1,
    }


def _prefill(draws: _Draws) -> Table:
    tokens = draws.size(300, 9000)
    batch = draws.of(1, 1, 2, 3, 5)
    return {
        "phase": "prefill",
        "batch": batch,
        "context": 0,
        "new_tokens": max(3 if draws.small else 130, tokens // batch),
    }


Family = Callable[[_Draws, int], tuple[Table, Table]]  # of draws and a turn: model, workload


def _family(
    attention: Callable[[_Draws], Table],
    ffn: Callable[[_Draws], Table],
    memory: Callable[[_Draws], Table] | None = None,
    *,
    prompt: bool = False,
) -> Family:
    def drawn(draws: _Draws, turn: int) -> tuple[Table, Table]:
        hidden = draws.size(500, 2800 if ffn is _moe or memory else 6200, 64)
        head = TABLE_BYTES / 2 / hidden  # tokens whose LM head is so large
        model = {
            "hidden_size": hidden,
            "vocab_size": draws.size(head, 2 * head, 8),
            "attention": attention(draws),
            "ffn": ffn(draws),
            "memory": [] if memory is None else [memory(draws)],
        }
        return model, _prefill(draws) if prompt else _decode(draws, turn)

    return drawn


FAMILIES: dict[str, Family] = {
    "gqa, dense": _family(_gqa, _dense),
    "gqa, experts": _family(_gqa, _moe),
    "ultramem with pre-values": _family(_gqa, _dense, lambda draws: _ultramem(draws, newer=True)),
    "gqa, dense, prompt": _family(_gqa, _dense, prompt=True),
    "mla, experts": _family(_mla, _moe),
    "product keys": _family(_gqa, _dense, _product_key),
    "gqa, experts, prompt": _family(_gqa, _moe, prompt=True),
    "window, experts": _family(
        lambda draws: _gqa(draws, sliding_window=draws.size(140, 3000), sinks=draws.chance(0.5)),
        _moe,
    ),
    "ultramem": _family(_gqa, _dense, lambda draws: _ultramem(draws, newer=False)),
    "ultramem with pre-values, prompt": _family(
        _gqa, _dense, lambda draws: _ultramem(draws, newer=True), prompt=True
    ),
    "one-neuron experts": _family(_gqa, _dense, _peer),
    "mla, dense, prompt": _family(_mla, _dense, prompt=True),
}


QUICK = 2 * len(FAMILIES)  # shapes of the quick form: the first ones


def drawn_shapes(*, small: bool = False) -> tuple[Shape, ...]:
    """The list, drawn anew; or one of small models of three layers, for a CPU."""
    draws = _Draws(SEED, small=small)
    return tuple(
        _shape(family, number, number + place, draws)
        for number in range(ROUNDS)
        for place, family in enumerate(FAMILIES)
    )


def _shape(family: str, number: int, turn: int, draws: _Draws) -> Shape:
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
