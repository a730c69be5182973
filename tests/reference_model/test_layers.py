"""Embedding, norms, projections and activations against the oracle."""

from typing import get_args

import numpy as np
import pytest
import torch

from costmodel.layers.ffn import DenseFfn
from costmodel.layers.primitives import Activation
from reference_model.layers import Embed, Linear, LmHead, Norm, activate
from reference_model.leaf import Factory, rms_norm
from tests.reference_model import oracles
from tests.reference_model.oracles import under
from tests.reference_model.tiny import array, arrays, assert_close, made, noise, randomise
from tests.steps import tiny_model

FACTORY = Factory(
    device=torch.device("cpu"),
    dtype=torch.float32,
    hidden_size=12,
    generator=torch.Generator().manual_seed(0),
)
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_as_defined_far_beyond_their_clamps(
    kind: Activation, *, gated: bool
) -> None:
    x = torch.linspace(-30, 30, 1202, dtype=torch.float64)
    x = x[torch.randperm(1202, generator=torch.Generator().manual_seed(0))]
    assert_close(activate(kind, gated, x), oracles.activated(kind, array(x), gated=gated), 1e-12)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ACTIVATIONS)
@torch.no_grad()
def test_the_dense_layer_equals_the_oracle(kind: Activation, *, bias: bool, gated: bool) -> None:
    config = DenseFfn(intermediate_size=10, activation=kind, bias=bias, gated=gated)
    model = made(tiny_model(ffn=config, hidden_size=12, num_hidden_layers=1))
    weights = under(arrays(model), "layers.0.ffn")
    x = noise(2, 3, 12)
    want = [[oracles.feed_forward(config, weights, array(token)) for token in one] for one in x]
    assert_close(model.get_submodule("layers.0.ffn")(x), np.array(want), 2e-6)


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 1e4])
def test_rms_norm_equals_the_oracle_at_every_size(size: float) -> None:
    x, weight = size * noise(5, 12), noise(12, seed=1)
    want = [oracles.rms_norm(array(token), array(weight)) for token in x]
    assert_close(rms_norm(x, weight), np.array(want), 1e-6)


def test_rms_norm_takes_its_mean_in_float32() -> None:
    """4,096 squares of 300 overflow no bf16, but their sum in bf16 would stop at a few hundred."""
    x = torch.full((4096,), 300.0, dtype=torch.bfloat16)
    x[::2] *= -1
    got = rms_norm(x, torch.ones(4096, dtype=torch.bfloat16))
    assert_close(got, np.sign(array(x)), 2**-8)


@torch.no_grad()
def test_a_norm_adds_what_waits_in_the_stream_and_normalises_the_sum() -> None:
    norm = Norm(FACTORY, tiny_model())
    randomise(norm, 0)
    stream, one, two = noise(2, 3, 12), noise(2, 3, 12, seed=1), noise(2, 3, 12, seed=2)
    before = stream.clone()
    summed, normed = norm(stream, one, two)
    assert torch.equal(stream, before), "the stream before the add may still be needed"
    assert_close(summed, stream + one + two, 1e-6)
    want = [oracles.rms_norm(token, array(norm.weight)) for token in array(summed).reshape(6, 12)]
    assert_close(normed, np.array(want).reshape(2, 3, 12), 1e-6)
    alone, _ = norm(stream)
    assert torch.equal(alone, stream)


@torch.no_grad()
def test_embedding_and_head_may_be_one_parameter() -> None:
    embed = Embed(FACTORY, 7, tied=True)
    head = LmHead(FACTORY, 7, embed.weight)
    assert head.weight is embed.weight
    assert LmHead(FACTORY, 7, None).weight is not embed.weight
    assert torch.equal(embed(torch.tensor([[3, 6]])), embed.weight[[3, 6]][None])
    assert_close(head(embed.weight[:2]), array(embed.weight[:2]) @ array(embed.weight).T, 1e-6)


@torch.no_grad()
def test_a_linear_leaf_has_its_bias_before_its_activation() -> None:
    leaf = Linear(FACTORY, 12, 8, "ffn", bias=True, activation="silu", gated=True)
    randomise(leaf, 1)
    x = noise(12)
    y = array(leaf.weight) @ array(x) + array(leaf.get_parameter("bias"))
    assert_close(leaf(x), oracles.activated("silu", y, gated=True), 2e-6)
