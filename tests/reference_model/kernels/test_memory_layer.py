"""The chain of kernels against whole memory layers: the authors' arrays, and a float64 oracle."""

import numpy as np
import pytest
import torch
from torch import Tensor

from reference_model.kernels.experts import described
from reference_model.kernels.key_scores import score_keys
from reference_model.kernels.linear import linear
from reference_model.kernels.memory import MemoryBuffers, MemorySizes, MemoryWeights
from reference_model.kernels.memory_grid import choose_rows
from reference_model.kernels.memory_rows import sum_rows
from reference_model.kernels.memory_sides import choose_sides
from reference_model.kernels.tiles import Tile
from reference_model.leaf import NORM_EPS
from reference_model.ultramem import UltraMemLayer
from tests.reference_model import memory_oracles, test_published_layer
from tests.reference_model.kernels.making import poisoned
from tests.reference_model.oracles import Array, Choice, under
from tests.reference_model.test_ultramem import CASES, HIDDEN, layer_of, made_layers
from tests.reference_model.tiny import array, arrays, assert_close, noise, with_gap

TILE = Tile(tokens=4, rows=16, depth=16, stages=2)
TOKENS = 2


def sizes_of(layer: UltraMemLayer) -> MemorySizes:
    config, retrieve = layer.config, layer.retrieve
    return MemorySizes(
        key_dim=config.key_dim,
        keys=retrieve.num_keys,
        kept=min(config.first_stage_topk or config.knn, retrieve.num_keys),
        reads=config.knn,
        value_dim=config.value_dim,
        pre_value_dim=config.pre_value_dim,
        heads=config.num_heads,
        ranks=config.tucker_rank,
        cores=config.tucker_cores,
        queries=config.num_queries,
        expansion=config.value_expansion**2,
        sums=config.output_groups,
    )


def weights_of(layer: UltraMemLayer) -> MemoryWeights:
    retrieve = layer.retrieve
    retrieve.fold()
    return MemoryWeights(
        keys=(retrieve.keys * layer.query.norm).contiguous(),
        merge=torch.stack([retrieve.u, retrieve.v]),
        cores=retrieve.cores,
        permutation=retrieve.permutation,
        values=layer.values.weight,
        pre_values=None if layer.config.pre_value_dim is None else layer.pre_values.weight,
        offset=layer.values.view.offset,
    )


@torch.no_grad()
def run(layer: UltraMemLayer, x: Tensor, *, together: bool) -> tuple[MemoryBuffers, Tensor, Tensor]:
    """Buffers, the rows' sum [T, g Dv], and what the layer gives for x [T, D]."""
    sizes, weights, tokens = sizes_of(layer), weights_of(layer), x.shape[0]
    first: list[Tensor] = [layer.query.weight]
    if layer.config.pre_value_dim is not None:
        first.append(layer.pre_projection.weight)
    projected = poisoned(tokens, sizes.projected)
    linear(x, torch.cat(first), projected)
    buffers = MemoryBuffers.make(sizes, tokens=tokens, device="cpu")
    mixed = poisoned(tokens, sizes.sums * sizes.value_dim)
    keys = described(weights.keys, TILE)
    score_keys(projected, keys, buffers.scores, TILE, queries=sizes.queries)
    choose_sides(projected, sizes, weights, buffers, eps=NORM_EPS)
    choose_rows(projected, sizes, weights, buffers, mixed if together else None)
    if not together:
        sum_rows(projected, sizes, weights, buffers, mixed)
    out = poisoned(tokens, layer.output.weight.shape[0])
    linear(mixed, layer.output.weight, out)
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
