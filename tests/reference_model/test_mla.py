"""Latent attention: absorbed and expanded against an oracle that rebuilds every key and value."""

import numpy as np
import pytest

from costmodel.inputs.workload import Mla
from costmodel.layers.mla import LatentAttention
from tests.reference_model import oracles
from tests.reference_model.oracles import under
from tests.reference_model.running import LENGTH, WAYS, attention_step, in_way
from tests.reference_model.tiny import array, arrays, assert_close, made, noise
from tests.steps import tiny_model

CASES = {
    "compressed_query": LatentAttention(
        num_attention_heads=3,
        kv_lora_rank=8,
        qk_nope_head_dim=6,
        qk_rope_head_dim=4,
        v_head_dim=5,
        q_lora_rank=7,
    ),
    "full_query": LatentAttention(
        num_attention_heads=2,
        kv_lora_rank=7,
        qk_nope_head_dim=4,
        qk_rope_head_dim=6,
        v_head_dim=8,
    ),
    "one_head_odd_rotary": LatentAttention(
        num_attention_heads=1,
        kv_lora_rank=5,
        qk_nope_head_dim=4,
        qk_rope_head_dim=5,
        v_head_dim=4,
    ),
    "without_rotation": LatentAttention(
        num_attention_heads=2,
        kv_lora_rank=7,
        qk_nope_head_dim=4,
        qk_rope_head_dim=6,
        v_head_dim=8,
        mla_use_nope=True,
    ),
    "indexer": LatentAttention(
        num_attention_heads=2,
        kv_lora_rank=8,
        qk_nope_head_dim=6,
        qk_rope_head_dim=4,
        v_head_dim=5,
        q_lora_rank=9,
        index_topk=3,
        index_n_heads=16,
        index_head_dim=6,
    ),
    "biases": LatentAttention(
        num_attention_heads=2,
        kv_lora_rank=8,
        qk_nope_head_dim=6,
        qk_rope_head_dim=4,
        v_head_dim=5,
        q_lora_rank=9,
        attention_bias=True,
        output_bias=True,
    ),
}


def oracle(config: LatentAttention, weights: oracles.Weights, x: oracles.Array) -> oracles.Array:
    choice = oracles.Choice()
    chosen = oracles.indexed(config, weights, x, choice) if config.index_topk else None
    assert choice.gap > 1e-5, "rounding, or a tie, could change what is chosen"
    return oracles.latent_attention(config, weights, x, chosen)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", ["absorbed", "expanded"])
@pytest.mark.parametrize("case", CASES)
def test_latent_attention_equals_the_oracle(case: str, mode: Mla, way: str) -> None:
    model = made(tiny_model(attention=CASES[case], hidden_size=12, num_hidden_layers=1))
    model.set_mla(mode)
    x = noise(2, LENGTH, 12, seed=1)
    weights = under(arrays(model), "layers.0.attention")
    want = np.array([oracle(CASES[case], weights, array(one)) for one in x])
    got = in_way(way, attention_step(model), x, model.new_cache(2, LENGTH + 1))
    assert_close(got, want, 2e-6)


def test_a_cache_filled_in_one_mode_serves_the_other() -> None:
    model = made(tiny_model(attention=CASES["compressed_query"], hidden_size=12))
    x = noise(2, 9, 12, seed=1)
    step = attention_step(model)
    cache, both = model.new_cache(2, 10), model.new_cache(2, 10)
    whole = in_way("at_once", step, x, cache)
    model.set_mla("expanded")
    step(x[:, :8], both)
    model.set_mla("absorbed")
    assert_close(step(x[:, 8:], both), whole[:, 8:], 2e-6)
