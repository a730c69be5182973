"""The chain of kernels against whole memory layers: the authors' arrays, and float64 oracles."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reference_model.fused.memory_weights import MemoryLayer, parts_of
from reference_model.kernels.experts import described
from reference_model.kernels.key_scores import score_keys
from reference_model.kernels.linear import linear
from reference_model.kernels.memory import MemoryBuffers
from reference_model.kernels.memory_grid import choose_rows
from reference_model.kernels.memory_rows import sum_rows
from reference_model.kernels.memory_sides import choose_sides
from reference_model.kernels.tiles import Tile
from reference_model.leaf import NORM_EPS
from tests.reference_model import memory_oracles, test_product_key, test_published_layer
from tests.reference_model.kernels.making import poisoned
from tests.reference_model.oracles import Array, Choice, under
from tests.reference_model.test_ultramem import CASES, HIDDEN, layer_of, made_layers
from tests.reference_model.tiny import array, arrays, assert_close, noise, with_gap

TILE = Tile(tokens=4, rows=16, depth=16, stages=2)
TOKENS = 2


@torch.no_grad()
def run(layer: MemoryLayer, x: Tensor, *, together: bool) -> tuple[MemoryBuffers, Tensor, Tensor]:
    """Buffers, the rows' sum [T, g Dv], and what the layer gives for x [T, D]."""
    parts, tokens = parts_of(layer), x.shape[0]
    sizes, weights = parts.sizes, parts.weights
    projected = poisoned(tokens, sizes.projected)
    linear(x, parts.first.weight, projected, bias=parts.first.bias)
    buffers = MemoryBuffers.make(sizes, tokens=tokens, device="cpu")
    mixed = poisoned(tokens, sizes.sums * sizes.value_dim)
    keys = described(weights.keys, TILE)
    score_keys(projected, keys, buffers.scores, TILE, sizes)
    choose_sides(projected, sizes, weights, buffers, eps=NORM_EPS)
    choose_rows(projected, sizes, weights, buffers, mixed if together else None)
    if not together:
        sum_rows(projected, sizes, weights, buffers, mixed, x=x if sizes.neurons else None)
    if parts.output is None:
        return buffers, mixed, mixed
    out = poisoned(tokens, x.shape[1])
    linear(mixed, parts.output.weight, out, bias=parts.output.bias)
    return buffers, mixed, out


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("name", test_published_layer.FILES)
def test_the_published_layer(name: str, *, together: bool) -> None:
    published = test_published_layer.loaded(name)
    of = published.of
    buffers, mixed, out = run(published.layer, published.tokens, together=together)
    rows = test_published_layer.rows_and_scores(buffers.rows.numpy(), buffers.weights.numpy())
    wanted = test_published_layer.rows_and_scores(of["best_indice"], of["best_scores"])
    for ours, theirs in zip(rows, wanted, strict=True):
        assert [row for row, _ in ours] == [row for row, _ in theirs]
        assert_close(np.array([s for _, s in ours]), np.array([s for _, s in theirs]), 1e-5)
    assert_close(mixed, of["memory_output"], 1e-6)
    assert_close(out, of["output"].reshape(out.shape), 1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_layer_equals_the_oracle(case: str) -> None:
    config = CASES[case]
    model = made_layers(config, torch.float32)
    state = under(arrays(model), "layers.1.memory")

    def truth(seed: int, choice: Choice) -> tuple[Tensor, list[Array]]:
        x = noise(TOKENS, HIDDEN, seed=seed)
        return x, [memory_oracles.ultramem(config, state, array(one), choice, 1) for one in x]

    x, want = with_gap(truth)
    layer = layer_of(model, 1)
    _, _, out = run(layer, x, together=config.num_heads == 1)
    assert_close(out, np.array(want), 5e-6)


PRODUCT_CASES = [
    "pkm_without_norms",
    "memory_plus_biases",
    "every_row",
    "many_keys",
    "peer",
    "peer_table_per_head_own_keys",
    "peer_one_head_own_keys",
]


@pytest.mark.parametrize("case", PRODUCT_CASES)
def test_a_layer_of_product_keys_equals_the_oracle(case: str) -> None:
    kind: Any = test_product_key.CASES[case]
    config = replace(kind, key_dim=8)
    model = test_product_key.made_layers(config)
    state = under(arrays(model), "layers.1.memory")

    def truth(seed: int, choice: Choice) -> tuple[Tensor, list[Array]]:
        x = noise(TOKENS, test_product_key.HIDDEN, seed=seed)
        return x, [test_product_key.wanted(config, state, array(one), choice) for one in x]

    x, want = with_gap(truth)
    layer: Any = test_product_key.memory(model, 1)
    _, _, out = run(layer, x, together=False)
    assert_close(out, np.array(want), 5e-6)
    if config.num_heads == 1 and config.kind == "product_key":
        _, _, out = run(layer, x, together=True)
        assert_close(out, np.array(want), 5e-6)


@torch.no_grad()
def test_a_gate_and_a_residual_are_part_of_the_sum() -> None:
    """One head that chooses and sums in one launch is gated there, and a sum is added in place."""
    config = replace(test_product_key.MEMORY_PLUS, num_heads=1, key_dim=8)
    layer: Any = test_product_key.memory(test_product_key.made_layers(config), 0)
    x = noise(TOKENS, test_product_key.HIDDEN)
    buffers, apart, out = run(layer, x, together=False)
    _, together, _ = run(layer, x, together=True)
    assert torch.equal(together, apart)
    assert_close(out, layer(x[None])[0], 5e-6)
    parts = parts_of(layer)
    projected = torch.nn.functional.linear(x, parts.first.weight)
    added = torch.ones_like(apart)
    sum_rows(projected, parts.sizes, parts.weights, buffers, added, added=True)
    assert_close(added - 1, apart, 5e-6)
