"""Held-out models and cases, drawn at random within ranges: nobody picks them.

A group is a backbone (hidden size, attention, layers, vocabulary) with a feed-forward layer, and
memory models on the same backbone whose active and total parameters are about those of the group's
MoE: a memory model and the MoE of its group are a pair, measured at the same batches and contexts.
Layers come from the families of the calibration by leaves; what the development set uses is drawn
again. The rest that no draw decides: `GROUPS`, and the ranges below.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Any

from benchmarks.held_out.development import (
    Sizes,
    case_sizes,
    development_sizes,
    model_sizes,
    shared,
    united,
)
from costmodel.costs.operators import build_operators
from costmodel.costs.step import step_costs
from costmodel.costs.totals import ParameterCounts, parameter_counts
from costmodel.inputs.model import ModelConfig, model_from_table
from costmodel.inputs.workload import Workload
from costmodel.layers.moe import MoeFfn
from costmodel.recordings.case_workload import CaseWorkload
from profiler.calibrate.leaves.families import FAMILIES, Draws, Table

SEED = 1203
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    # name: family of the first model, families of the memory models on its backbone
    "a": ("gqa, experts", ("ultramem with pre-values", "product keys")),
    "b": ("gqa, experts", ("ultramem", "one-neuron experts")),
    "c": ("window, experts", ("ultramem with pre-values",)),
    "d": ("gqa, dense", ()),
    "e": ("mla, experts", ()),
}
SHARED_EXPERTS = "b"  # the group whose MoE has them; those of the others have none
FILE_WORDS = {
    "gqa, dense": "dense",
    "gqa, experts": "experts",
    "window, experts": "window-experts",
    "mla, experts": "mla-experts",
    "ultramem with pre-values": "ultramemv2",
    "ultramem": "ultramem",
    "product keys": "product-keys",
    "one-neuron experts": "one-neuron-experts",
}
HIDDEN = range(576, 2688, 64)
LAYERS = (5, 6, 7, 8, 9)
VOCABULARY = (20_000, 60_000)
PARAMETERS = (3e8, 2.5e9)  # of a whole model
WIDTH_STEP = 8
EQUAL_ACTIVE, EQUAL_TOTAL = 0.03, 0.15  # shares by which a pair's parameters may differ
SHORT, LONG = (300, 2000), (2500, 16_000)  # cached tokens
BATCHES = ((1, SHORT), ((7, 14), SHORT), ((18, 62), SHORT), ((130, 430), SHORT))
LONG_BATCHES = (((7, 14), LONG), ((31, 125), LONG))
PROMPTS = ((1, (300, 1500)), ((2, 3), (700, 2000)))  # prompts, tokens of each
CACHE_BYTES = 25e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Models of one backbone by the names of their files, the first one first, and their cases."""

    models: dict[str, ModelConfig]
    cases: tuple[CaseWorkload, ...]


def drawn_groups() -> dict[str, Group]:
    """All groups, by name; the same in every call."""
    draws = Draws(SEED)
    taken = development_sizes()
    groups = {}
    for name, (family, memories) in GROUPS.items():
        models = _models(name, family, memories, draws, taken)
        taken = united([taken, *map(model_sizes, models.values())])
        largest = max(models.values(), key=_cache_of_a_token)
        groups[name] = Group(models=models, cases=_cases(draws, largest))
    return groups


def _models(
    name: str, family: str, memories: tuple[str, ...], draws: Draws, taken: Sizes
) -> dict[str, ModelConfig]:
    """A group's models; all are drawn again until each is new and equal to the first in work."""
    hidden_sizes = [size for size in HIDDEN if size not in taken["hidden_size"]]
    while True:
        table, _ = FAMILIES[family](draws, 0)
        table |= {
            "hidden_size": draws.of(*(size for size in hidden_sizes if size & (size - 1))),
            "vocab_size": draws.size(*VOCABULARY, WIDTH_STEP),
            "num_hidden_layers": draws.of(*LAYERS),
        }
        layers = [FAMILIES[memory](draws, 0)[0]["memory"][0] for memory in memories]
        first = _model(name, family, table)
        if not _fits(first, taken) or _has_shared(first) != (name == SHARED_EXPERTS):
            continue
        models = {_file(name, family): first}
        for memory, layer in zip(memories, layers, strict=True):
            model = _equal(name, memory, table, layer, first, taken)
            if model is None:
                break
            models[_file(name, memory)] = model
        else:
            return models


def _file(group: str, family: str) -> str:
    return f"{group}-{FILE_WORDS[family]}"


def _model(group: str, family: str, table: Table) -> ModelConfig:
    named = {"name": f"Held-out {group.upper()}: {family}", "source": "random"}
    return model_from_table({**named, **table}, where=family)


def _has_shared(model: ModelConfig) -> bool:
    """Whether it has shared experts."""
    return any(isinstance(f, MoeFfn) and f.shared_intermediate_size for f, _ in model.ffn_groups)


def _fits(model: ModelConfig, taken: Sizes) -> bool:
    """Whether a model is neither too small nor too large, and no size of it is taken."""
    low, high = PARAMETERS
    if not low <= _parameters(model).total <= high:
        return False
    return not shared(model_sizes(model), taken)


def _parameters(model: ModelConfig) -> ParameterCounts:
    return parameter_counts(build_operators(model, Workload().step()))


def _cache_of_a_token(model: ModelConfig) -> int:
    return int(step_costs(model, Workload(context=1).step()).kv_cache.stored_bytes)


def _equal(  # noqa: PLR0917 - one call
    group: str, family: str, table: Table, layer: Table, first: ModelConfig, taken: Sizes
) -> ModelConfig | None:
    """The memory model whose parameters are the nearest to the first model's; None: none is near.

    The number of keys a side brings the total there, the width of the FFN the active ones. PEER,
    which replaces the FFN, stands in every second layer.
    """
    every_second = ",".join(map(str, range(1, table["num_hidden_layers"], 2)))
    layer = {**layer, "layers": every_second if layer["kind"] == "peer" else "all"}
    if "replaces_ffn" in layer:
        layer["replaces_ffn"] = False
    goal = _parameters(first)
    side = "knum" if "knum" in layer else "num_keys"

    def model(keys: int, width: int) -> ModelConfig:
        ffn = {"kind": "dense", "intermediate_size": width}
        return _model(group, family, {**table, "ffn": ffn, "memory": [{**layer, side: keys}]})

    few = _parameters(model(layer[side], WIDTH_STEP))
    rows = (few.total - few.active_without_embeddings) / layer[side] ** 2  # parameters of a row
    keys = isqrt(max(1, int((goal.total - goal.active_without_embeddings) / rows)))
    while keys in taken["keys"]:
        keys += 1
    narrow = model(keys, WIDTH_STEP)
    one = _parameters(narrow).active_without_embeddings
    step = _parameters(model(keys, 2 * WIDTH_STEP)).active_without_embeddings - one
    steps = 1 + (goal.active_without_embeddings - one) // step
    for width in (WIDTH_STEP * (steps + more) for more in _nearest(40)):
        if width < WIDTH_STEP:
            return None
        wide = model(keys, width)
        if _fits(wide, taken):
            reached = _parameters(wide)
            active = reached.active_without_embeddings / goal.active_without_embeddings
            total = reached.total / goal.total
            near = abs(active - 1) <= EQUAL_ACTIVE and abs(total - 1) <= EQUAL_TOTAL
            return wide if near else None
    return None


def _nearest(count: int) -> Iterator[int]:
    """0, 1, -1, 2, -2 and so on."""
    for distance in range(count):
        yield distance
        yield -distance


def _cases(draws: Draws, model: ModelConfig) -> tuple[CaseWorkload, ...]:
    """Six decode steps and two prompts: four batches at a short context, two at a long one."""
    taken = development_sizes()
    while True:
        contexts = {reach: draws.size(*reach) for reach in (SHORT, LONG)}
        work: list[dict[str, Any]] = []
        for batches, reach in (*BATCHES, *LONG_BATCHES):
            batch = batches if isinstance(batches, int) else draws.size(*batches)
            step = {"phase": "decode", "batch": batch, "context": contexts[reach], "new_tokens": 1}
            work.append(step)
        for prompts, tokens in PROMPTS:
            batch = prompts if isinstance(prompts, int) else draws.of(*prompts)
            length = draws.size(*tokens)
            work.append({"phase": "prefill", "batch": batch, "context": 0, "new_tokens": length})
        cases = tuple(CaseWorkload(dtype="bf16", routing="uniform", **step) for step in work)
        token = _cache_of_a_token(model) / 2  # of one of the two tokens that are cached then
        held = max(case.batch * (case.context + case.new_tokens) * token for case in cases)
        if held <= CACHE_BYTES and not shared(case_sizes(cases), taken):
            return cases
