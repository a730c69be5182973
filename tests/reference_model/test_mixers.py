"""Recurrent mixers against the oracle, over every way to feed their state."""

import numpy as np
import pytest
import torch

from costmodel.layers.attention import Attention
from costmodel.layers.attention_and_mamba2 import AttentionAndMamba2
from costmodel.layers.base import MixerKind
from costmodel.layers.gated_delta_net import GatedDeltaNet
from costmodel.layers.kimi_delta_attention import KimiDeltaAttention
from costmodel.layers.mamba2 import Mamba2
from costmodel.layers.short_conv import ShortConv
from tests.reference_model import mixer_oracles
from tests.reference_model.oracles import under
from tests.reference_model.running import LENGTH, WAYS, attention_step, in_way
from tests.reference_model.tiny import array, arrays, assert_close, made, noise
from tests.steps import tiny_model

CASES: dict[str, MixerKind] = {
    "short_conv": ShortConv(),
    "short_conv_biases": ShortConv(conv_L_cache=5, conv_bias=True),
    "gated_delta_net": GatedDeltaNet(  # nine tokens are one chunk
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=4,
        linear_value_head_dim=6,
    ),
    "gated_delta_net_chunks": GatedDeltaNet(  # ... or chunks of 4, 4 and 1
        linear_num_key_heads=3,
        linear_num_value_heads=3,
        linear_key_head_dim=5,
        linear_value_head_dim=4,
        linear_conv_kernel_dim=2,
        chunk_size=4,
    ),
    "kimi_delta_attention": KimiDeltaAttention(num_heads=2, head_dim=4),
    "kimi_delta_attention_chunks": KimiDeltaAttention(
        num_heads=3, head_dim=5, short_conv_kernel_size=3, full_rank_gates=True, chunk_size=4
    ),
    "mamba2": Mamba2(mamba_n_heads=4, mamba_d_head=4, mamba_n_groups=2, mamba_d_state=6),
    "mamba2_chunks": Mamba2(
        mamba_n_heads=3,
        mamba_d_head=5,
        mamba_d_state=4,
        mamba_d_conv=3,
        mamba_conv_bias=False,
        mamba_proj_bias=True,
        mamba_rms_norm=False,
        mamba_chunk_size=4,
    ),
    "attention_and_mamba2": AttentionAndMamba2(
        attention=Attention(num_attention_heads=4, num_key_value_heads=2, head_dim=4),
        mamba=Mamba2(
            mamba_n_heads=2,
            mamba_d_head=6,
            mamba_d_state=4,
            mamba_rms_norm=False,
            mamba_chunk_size=4,
        ),
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_a_mixer_equals_the_oracle(case: str, way: str) -> None:
    config = tiny_model(attention=CASES[case], hidden_size=12, num_hidden_layers=1)
    model = made(config, dtype=torch.float64)
    x = noise(2, LENGTH, 12, seed=1, dtype=torch.float64)
    weights = under(arrays(model), "layers.0.attention")
    want = np.array([mixer_oracles.mixer(CASES[case], weights, array(one)) for one in x])
    got = in_way(way, attention_step(model), x, model.new_cache(2, LENGTH + 1))
    attends = isinstance(CASES[case], AttentionAndMamba2)  # in float32, as its rotation is
    assert_close(got, want, 1e-6 if attends else 1e-10)


@pytest.mark.parametrize("case", CASES)
def test_a_step_with_gradients_gives_what_one_without_gives(case: str) -> None:
    """Without gradients a state is changed in place, with them it is copied."""
    model = made(tiny_model(attention=CASES[case], hidden_size=12, num_hidden_layers=1))
    x, outputs, states = noise(2, 4, 12), [], []
    for gradients in (False, True):
        cache = model.new_cache(2, LENGTH)
        with torch.set_grad_enabled(gradients):
            step = attention_step(model)
            outputs.append(torch.cat([step(x[:, i : i + 1], cache) for i in range(4)], dim=1))
        states.append(cache.layers[0].tensors)
    assert_close(outputs[0], array(outputs[1].detach()), 1e-5)
    for in_place, copied in zip(*states, strict=True):
        assert_close(in_place, array(copied), 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_static_step_keeps_its_state_in_place(case: str) -> None:
    """A CUDA graph replays addresses; `restore_static` must make a step repeatable."""
    config = tiny_model(attention=CASES[case], hidden_size=12, num_hidden_layers=1)
    model = made(config)
    cache = model.new_cache(2, LENGTH)
    x = noise(2, 4, 12)
    in_way_step = attention_step(model)
    with torch.no_grad():
        in_way_step(x[:, :3], cache)
        cache.make_static(3)
        saved = cache.static_state()
        addresses = [tensor.data_ptr() for tensor in cache.layers[0].tensors]
        first = in_way_step(x[:, 3:], cache)
        changed = cache.static_state()
        cache.restore_static(saved)
        again = in_way_step(x[:, 3:], cache)
    assert torch.equal(first, again)
    assert addresses == [tensor.data_ptr() for tensor in cache.layers[0].tensors]
    assert any(not torch.equal(a, b) for a, b in zip(saved[1:], changed[1:], strict=True))
