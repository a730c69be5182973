"""The sizes that the development set uses, which no held-out model or case may have.

The development set is all that the predictor was written with: presets, the models of shipped
recordings and their cases, the shapes of the calibration by leaves, and the grid of the shipped
calibration.
"""

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import costmodel
from costmodel.costs.operators import build_operators
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.attention import Attention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.kernel_shape import Gemm, Grouped
from costmodel.layers.mla import LatentAttention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.folders import SHIPPED
from profiler.calibrate.leaves.shapes import shapes

CALIBRATIONS = Path(costmodel.__file__).parent / "presets" / "calibrations"

Sizes = dict[str, frozenset[object]]
"""Values by the name of the size: of models those of `model_sizes`, of cases of `case_sizes`."""


def model_sizes(model: ModelConfig) -> Sizes:
    """The sizes of a model that decide how long its kernels take.

    `products` are the weights [n, k] of dense and grouped products.
    """
    experts, widths, keys, rows = set[object](), set[object](), set[object](), set[object]()
    for ffn, _ in model.ffn_groups:
        if isinstance(ffn, MoeFfn):
            experts.add(ffn.num_experts)
            widths |= {ffn.moe_intermediate_size, ffn.shared_intermediate_size} - {0}
        elif isinstance(ffn, DenseFfn):
            widths.add(ffn.intermediate_size)
    for memory in model.memory:
        if isinstance(memory, UltraMem):
            keys.add(memory.row_keys(len(memory.placement(model.num_hidden_layers))))
        elif isinstance(memory, ProductKey | Peer):
            keys.add(memory.num_keys)
        if isinstance(memory, UltraMem | ProductKey):
            rows.add(memory.value_dim)
    return {
        "hidden_size": frozenset({model.hidden_size}),
        "heads": frozenset(_heads(model)),
        "widths": frozenset(widths),
        "experts": frozenset(experts),
        "keys": frozenset(keys),
        "rows": frozenset(rows),
        "products": frozenset(_products(model)),
    }


def _heads(model: ModelConfig) -> Iterator[tuple[int, ...]]:
    for mixer, _ in model.attention_groups:
        if isinstance(mixer, Attention):
            yield mixer.num_attention_heads, mixer.num_key_value_heads, mixer.head_dim
        elif isinstance(mixer, LatentAttention):
            yield (
                mixer.num_attention_heads,
                mixer.kv_lora_rank,
                mixer.qk_nope_head_dim,
                mixer.v_head_dim,
            )


def _products(model: ModelConfig) -> Iterator[tuple[int, int]]:
    for operator in build_operators(model, Workload().step()):
        for part in operator.parts:
            if isinstance(part.shape, Gemm | Grouped):
                yield part.shape.n, part.shape.k


def case_sizes(cases: Iterable[CaseWorkload]) -> Sizes:
    """Tokens of the steps (rows of every dense product), and contexts, of decode and of prompts.

    Batch 1 is no size: whoever decodes one sequence has it.
    """
    cases = tuple(cases)
    decode = [case for case in cases if case.phase == "decode"]
    return {
        "tokens": frozenset({case.batch * case.new_tokens for case in cases} - {1}),
        "contexts": frozenset(case.context for case in decode),
        "prompts": frozenset({case.new_tokens for case in cases} - {1}),
    }


@cache
def development_sizes() -> Sizes:
    """All sizes of the development set."""
    models = [load_model(name) for name in model_names()]
    models += [load_model(str(path)) for path in sorted(SHIPPED.rglob("*.toml"))]
    models += [shape.model for shape in shapes()]
    cases = [shape.workload for shape in shapes()]
    for path in sorted(SHIPPED.rglob("*.json")):
        cases += [
            CaseWorkload(**case["workload"]) for case in json.loads(path.read_text())["cases"]
        ]
    grid = _grid_sizes()
    return united([case_sizes(cases), grid, *map(model_sizes, models)])


def united(all_sizes: Iterable[Sizes]) -> Sizes:
    """The union of sizes, name by name."""
    union: Sizes = {}
    for sizes in all_sizes:
        for name, values in sizes.items():
            union[name] = union.get(name, frozenset()) | values
    return union


def shared(one: Sizes, other: Sizes) -> Sizes:
    """What both have, of the names where they have anything in common."""
    common = {name: values & other.get(name, frozenset()) for name, values in one.items()}
    return {name: values for name, values in common.items() if values}


def _grid_sizes() -> Sizes:
    """The grid of the shipped calibrations of kernels; `keys` of attention hold the new token."""
    products, tokens, contexts = set[object](), set[object](), set[object]()
    for path in sorted(CALIBRATIONS.glob("*.json")):
        table = json.loads(path.read_text())
        for point in (*table.get("gemm", ()), *table.get("grouped", ())):
            products.add((point["n"], point["k"]))
            tokens |= {point["m"]} if "m" in point else set()
        for point in table.get("attention", ()):
            tokens.add(point["batch"] * point["queries"])
            contexts |= {point["keys"], point["keys"] - point["queries"]}
    return {
        "products": frozenset(products),
        "tokens": frozenset(tokens - {1}),
        "contexts": frozenset(contexts),
    }
