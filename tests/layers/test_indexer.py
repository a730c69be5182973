"""Attention to the tokens that an indexer chooses (DSA), by hand; what it saves, and what not."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.costs.predict import predict
from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.mla import LatentAttention
from costmodel.layers.operator import Operator, Step
from costmodel.questions.sparse_attention import logits_note
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
INDEXER = {f"attention.index_{what}" for what in ("query", "key", "weights", "rope", "select")}


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


def held(layers: Mapping[str, Operator], leaf: str) -> tuple[object, ...]:
    """What a leaf costs: FLOPs, bytes, and the shapes that its time is of."""
    operator = layers[leaf]
    return (
        operator.total("flops"),
        operator.compulsory_bytes,
        tuple(part.shape for part in operator.parts if part.shape is not None),
    )


STEPS = st.builds(
    make_step,
    batch=st.integers(1, 3),
    new_tokens=st.integers(1, 12),
    cached=st.integers(0, 12),
    attention_flops=st.sampled_from(["causal", "full"]),
    mla=st.sampled_from(["absorbed", "expanded"]),
)


@given(step=STEPS, topk=st.integers(1, 30))
def test_with_at_most_topk_tokens_the_dense_layer_and_the_indexer(step: Step, topk: int) -> None:
    cached, new_tokens = int(step.cached), int(step.new_tokens)
    kind = replace(SPARSE, index_topk=topk)
    twin = kind.dense_twin()
    assert twin == DENSE
    sparse, dense = (one_layer(each, step, hidden_size=16) for each in (kind, DENSE))
    assert set(sparse) - set(dense) == INDEXER
    for leaf in dense:
        if leaf != "attention.core" or cached + new_tokens <= topk:
            assert held(sparse, leaf) == held(dense, leaf)
    pairs = [min(cached + 1 + place, topk) for place in range(new_tokens)]  # of each query
    if step.attention_flops == "causal":
        core = sparse["attention.core"].total("flops")
        whole = dense["attention.core"].total("flops")
        everything = sum(cached + 1 + place for place in range(new_tokens))
        assert core * everything == whole * sum(pairs)


@pytest.mark.parametrize("batch", [1, 5])
def test_beyond_topk_tokens_a_decode_step_reads_and_computes_no_more(batch: int) -> None:
    """6 latents of 8 + 6 elements a sequence, and all index keys of 7."""
    contexts = np.array([5, 6, 7, 50, 5000, 2**27])
    layer = one_layer(SPARSE, replace(make_step(batch=batch), cached=contexts), hidden_size=16)
    core, select = layer["attention.core"], layer["attention.index_select"]
    reads = core.total("kv_read_bytes")
    assert list(np.asarray(reads)) == [batch * 14 * 2 * tokens for tokens in (5, 6, 6, 6, 6, 6)]
    assert len(set(np.asarray(core.total("flops")).tolist())) == 1  # 6 pairs, itself in
    assert np.array_equal(select.total("kv_read_bytes"), batch * contexts * 7 * 2)
    assert np.array_equal(select.total("compares"), batch * (contexts + 1))


@pytest.mark.parametrize(("kv_dtype", "logit_bytes"), [("bf16", 2), ("fp8", 1)])
def test_the_logits_of_a_long_prompt_are_in_the_footprint(kv_dtype: str, logit_bytes: int) -> None:
    """16,384 new tokens score 1,000,000 held ones: 16.4e9 logits, a byte each in fp8.

    Beside them 65 x 128 queries and key, 64 head weights, 2,048 indices, and the residual stream.
    """
    workload = Workload(
        phase="prefill",
        new_tokens=16384,
        context=1_000_000 - 16384,
        kv_dtype=DTYPES[kv_dtype],
        mla="absorbed",
    )
    prediction = predict(load_model("deepseek-v3.2"), workload, load_hardware("h200"))
    logits = 16_384_000_000 * logit_bytes
    border = 16384 * ((65 * 128 + 64) * 2 + 2048 * 8)
    assert prediction.memory.activations_bytes == logits + border + 2 * 16384 * 7168 * 2
    assert not prediction.memory.fits
    select = next(op for op in prediction.costs.operators if op.leaf == "attention.index_select")
    scored = 16384 * 983_616 + 16384 * 16385 // 2  # quadratic in the prompt
    assert select.total("flops") == scored * 2 * 64 * 129
    (note,) = logits_note(prediction)
    assert f"16,384 new tokens with 1,000,000 held ones, {logit_bytes} B each" in note
    assert f"take {'16.38' if logit_bytes == 1 else '32.77'} GB" in note


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
