"""Attention to the tokens that an indexer chooses (DSA), by hand; what it saves, and what not."""

from dataclasses import replace
from typing import Any

import pytest

from costmodel.costs.predict import predict
from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.mla import LatentAttention
from tests.steps import flops, make_step, one_layer, tiny_model

DENSE = LatentAttention(
    num_attention_heads=2,
    q_lora_rank=12,
    kv_lora_rank=8,
    qk_nope_head_dim=4,
    qk_rope_head_dim=6,
    v_head_dim=10,
)
SPARSE = replace(DENSE, index_topk=6, index_n_heads=3, index_head_dim=7)


def test_every_part_by_hand() -> None:
    """B = 3, T = 2, S = 5: 6 + 7 pairs a sequence are scored, 6 + 6 attended to."""
    found = one_layer(SPARSE, make_step(batch=3, new_tokens=2, cached=5), hidden_size=16)
    n = 6
    assert flops(found["attention.index_query"]) == {"gemm": ("matmul", 2 * n * 12 * 3 * 7)}
    assert flops(found["attention.index_key"]) == {"gemm": ("matmul", 2 * n * 16 * 7)}
    assert flops(found["attention.index_weights"]) == {"gemm": ("matmul", 2 * n * 16 * 3)}
    select = found["attention.index_select"]
    assert select.total("flops") == 2 * 3 * 13 * 3 * 7 + 2 * 3 * 13 * 3
    assert select.total("compares") == 3 * 13
    assert select.total("kv_read_bytes") == 3 * 5 * 7 * 2
    assert found["attention.index_rope"].total("kv_written_bytes") == n * 7 * 2
    core = found["attention.core"]
    products = [part.flops for part in core.parts if part.kind == "attention"]
    assert sum(products) == 2 * 3 * 12 * 2 * (8 + 6 + 8)


@pytest.mark.parametrize("cached", [0, 4, 5, 6, 7, 50, 5000])
def test_decode_costs_the_dense_layer_and_the_indexer_and_then_no_more(cached: int) -> None:
    step = make_step(batch=2, new_tokens=1, cached=cached)
    sparse, dense = (one_layer(kind, step, hidden_size=16) for kind in (SPARSE, DENSE))
    for leaf, operator in dense.items():
        same = leaf != "attention.core" or cached < 6
        if same:
            assert sparse[leaf].total("flops") == operator.total("flops")
            assert sparse[leaf].compulsory_bytes == operator.compulsory_bytes
    core = sparse["attention.core"]
    assert core.total("kv_read_bytes") == 2 * min(cached, 6) * (8 + 6) * 2
    assert sum(p.flops for p in core.parts if p.kind == "attention") == (
        2 * 2 * min(cached + 1, 6) * 2 * (8 + 6 + 8)
    )


def test_the_logits_of_a_long_prompt_are_in_the_footprint() -> None:
    """16,384 new tokens score 1,000,000 held ones: 16.4e9 logits, of 2 bytes each in bf16."""
    workload = Workload(phase="prefill", new_tokens=16384, context=1_000_000 - 16384)
    memory = predict(load_model("deepseek-v3.2"), workload, load_hardware("h200")).memory
    assert memory.activations_bytes >= 2 * 16384 * 1_000_000
    assert not memory.fits


def test_a_shared_choice_has_no_indexer_and_no_side_cache() -> None:
    step = make_step(batch=2, new_tokens=1, cached=50)
    shared = replace(SPARSE, shared_index=True)
    found = one_layer(shared, step, hidden_size=16)
    assert not [leaf for leaf in found if "index" in leaf]
    assert shared.kv_token_bytes(step) == (8 + 6) * 2
    assert SPARSE.kv_token_bytes(step) == (8 + 6 + 7) * 2
    assert SPARSE.side_token_bytes(step) == 7 * 2
    assert SPARSE.side_token_bytes(make_step(kv_dtype="fp8")) == 7 + 4


def test_the_first_layer_has_a_choice_to_share() -> None:
    with pytest.raises(ValueError, match="layer 0 has no earlier layer with an indexer"):
        tiny_model(attention=replace(SPARSE, shared_index=True), hidden_size=16)


def test_deepseek_v3_2_by_hand() -> None:
    """An indexer of 13,959,424; 61 x 576 x 2 bytes of latents and 61 x 256 of index keys."""
    model = load_model("deepseek-v3.2")
    costs = step_costs(model, Workload().step())
    assert (
        costs.parameters.total == 671_877_944_064
    )  # the correction biases of 58 routers among them
    assert costs.kv_cache.bytes_per_token == 70_272 + 15_616
    assert costs.kv_cache.side_cache_bytes_per_token == 15_616


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("index_n_heads", None, "needs index_n_heads"),
        ("q_lora_rank", None, "needs q_lora_rank"),
        ("index_topk", None, "needs index_topk"),
        ("index_head_dim", 5, "is less than"),
    ],
)
def test_refusals(field: str, value: Any, rule: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=rule):
        replace(SPARSE, **{field: value})
