"""Per-layer embeddings: every part by hand, and the counts of Gemma 3n and Gemma 4."""

from typing import Any

import pytest

from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Operator
from costmodel.layers.per_layer_embedding import PerLayerEmbedding
from costmodel.layers.site import Site
from tests.steps import flops, make_step, quantity, tiny_model, total, weights

GEMMAS = ("gemma-3n-e4b", "gemma-4-e2b")
# D = 8, p = 4, 10 token ids, two layers: rows of 8 values
KIND = PerLayerEmbedding(layers="1,2", hidden_size_per_layer_input=4, vocab_size_per_layer_input=10)


def listed(tokens: int = 3, dtype: str = "bf16") -> dict[str, Operator]:
    operators = KIND.operators(Site.of((1, 2), 8, KIND), make_step(batch=tokens, dtype=dtype))
    return {operator.path: operator for operator in operators}


def test_every_part_by_hand() -> None:
    ops = listed()
    assert {path: flops(op) for path, op in ops.items()} == {
        "ple.rows": {},
        "ple.project": {
            "gemm": ("matmul", 3 * 2 * 8 * 8),
            "norm": ("norm", 3 * 4 * 8),
            "mean": ("elementwise", 3 * 2 * 8),  # an add and a multiply
        },
        "layers.{1-2}.ple.gate": {
            "gemm": ("matmul", 3 * 2 * 8 * 4),
            "activation": ("elementwise", 3 * 9 * 4),  # GELU
            "product": ("elementwise", 3 * 4),
        },
        "layers.{1-2}.ple.output": {"gemm": ("matmul", 3 * 2 * 4 * 8)},
        "layers.{1-2}.ple.norm": {"norm": ("norm", 3 * 4 * 8)},
    }
    gemm = sum(op.count * part.flops for op in ops.values() for part in op.parts
               if part.kind == "matmul")  # fmt: skip
    assert gemm == 3 * (2 * 8 * 2 * 4 + 4 * 8 * 4 * 2)  # N (2 D L p + 4 D p L)


def test_parameters_by_hand() -> None:
    assert {path: weights(op) for path, op in listed().items()} == {
        "ple.rows": {"weight": ("memory_values", 10, 8)},
        "ple.project": {"weight": ("memory_projections", 8, 8), "norm": ("norm", 4, 1)},
        "layers.{1-2}.ple.gate": {"weight": ("memory_projections", 4, 8)},
        "layers.{1-2}.ple.output": {"weight": ("memory_projections", 8, 4)},
        "layers.{1-2}.ple.norm": {"weight": ("norm", 8, 1)},
    }


@pytest.mark.parametrize(("dtype", "row"), [("bf16", 16), ("int8", 10), ("int4", 7)])
def test_a_step_reads_each_row_once_for_all_layers(dtype: str, row: int) -> None:
    rows = listed(2, dtype)["ple.rows"]
    distinct = (1 * 10 + 2 * 90) / 100  # of two ids, 10 in 100 pairs are alike
    assert rows.total("row_bytes") == pytest.approx(distinct * row, rel=1e-12)
    assert rows.total("flops") == rows.total("compares") == 0
    assert rows.count == 1
    assert rows.touched is not None
    assert (rows.touched.population, rows.touched.chosen_by) == (10, "ple.rows")


def test_activations_by_hand() -> None:
    ops = listed()
    assert quantity(ops["ple.rows"], "activation_bytes") == {"rows": 3 * 8 + 3 * 8 * 2}
    assert ops["ple.project"].total("input_bytes") == 3 * (8 + 8) * 2  # tokens and rows
    assert ops["ple.project"].total("output_bytes") == 3 * 8 * 2
    gate = ops["layers.{1-2}.ple.gate"]
    assert gate.total("input_bytes") == 3 * (8 + 4) * 2  # the stream, and the layer's vector
    assert gate.total("output_bytes") == 3 * 4 * 2


def model(**fields: Any) -> ModelConfig:  # noqa: ANN401 - any field of a model
    return tiny_model(memory=(KIND,), **fields)


def test_it_stands_behind_its_blocks_and_its_table_at_the_input() -> None:
    operators = step_costs(model(), make_step()).operators
    paths = [op.path for op in operators]
    assert paths[:3] == ["embed", "ple.rows", "ple.project"]
    joins = {op.path: flops(op) for op in operators if op.leaf == "ple_join"}
    assert joins == {"layers.{1-2}.ple_join": {"residual_add": ("elementwise", 8)}}
    # blocks 0 and 1 are followed by a norm that adds one output, be it an FFN's or this layer's
    norms = {op.path: op.total("flops") for op in operators if op.leaf == "attention_norm"}
    assert norms == {"layers.0.attention_norm": 4 * 8, "layers.{1-2}.attention_norm": 5 * 8}
    assert {op.path: op.total("flops") for op in operators}["final_norm"] == 5 * 8


@pytest.mark.parametrize("name", GEMMAS)
def test_the_table_of_gemma(name: str) -> None:
    """35 layers of 256 values; a token reads one row, 17,920 bytes in bf16."""
    costs = step_costs(load_model(name), Workload(batch=1).step())
    assert 262144 * 35 * 256 == 2_348_810_240
    assert costs.parameters.by_group["memory_values"] == 2_348_810_240
    assert total(costs.operators, "row_bytes") == pytest.approx(17_920, rel=1e-12)
    (rows,) = [op for op in costs.operators if op.leaf == "ple.rows"]
    assert sum(w.active_parameters for w in rows.weights) == 8_960


@pytest.mark.parametrize(
    ("name", "d", "projections"), [(GEMMAS[0], 2048, 55_050_240), (GEMMAS[1], 1536, 41_287_680)]
)
def test_the_projections_of_gemma(name: str, d: int, projections: int) -> None:
    assert d * 35 * 256 + 35 * 2 * d * 256 == projections
    costs = step_costs(load_model(name), Workload(batch=4).step())
    assert costs.parameters.by_group["memory_projections"] == projections
    gemm = sum(
        op.count * part.flops
        for op in costs.operators
        for part in op.parts
        if part.kind == "matmul" and op.leaf.startswith("ple.")
    )
    assert gemm == 4 * 2 * projections  # each weight is multiplied once a token
    assert costs.routing.flops == 0


@pytest.mark.parametrize(
    ("name", "published"), [(GEMMAS[0], 6_835_235_568), (GEMMAS[1], 4_628_569_344)]
)
def test_the_text_decoders_of_gemma_are_whole(name: str, published: int) -> None:
    """As transformers 5.24 builds them on the meta device."""
    costs = step_costs(load_model(name), Workload().step())
    assert costs.parameters.total == published
