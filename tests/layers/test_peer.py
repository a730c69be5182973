"""PEER: experts of one neuron; every part by hand."""

import itertools
from typing import Any

import pytest

from costmodel.costs.totals import distinct, stored_weights
from costmodel.layers.operator import Operator
from costmodel.layers.peer import Peer
from costmodel.layers.site import Site
from tests.steps import flops, make_step, one_layer, quantity, total, weights

# n = 5 keys, 25 experts, H = 2, m = 3, Dk = 4, D = 8
SIZES: dict[str, Any] = {"layers": "0", "num_keys": 5, "num_heads": 2, "knn": 3, "key_dim": 4}


def layer(tokens: int = 3, dtype: str = "bf16", **fields: Any) -> dict[str, Operator]:  # noqa: ANN401
    found = one_layer(Peer(**(SIZES | fields)), make_step(batch=tokens, dtype=dtype), hidden_size=8)
    return {leaf.removeprefix("memory."): op for leaf, op in found.items()}


def test_every_part_by_hand() -> None:
    ops = layer()
    assert list(ops) == ["query", "retrieve", "down", "up"]
    assert {leaf: flops(op) for leaf, op in ops.items()} == {
        "query": {
            "query": ("matmul", 3 * 2 * 8 * 16),
            "query_norm": ("norm", 3 * 4 * 16),
        },
        "retrieve": {
            "scores": ("matmul", 3 * 2 * 2 * 2 * 5 * 4),
            "grid": ("selection", 3 * 2 * 9),
            "softmax": ("selection", 3 * 4 * 6),
        },
        "down": {
            "dots": ("gather", 3 * 2 * 6 * 8),
            "activation": ("elementwise", 3 * 6 * (9 + 1)),  # GELU, times the router's weight
        },
        "up": {"weighted_sum": ("gather", 3 * 2 * 6 * 8)},
    }
    assert [op.kind for op in ops.values()] == ["matmul", "selection", "gather", "gather"]


def test_the_experts_by_counting_multiply_adds() -> None:
    down = up = 0
    for _token, _head, _choice in itertools.product(range(3), range(2), range(3)):
        for _element in range(8):
            down += 1  # the neuron's input weights
            up += 1  # ... and its output weights
    ops = layer()
    assert flops(ops["down"])["dots"] == ("gather", 2 * down)
    assert flops(ops["up"])["weighted_sum"] == ("gather", 2 * up)


def test_parameters_by_hand() -> None:
    ops = layer()
    assert {leaf: weights(op) for leaf, op in ops.items()} == {
        "query": {"weight": ("memory_projections", 16, 8), "norm": ("norm", 4, 1)},
        "retrieve": {"keys": ("memory_keys", 2 * 5, 4)},  # shared by the heads
        "down": {"weight": ("memory_values", 25, 8)},
        "up": {"weight": ("memory_values", 25, 8)},
    }
    active = sum(w.active_parameters for op in ops.values() for w in op.weights)
    assert active == 16 * 8 + 4 + 10 * 4 + 2 * 6 * 8


def test_own_keys_for_each_head_cost_parameters_not_flops() -> None:
    shared, own = layer(), layer(shared_keys=False)
    assert weights(own["retrieve"]) == {"keys": ("memory_keys", 2 * 2 * 5, 4)}
    assert flops(own["retrieve"]) == flops(shared["retrieve"])
    assert quantity(shared["retrieve"], "weight_bytes") == {"scores": 10 * 4 * 2}
    assert quantity(own["retrieve"], "weight_bytes") == {"scores": 20 * 4 * 2}


def test_without_query_norm() -> None:
    query = layer(query_norm=False)["query"]
    assert flops(query) == {"query": ("matmul", 3 * 2 * 8 * 16)}
    assert weights(query) == {"weight": ("memory_projections", 16, 8)}
    # the query leaves the operator as it is
    assert query.total("activation_bytes") == 3 * (8 + 16) * 2
    assert query.total("intermediate_bytes") == 0


@pytest.mark.parametrize(("dtype", "row"), [("bf16", 16), ("fp8", 12), ("int8", 10), ("int4", 7)])
def test_a_choice_reads_a_row_of_each_table(dtype: str, row: int) -> None:
    # 4 experts, 1 token of 2 heads with 2 each: 6 x 6 outcomes
    pairs = list(itertools.combinations(range(4), 2))
    mean = sum(len({*a, *b}) for a, b in itertools.product(pairs, pairs)) / 36
    assert mean == pytest.approx(3.0)
    ops = layer(1, dtype, num_keys=2, knn=2)
    assert ops["down"].total("row_bytes") == pytest.approx(3 * row, rel=1e-12)
    assert ops["up"].total("row_bytes") == pytest.approx(3 * row, rel=1e-12)
    assert total(ops.values(), "index_bytes") == 0


def test_layers_have_tables_of_their_own() -> None:
    kind = Peer(**(SIZES | {"layers": "0-1"}))
    ops = kind.operators(Site.of((0, 1), 8), make_step(batch=2))
    found = distinct(ops)
    assert found.rows == pytest.approx(25 * (1 - (22 / 25) ** 4), rel=1e-12)  # counted once
    assert found.rows_union is None
    assert not any(w.shared for op in ops for w in op.weights)


def test_layers_of_one_pair_of_tables_store_it_once_and_touch_it_together() -> None:
    kind = Peer(**(SIZES | {"layers": "0-2", "shared_table": True}))
    ops = kind.operators(Site.of((0, 1, 2), 8), make_step(batch=2))
    tables = [(w.rows, n) for w, n in stored_weights(ops) if w.group == "memory_values"]
    assert tables == [(25, 1), (25, 1)]  # down and up
    found = distinct(ops)
    assert found.rows == pytest.approx(25 * (1 - (22 / 25) ** 4), rel=1e-12)
    assert found.rows_union == pytest.approx(25 * (1 - (22 / 25) ** 12), rel=1e-12)


def test_heads_with_experts_of_their_own_by_hand() -> None:
    common, own = layer(), layer(table_per_head=True)
    assert weights(own["down"]) == weights(own["up"]) == {"weight": ("memory_values", 50, 8)}
    assert [flops(op) for op in own.values()] == [flops(op) for op in common.values()]
    active = [w.active_parameters for op in (own["down"], own["up"]) for w in op.weights]
    assert active == [6 * 8, 6 * 8]
    # two heads, each with 25 rows of which 3 tokens draw 3
    assert own["up"].touched is not None
    rows = 2 * 25 * (1 - (22 / 25) ** 3)
    assert own["up"].touched.distinct == pytest.approx(rows, rel=1e-12)
    assert own["up"].touched.population == 50
    assert own["down"].total("row_bytes") == pytest.approx(rows * 16, rel=1e-12)


def test_rows_of_own_tables_by_enumerating_all_choices() -> None:
    # 4 experts a head, 2 tokens of 2 heads with 2 each: heads never meet
    pairs = list(itertools.combinations(range(4), 2))
    mean = 2 * sum(len({*a, *b}) for a, b in itertools.product(pairs, pairs)) / 36
    up = layer(2, num_keys=2, knn=2, table_per_head=True)["up"]
    assert up.total("row_bytes") == pytest.approx(mean * 16, rel=1e-12)


def test_activations_between_operators_by_hand() -> None:
    ops = layer()
    assert ops["down"].total("activation_bytes") == (
        3 * 8 * 2 + 3 * 6 * 8 + 2 * 3 * 6 * 2  # tokens, indices and weights in; products out
    )
    assert ops["up"].total("activation_bytes") == 3 * 6 * (8 + 2) + 3 * 8 * 2
    # gathered rows and their dots, each written and read
    assert ops["down"].total("intermediate_bytes") == 2 * 3 * 6 * (8 + 1) * 2
