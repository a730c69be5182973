"""Attention against the oracle, over every way to feed the cache."""

import numpy as np
import pytest
import torch

from costmodel.layers.attention import Attention
from reference_model.sdpa import visible
from tests.reference_model import oracles
from tests.reference_model.oracles import under
from tests.reference_model.running import LENGTH, WAYS, attention_step, in_way
from tests.reference_model.tiny import array, arrays, assert_close, made, noise
from tests.steps import tiny_model

CASES: dict[str, Attention] = {
    "mha": Attention(num_attention_heads=3, num_key_value_heads=3, head_dim=6),
    "gqa": Attention(num_attention_heads=6, num_key_value_heads=2, head_dim=4),
    "mqa": Attention(num_attention_heads=3, num_key_value_heads=1, head_dim=4),
    "window_1": Attention(
        num_attention_heads=2, num_key_value_heads=2, head_dim=4, sliding_window=1
    ),
    "window_1_sinks": Attention(
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, sliding_window=1, sinks=True
    ),
    "window_3": Attention(
        num_attention_heads=4, num_key_value_heads=2, head_dim=4, sliding_window=3
    ),
    "chunks_of_1": Attention(
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, attention_chunk_size=1
    ),
    "chunks_of_4": Attention(
        num_attention_heads=4, num_key_value_heads=2, head_dim=4, attention_chunk_size=4
    ),
    "chunks_of_3_sinks": Attention(
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=6,
        attention_chunk_size=3,
        qk_norm="head_unweighted",
        sinks=True,
    ),
    "chunk_of_all": Attention(
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, attention_chunk_size=LENGTH
    ),
    "growing_queries": Attention(
        num_attention_heads=4, num_key_value_heads=2, head_dim=4, rotary_dim=0, floor_scale=2
    ),
    "window_of_all": Attention(
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, sliding_window=LENGTH
    ),
    "window_beyond_all": Attention(
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, sliding_window=50
    ),
    "norm_of_heads": Attention(
        num_attention_heads=4, num_key_value_heads=2, head_dim=6, qk_norm="head"
    ),
    "norm_of_all_heads": Attention(
        num_attention_heads=4, num_key_value_heads=2, head_dim=6, qk_norm="full"
    ),
    "sinks": Attention(num_attention_heads=4, num_key_value_heads=2, head_dim=4, sinks=True),
    "biases": Attention(
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        attention_bias=True,
        output_bias=True,
    ),
    "output_gate": Attention(
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        qk_norm="head",
        attention_bias=True,
        output_gate=True,
    ),
    "wide_values": Attention(
        num_attention_heads=4, num_key_value_heads=2, head_dim=4, v_head_dim=6, sinks=True
    ),
    "narrow_values_in_a_window": Attention(
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        v_head_dim=4,
        sliding_window=3,
        value_norm=True,
        attention_bias=True,
        output_gate=True,
    ),
    "keys_are_values": Attention(
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        qk_norm="head",
        rotary_dim=2,
        attention_k_eq_v=True,
        value_norm=True,
    ),
    "half_rotary": Attention(
        num_attention_heads=2, num_key_value_heads=2, head_dim=8, rotary_dim=4
    ),
    "odd_rotary": Attention(num_attention_heads=2, num_key_value_heads=2, head_dim=5),
    "one_rotary": Attention(num_attention_heads=2, num_key_value_heads=2, head_dim=4, rotary_dim=1),
    "no_rotary": Attention(num_attention_heads=2, num_key_value_heads=1, head_dim=4, rotary_dim=0),
    "all_of_it": Attention(
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        qk_norm="full",
        rotary_dim=2,
        sliding_window=4,
        attention_bias=True,
        output_bias=True,
        sinks=True,
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_attention_equals_the_oracle(case: str, way: str) -> None:
    model = made(tiny_model(attention=CASES[case], hidden_size=12, num_hidden_layers=1))
    x = noise(2, LENGTH, 12, seed=1)
    weights = under(arrays(model), "layers.0.attention")
    want = np.array([oracles.attention(CASES[case], weights, array(one)) for one in x])
    got = in_way(way, attention_step(model), x, model.new_cache(2, LENGTH + 1))
    assert_close(got, want, 2e-6)


@pytest.mark.parametrize(("new", "keys", "chunk"), [(1, 1, 3), (5, 5, 2), (4, 6, 4), (7, 9, 3)])
def test_chunks_begin_at_the_first_key(new: int, keys: int, chunk: int) -> None:
    seen = visible(new, keys, None, torch.device("cpu"), chunk=chunk)
    for row in range(new):
        own = keys - new + row
        assert [c for c in range(keys) if seen[row, c]] == list(
            range(own // chunk * chunk, own + 1)
        )


@pytest.mark.parametrize("window", [None, 1, 2, 5, 9])
@pytest.mark.parametrize(("new", "keys"), [(1, 1), (1, 4), (4, 4), (2, 5)])
def test_visible_counts_back_from_each_token(new: int, keys: int, window: int | None) -> None:
    seen = visible(new, keys, window, torch.device("cpu"))
    for row in range(new):
        for col in range(keys):
            back = keys - new + row - col
            assert seen[row, col] == (back >= 0 and (window is None or back < window))


def test_a_sink_as_large_as_can_be_takes_all_weight() -> None:
    model = made(tiny_model(attention=CASES["sinks"], hidden_size=12, num_hidden_layers=1))
    model.get_parameter("layers.0.attention.core.sinks").data.fill_(1e4)
    x = noise(1, 5, 12)
    got = in_way("at_once", attention_step(model), x, model.new_cache(1, 9))
    assert torch.equal(got, torch.zeros_like(got))


def test_large_scores_do_not_overflow() -> None:
    model = made(tiny_model(attention=CASES["gqa"], hidden_size=12, num_hidden_layers=1))
    x = 1e4 * noise(1, LENGTH, 12)
    weights = under(arrays(model), "layers.0.attention")
    got = in_way("at_once", attention_step(model), x, model.new_cache(1, LENGTH))
    assert_close(got[0], oracles.attention(CASES["gqa"], weights, array(x[0])), 1e-3)
