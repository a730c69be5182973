"""PKM, Memory+ and PEER against oracles that search all n^2 pairs of keys."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from costmodel.layers.base import MemoryKind
from costmodel.layers.peer import Peer
from costmodel.layers.product_key import ProductKey
from reference_model.leaf import Factory
from reference_model.model import ReferenceModel
from reference_model.product_key import ProductRetrieve
from reference_model.routing import histograms, set_synthetic_routing
from reference_model.synthetic_routing import Popularity
from tests.reference_model import memory_oracles
from tests.reference_model.oracles import Array, Choice, Weights, under
from tests.reference_model.tiny import array, arrays, assert_close, made, noise, with_gap
from tests.steps import tiny_model

HIDDEN, TOKENS = 12, 7

PKM = ProductKey(layers="all", num_keys=5, num_heads=2, knn=3, key_dim=6, value_dim=HIDDEN)
MEMORY_PLUS = replace(PKM, value_dim=8, gate=True, output_projection=True)
PEER = Peer(layers="all", num_keys=5, num_heads=2, knn=3, key_dim=6)

CASES: dict[str, MemoryKind] = {
    "pkm": PKM,
    "pkm_without_norms": replace(PKM, qk_norm=False),
    "pkm_own_tables": replace(PKM, shared_table=False),
    "pkm_gate_alone": replace(PKM, gate=True),
    "memory_plus": MEMORY_PLUS,
    "memory_plus_one_head": replace(MEMORY_PLUS, num_heads=1),
    "projection_alone": replace(MEMORY_PLUS, gate=False),
    "more_rows_than_keys": replace(PKM, knn=13),
    "every_row": replace(PKM, num_keys=2, knn=4),
    "one_row": replace(PKM, knn=1),
    "many_keys": replace(PKM, num_keys=20, knn=9, num_heads=3),
    "peer": PEER,
    "peer_own_keys": replace(PEER, shared_keys=False),
    "peer_without_norm": replace(PEER, query_norm=False),
    "peer_every_expert": replace(PEER, num_keys=2, knn=4),
    "pkm_biases": replace(PKM, projection_bias=True),
    "memory_plus_biases": replace(MEMORY_PLUS, projection_bias=True),
    "peer_shared_tables": replace(PEER, shared_table=True),
    "peer_table_per_head": replace(PEER, table_per_head=True),
    "peer_table_per_head_own_keys": replace(
        PEER, table_per_head=True, shared_keys=False, shared_table=True, num_heads=3
    ),
    "peer_one_head_own_keys": replace(PEER, num_heads=1, shared_keys=False, knn=7),
}


def wanted(config: MemoryKind, weights: Weights, x: Array, choice: Choice) -> Array:
    if isinstance(config, Peer):
        return memory_oracles.peer(config, weights, x, choice)
    assert isinstance(config, ProductKey)
    return memory_oracles.product_key(config, weights, x, choice)


def made_layers(config: MemoryKind, dtype: torch.dtype = torch.float32) -> ReferenceModel:
    return made(tiny_model(hidden_size=HIDDEN, memory=(config,)), dtype=dtype)


def memory(model: ReferenceModel, index: int) -> nn.Module:
    return model.get_submodule(f"layers.{index}.memory")


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_layer_equals_the_oracle(case: str, dtype: torch.dtype, *, folded: bool) -> None:
    config = CASES[case]
    model = made_layers(config, dtype)
    state = under(arrays(model), "layers.1.memory")
    if folded:
        model.fold()

    def truth(seed: int, choice: Choice) -> tuple[Tensor, list[Array]]:
        x = noise(1, TOKENS, HIDDEN, seed=seed, dtype=dtype)
        return x, [wanted(config, state, array(one), choice) for one in x[0]]

    x, want = with_gap(truth)
    assert_close(memory(model, 1)(x), np.array([want]), 2e-6)  # softmax is float32 always


@torch.no_grad()
def test_two_stages_find_the_best_of_all_pairs_in_order() -> None:
    model = made_layers(CASES["many_keys"], torch.float64)
    query, retrieve = (memory(model, 0).get_submodule(one) for one in ("query", "retrieve"))
    queries = query(noise(TOKENS, HIDDEN, dtype=torch.float64))
    rows, weights = retrieve(queries)
    state = under(arrays(model), "layers.0.memory")
    for token in range(TOKENS):
        expected = memory_oracles.product_key_retrieve(state, array(queries[token]), 9, Choice())
        assert rows[token].tolist() == [row for row, _ in expected]
        assert_close(weights[token], np.array([weight for _, weight in expected]), 1e-6)


@pytest.mark.parametrize("case", ["pkm", "peer", "peer_own_keys"])
@torch.no_grad()
def test_weights_of_a_head_sum_to_one_over_different_rows(case: str) -> None:
    layer = memory(made_layers(CASES[case]), 2)
    query, retrieve = layer.get_submodule("query"), layer.get_submodule("retrieve")
    rows, weights = retrieve(query(noise(TOKENS, HIDDEN)))
    for head_rows in rows.unflatten(1, (2, 3)).flatten(0, 1).tolist():
        assert len(set(head_rows)) == 3
    assert_close(weights.unflatten(1, (2, 3)).sum(-1), torch.ones(TOKENS, 2), 1e-6)


@torch.no_grad()
def test_ties_take_as_many_different_rows_and_share_the_weight() -> None:
    """Which of equal rows are taken is not promised; how many, and their weights, are."""
    factory = Factory(device=torch.device("cpu"), dtype=torch.float32, hidden_size=HIDDEN)
    retrieve = ProductRetrieve(factory, heads=1, num_keys=4, knn=3, key_dim=6)
    retrieve.keys.zero_()
    rows, weights = retrieve(noise(TOKENS, 1, 2, 6))
    assert all(len(set(one)) == 3 for one in rows.tolist())
    assert_close(weights, torch.full((TOKENS, 3), 1 / 3), 1e-6)


def test_layers_share_their_table_or_have_their_own() -> None:
    for config, tables in ((PKM, 1), (replace(PKM, shared_table=False), 3)):
        model = made_layers(config)
        distinct_tables = {id(memory(model, i).get_parameter("values.weight")) for i in range(3)}
        assert len(distinct_tables) == tables
    names = [f"layers.{i}.memory.{leaf}.weight" for i in range(3) for leaf in ("down", "up")]
    for peer, tables in ((PEER, 6), (replace(PEER, shared_table=True), 2)):
        experts = made_layers(peer)
        assert len({id(experts.get_parameter(name)) for name in names}) == tables


@torch.no_grad()
def test_heads_with_tables_of_their_own_read_rows_of_their_own() -> None:
    layer = memory(made_layers(CASES["peer_table_per_head"]), 0)
    retrieve: Any = layer.get_submodule("retrieve")
    x = noise(TOKENS, HIDDEN)
    within_a_head = torch.randint(25, (TOKENS, 6))
    for synthetic in (None, retrieve.of_heads(within_a_head)):
        retrieve.synthetic_choice = synthetic
        rows, _ = retrieve(layer.get_submodule("query")(x))
        assert torch.equal(retrieve.selected, rows)
        assert (rows // 25).tolist() == [[0, 0, 0, 1, 1, 1]] * TOKENS
    assert (retrieve.selected % 25).tolist() == within_a_head.tolist()
    assert layer.get_parameter("up.weight").shape == (2 * 25, HIDDEN)


@torch.no_grad()
def test_drawn_rows_of_heads_with_tables_of_their_own_are_counted_apart() -> None:
    model = made_layers(CASES["peer_table_per_head"])
    set_synthetic_routing(model, Popularity(exponent=1.0), tokens=TOKENS)
    model(torch.randint(11, (1, TOKENS)), model.new_cache(1, TOKENS))
    for path, histogram in histograms(model).items():
        leaf: Any = model.get_submodule(path)
        assert (leaf.selected // 25).tolist() == [[0, 0, 0, 1, 1, 1]] * TOKENS
        assert histogram["population"] == 2 * 25
        assert sum(items for _, items in histogram["counts"]) == 2 * 25


@pytest.mark.parametrize("case", ["memory_plus", "peer"])
@torch.no_grad()
def test_synthetic_rows_are_looked_up_in_place_of_the_retrieved(case: str) -> None:
    config = CASES[case]
    layer = memory(made_layers(config, torch.float64), 0)
    retrieve: Any = layer.get_submodule("retrieve")
    x = noise(TOKENS, HIDDEN, dtype=torch.float64)
    rows, weights = retrieve(layer.get_submodule("query")(x))
    assert torch.equal(retrieve.selected, rows)
    synthetic = torch.randint(25, (TOKENS + 3, 6), generator=torch.Generator().manual_seed(3))
    retrieve.synthetic_choice = synthetic
    got, same_weights = retrieve(layer.get_submodule("query")(x))
    assert torch.equal(got, synthetic[:TOKENS])
    assert torch.equal(retrieve.selected, synthetic[:TOKENS])
    assert torch.equal(same_weights, weights)
    moved = layer(x[None])
    retrieve.synthetic_choice = rows
    assert not torch.allclose(moved, layer(x[None]))
