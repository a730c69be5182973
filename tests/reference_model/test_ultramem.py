"""UltraMem and UltraMemV2 against the oracle: retrieval, ring windows, value expansion, scores."""

import numpy as np
import pytest
import torch
from torch import Tensor

from costmodel.layers.ultramem import UltraMem
from reference_model.model import ReferenceModel
from reference_model.ultramem import UltraMemLayer
from tests.reference_model import memory_oracles
from tests.reference_model.oracles import Array, Choice, under
from tests.reference_model.tiny import (
    array,
    arrays,
    assert_close,
    made,
    noise,
    ultramem_v2,
    with_gap,
)
from tests.steps import tiny_model

HIDDEN, TOKENS = 12, 7

CASES: dict[str, UltraMem] = {
    "v2": ultramem_v2(),
    "half_shared": ultramem_v2(share_ratio=0.5),
    "own_tables": ultramem_v2(share_ratio=None),
    "no_pre_values": ultramem_v2(pre_value_dim=None),
    "pre_values_of_another_width": ultramem_v2(pre_value_dim=6),
    "two_heads": ultramem_v2(num_heads=2),
    "three_heads_rank_3": ultramem_v2(num_heads=3, tucker_rank=3),
    "rank_1": ultramem_v2(tucker_rank=1),
    "one_core": ultramem_v2(tucker_cores=1),
    "four_cores": ultramem_v2(tucker_cores=4, value_dim=12),
    "query_per_rank": ultramem_v2(query_per_rank=True),
    "query_per_rank_two_heads_rank_3": ultramem_v2(query_per_rank=True, num_heads=2, tucker_rank=3),
    "query_of_the_only_rank": ultramem_v2(query_per_rank=True, tucker_rank=1),
    "expanded": ultramem_v2(value_expansion=2, value_expansion_outputs="per_group"),
    "expanded_by_9": ultramem_v2(
        value_expansion=3, knum=3, tucker_cores=4, knn=5, value_expansion_outputs="per_group"
    ),
    "expanded_shared": ultramem_v2(value_expansion=2),
    "expanded_shared_by_9": ultramem_v2(value_expansion=3, knum=3, tucker_cores=4, knn=5),
    "expanded_shared_query_per_rank": ultramem_v2(
        value_expansion=2,
        query_per_rank=True,
        num_heads=2,
        pre_value_dim=None,
        value_expansion_outputs="shared",
    ),
    "expanded_own_two_heads": ultramem_v2(
        value_expansion=2, share_ratio=None, pre_value_dim=None, num_heads=2
    ),
    "first_stage_capped": ultramem_v2(first_stage_topk=3, knn=6),
    "first_stage_wider_than_knn": ultramem_v2(first_stage_topk=5, knn=3),
    "first_stage_of_all_keys": ultramem_v2(first_stage_topk=1000, knn=6),
    "more_rows_than_keys": ultramem_v2(knn=20),
    "every_row": ultramem_v2(knum=2, share_ratio=None, knn=4),
    "one_row": ultramem_v2(knn=1),
}


def made_layers(config: UltraMem, dtype: torch.dtype) -> ReferenceModel:
    """Three layers, so that the windows of a shared table overlap and wrap."""
    return made(tiny_model(hidden_size=HIDDEN, memory=(config,)), dtype=dtype)


def layer_of(model: ReferenceModel, index: int) -> UltraMemLayer:
    layer = model.get_submodule(f"layers.{index}.memory")
    assert isinstance(layer, UltraMemLayer)
    return layer


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_layer_equals_the_oracle(
    case: str, dtype: torch.dtype, tolerance: float, index: int, *, folded: bool
) -> None:
    config = CASES[case]
    model = made_layers(config, dtype)
    state = under(arrays(model), f"layers.{index}.memory")
    if folded:
        model.fold()

    def truth(seed: int, choice: Choice) -> tuple[Tensor, list[Array]]:
        x = noise(1, TOKENS, HIDDEN, seed=seed, dtype=dtype)
        return x, [
            memory_oracles.ultramem(config, state, array(one), choice, index) for one in x[0]
        ]

    x, want = with_gap(truth)
    assert_close(layer_of(model, index)(x), np.array([want]), tolerance)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_rows_and_scores_are_those_of_the_oracle_in_order(case: str) -> None:
    config = CASES[case]
    model = made_layers(config, torch.float64)
    layer, state = layer_of(model, 1), under(arrays(model), "layers.1.memory")
    query = layer.query(noise(TOKENS, HIDDEN, seed=4, dtype=torch.float64))
    rows, scores = layer.retrieve(query)
    for token in range(TOKENS):
        by_head = memory_oracles.ultramem_retrieve(config, state, array(query[token]), Choice())
        flat = [one for head in by_head for one in head]
        assert rows[token].tolist() == [one.row for one in flat]
        assert_close(scores[token], np.array([one.scores for one in flat]), 1e-12)
        for head in rows[token].view(config.num_heads, -1):
            assert len(set(head.tolist())) == config.knn, "a head chose a row twice"


@torch.no_grad()
def test_windows_start_where_their_layer_does_and_wrap() -> None:
    model = made_layers(ultramem_v2(), torch.float32)  # 48 rows, windows of 6^2
    for index, start in enumerate((0, 16, 32)):
        view = layer_of(model, index).values.view
        assert view.rows(torch.arange(36)).tolist() == [(start + i) % 48 for i in range(36)]


def test_layers_share_their_tables_or_have_their_own() -> None:
    for ratio, tables in ((1.0, 1), (0.5, 1), (None, 3)):
        model = made_layers(ultramem_v2(share_ratio=ratio), torch.float32)
        names = [
            f"layers.{i}.memory.{t}.weight" for i in range(3) for t in ("values", "pre_values")
        ]
        distinct_tables = {id(model.get_parameter(name)) for name in names}
        assert len(distinct_tables) == 2 * tables


@torch.no_grad()
def test_a_row_that_two_layers_reach_is_the_same_row() -> None:
    model = made_layers(ultramem_v2(pre_value_dim=None), torch.float64)
    x = noise(1, TOKENS, HIDDEN, seed=3, dtype=torch.float64)
    before = [layer_of(model, index)(x) for index in range(3)]
    model.get_parameter("layers.0.memory.values.weight").zero_()
    for index in range(3):
        assert float(before[index].abs().max()) > 0
        assert float(layer_of(model, index)(x).abs().max()) == 0


@pytest.mark.parametrize("ranks", [1, 2, 3])
@torch.no_grad()
def test_u_and_v_are_the_best_rank_1_approximation_with_the_sum_of_u_not_negative(
    ranks: int,
) -> None:
    model = made_layers(ultramem_v2(num_heads=2, tucker_rank=ranks), torch.float32)
    retrieve = layer_of(model, 0).retrieve
    for seed in range(8):
        cores = noise(2, 2, ranks, ranks, seed=seed)
        retrieve.set_cores(cores)
        for head in range(2):
            u, v = array(retrieve.u[head]), array(retrieve.v[head])
            core = array(cores[:, head].double().sum(0))
            assert u.sum() >= 0
            assert abs(u @ u - 1) < 1e-6
            assert abs(v @ v - 1) < 1e-6
            sizes = np.linalg.eigvalsh(core.T @ core)  # an eigenvalue problem, not our SVD
            assert abs(u @ core @ v - sizes[-1] ** 0.5) < 1e-6


@torch.no_grad()
def test_u_and_v_follow_the_cores_as_they_are_stored() -> None:
    """In bf16 the cores are rounded; u and v are those of the rounded ones, in float32."""
    model = made_layers(ultramem_v2(), torch.bfloat16)
    retrieve = layer_of(model, 0).retrieve
    assert retrieve.u.dtype == torch.float32
    u = retrieve.u.clone()
    retrieve.set_cores(retrieve.cores.float())
    assert torch.equal(retrieve.u, u)


@torch.no_grad()
def test_with_u_and_v_at_zero_every_first_stage_score_ties() -> None:
    """What a model looks like whose buffers were lost: it reads rows, but not the best ones."""
    model = made_layers(ultramem_v2(), torch.float32)
    retrieve = layer_of(model, 0).retrieve
    query = layer_of(model, 0).query(noise(TOKENS, HIDDEN))
    best = retrieve(query)[1].sum((1, 2))
    retrieve.u.zero_()
    retrieve.v.zero_()
    assert (retrieve(query)[1].sum((1, 2)) < best).any()


def test_each_permutation_is_one_and_differs_by_layer() -> None:
    model = made_layers(ultramem_v2(value_expansion=2), torch.float32)
    orders = [layer_of(model, index).retrieve.permutation for index in range(3)]
    for order in orders:
        assert order.dtype == torch.int64
        assert order.sort().values.tolist() == list(range(36 * 4))
    assert not torch.equal(orders[0], orders[1])


@torch.no_grad()
def test_a_shared_output_is_the_sum_of_group_outputs_that_are_alike() -> None:
    """UltraMem with the same output projection for each group of values is UltraMemV2."""
    own = made_layers(CASES["expanded"], torch.float64)
    shared = made_layers(CASES["expanded_shared"], torch.float64)
    states = [layer_of(model, 1).state_dict() for model in (own, shared)]
    assert states[0]["output.weight"].shape == (HIDDEN, 4 * 8)
    assert states[1]["output.weight"].shape == (HIDDEN, 8)
    layer_of(shared, 1).load_state_dict(
        states[0] | {"output.weight": states[1]["output.weight"]}, strict=True
    )
    layer_of(own, 1).output.weight.copy_(states[1]["output.weight"].repeat(1, 4))
    x = noise(1, TOKENS, HIDDEN, dtype=torch.float64)
    assert_close(layer_of(shared, 1)(x), layer_of(own, 1)(x), 1e-12)


@torch.no_grad()
def test_equal_queries_of_the_ranks_select_as_one_query() -> None:
    one = made_layers(CASES["two_heads"], torch.float64)
    each = made_layers(ultramem_v2(num_heads=2, query_per_rank=True), torch.float64)
    state = layer_of(one, 1).state_dict()
    sides = state["query.weight"].unflatten(0, (2, 1, 8))
    layer_of(each, 1).load_state_dict(
        state | {"query.weight": sides.expand(-1, 2, -1, -1).flatten(0, 2)}, strict=True
    )
    x = noise(1, TOKENS, HIDDEN, dtype=torch.float64)
    assert_close(layer_of(each, 1)(x), layer_of(one, 1)(x), 1e-12)


@pytest.mark.parametrize(("expansion", "outputs"), [(1, "shared"), (2, "shared"), (2, "per_group")])
@torch.no_grad()
def test_synthetic_table_rows_are_looked_up_in_place_of_the_retrieved(
    expansion: int, outputs: str
) -> None:
    """Each keeps the scores, and when values are expanded the output group, of what it replaces."""
    config = ultramem_v2(num_heads=2, value_expansion=expansion, value_expansion_outputs=outputs)
    model = made_layers(config, torch.float64)
    layer, state = layer_of(model, 2), under(arrays(model), "layers.2.memory")
    x = noise(TOKENS, HIDDEN, dtype=torch.float64)
    retrieved, scores = layer.retrieve(layer.query(x))
    assert layer.retrieve.selected is not None
    assert layer.retrieve.selected.tolist() == (retrieved // expansion**2).tolist()
    synthetic = torch.randint(36, (TOKENS + 2, 8), generator=torch.Generator().manual_seed(5))
    layer.retrieve.synthetic_choice = synthetic
    got = layer(x[None])[0]
    assert torch.equal(layer.retrieve.selected, synthetic[:TOKENS])
    for token in range(TOKENS):
        replaced = [
            memory_oracles.Retrieved(
                row=int(synthetic[token, read]) * expansion**2 + old % expansion**2,
                grid=-1,
                scores=tuple(scores[token, read].tolist()),
            )
            for read, old in enumerate(retrieved[token].tolist())
        ]
        mixed = memory_oracles.ultramem_mixed(config, state, array(x[token]), [replaced], 2)
        assert_close(got[token], state["output.weight"] @ mixed, 1e-12)
