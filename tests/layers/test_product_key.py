"""PKM and Memory+: every part by hand, scores by counting, rows by enumeration."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.costs.totals import distinct, stored_weights
from costmodel.errors import InputError
from costmodel.layers.operator import Operator
from costmodel.layers.product_key import ProductKey
from costmodel.layers.site import Site
from tests.steps import flops, make_step, one_layer, parts, quantity, weights

# n = 5 keys, 25 rows, H = 2, m = 3, Dk = 4, Dv = D = 8
SIZES: dict[str, Any] = {
    "layers": "0", "num_keys": 5, "num_heads": 2, "knn": 3, "key_dim": 4, "value_dim": 8,
}  # fmt: skip
PLUS: dict[str, Any] = {"gate": True, "output_projection": True}


def layer(tokens: int = 3, dtype: str = "bf16", **fields: Any) -> dict[str, Operator]:  # noqa: ANN401
    found = one_layer(
        ProductKey(**(SIZES | fields)), make_step(batch=tokens, dtype=dtype), hidden_size=8
    )
    return {leaf.removeprefix("memory."): op for leaf, op in found.items()}


def test_every_part_of_memory_plus_by_hand() -> None:
    ops = layer(**PLUS)
    assert list(ops) == ["query", "retrieve", "values", "gate", "output"]
    assert {leaf: flops(op) for leaf, op in ops.items()} == {
        "query": {
            "query": ("matmul", 3 * 2 * 8 * 16),  # to H 2 Dk
            "query_norm": ("norm", 3 * 4 * 16),
        },
        "retrieve": {
            "scores": ("matmul", 3 * 2 * 2 * 2 * 5 * 4),  # heads, sides, keys, Dk
            "grid": ("selection", 3 * 2 * 9),  # a sum a pair, no Tucker core
            "softmax": ("selection", 3 * 4 * 6),
        },
        "values": {"weighted_sum": ("gather", 3 * 2 * 6 * 8)},
        "gate": {
            "gemm": ("matmul", 3 * 2 * 8 * 8),
            "activation": ("elementwise", 3 * 4 * 8),
            "product": ("elementwise", 3 * 8),
        },
        "output": {"gemm": ("matmul", 3 * 2 * 8 * 8)},
    }
    assert quantity(ops["retrieve"], "compares") == {
        "first_top_m": 3 * 2 * 2 * 5,
        "second_top_m": 3 * 2 * 9,
    }
    assert [op.kind for op in ops.values()] == ["matmul", "selection", "gather", "matmul", "matmul"]
    routing = {p.name for op in ops.values() for p in op.parts if p.routing}
    assert routing == {
        "query", "query_norm", "scores", "first_top_m", "grid", "second_top_m", "softmax",
    }  # fmt: skip


def test_parameters_by_hand() -> None:
    ops = layer(**PLUS)
    assert {leaf: weights(op) for leaf, op in ops.items()} == {
        "query": {"weight": ("memory_projections", 16, 8), "norm": ("norm", 4, 1)},
        "retrieve": {"keys": ("memory_keys", 2 * 2 * 5, 4), "key_norm": ("norm", 4, 1)},
        "values": {"weight": ("memory_values", 25, 8)},
        "gate": {"weight": ("memory_projections", 8, 8)},
        "output": {"weight": ("memory_projections", 8, 8)},
    }
    assert ops["values"].weights[0].active_parameters == 6 * 8
    assert not any(op.buffers for op in ops.values())  # no permutation, no u and v
    assert {leaf: op.total("weight_bytes") for leaf, op in layer(dtype="int8", **PLUS).items()} == {
        "query": 16 * (8 + 2) + 8,
        "retrieve": 20 * (4 + 2),  # the norm of the keys is folded into them
        "values": 0,  # rows are `row_bytes`
        "gate": 8 * (8 + 2),
        "output": 8 * (8 + 2),
    }


def test_biases_of_the_projections_by_hand() -> None:
    """Of the query, the gate and the output projection, as Memory+'s code has them."""
    plain, biased = layer(**PLUS), layer(projection_bias=True, **PLUS)
    rows = {"query": 16, "gate": 8, "output": 8}
    for leaf, op in biased.items():
        more = {"bias": ("memory_projections", rows[leaf], 1)} if leaf in rows else {}
        assert weights(op) == weights(plain[leaf]) | more
        adds = {"bias": ("elementwise", 3 * rows[leaf])} if leaf in rows else {}
        assert flops(op) == flops(plain[leaf]) | adds
        read = op.total("weight_bytes") - plain[leaf].total("weight_bytes")
        assert read == 2 * rows.get(leaf, 0)
    assert parts(biased["query"])["bias"].routing
    pkm = layer(projection_bias=True, qk_norm=False)
    assert weights(pkm["query"])["bias"] == ("memory_projections", 16, 1)


def test_pkm_ends_with_its_values() -> None:
    ops = layer(qk_norm=False)
    assert list(ops) == ["query", "retrieve", "values"]
    assert flops(ops["query"]) == {"query": ("matmul", 3 * 2 * 8 * 16)}
    assert weights(ops["query"]) == {"weight": ("memory_projections", 16, 8)}
    assert weights(ops["retrieve"]) == {"keys": ("memory_keys", 20, 4)}


@settings(max_examples=40)
@given(n=st.integers(2, 6), h=st.integers(1, 3), m=st.integers(1, 4), dk=st.integers(4, 7))
def test_scores_and_sums_by_counting(n: int, h: int, m: int, dk: int) -> None:
    score = sums = looked_at = 0
    for _head in range(h):
        best = []
        for _side in range(2):
            for _key in range(n):
                score += dk
                looked_at += 1
            best.append(range(n)[:m])
        for _row, _column in itertools.product(*best):
            sums += 1
            looked_at += 1
    kind = ProductKey(layers="0", num_keys=n, num_heads=h, knn=m, key_dim=dk, value_dim=8)
    retrieve = one_layer(kind, make_step(), hidden_size=8)["memory.retrieve"]
    assert parts(retrieve)["scores"].flops == 2 * score
    assert parts(retrieve)["grid"].flops == sums
    assert parts(retrieve)["softmax"].flops == 4 * h * m
    assert retrieve.total("compares") == looked_at


@pytest.mark.parametrize(("tokens", "heads"), [(1, 1), (1, 2), (3, 1), (2, 2)])
def test_rows_touched_by_enumerating_all_choices(tokens: int, heads: int) -> None:
    # 4 rows, each token and head one of 6 pairs of them
    pairs = list(itertools.combinations(range(4), 2))
    outcomes = list(itertools.product(pairs, repeat=tokens * heads))
    mean = sum(len(set().union(*each)) for each in outcomes) / len(outcomes)
    values = layer(tokens, num_keys=2, num_heads=heads, knn=2)["values"]
    assert values.touched is not None
    assert values.touched.distinct == pytest.approx(mean, rel=1e-12)
    assert values.total("row_bytes") == pytest.approx(mean * 8 * 2, rel=1e-12)


def test_activations_between_operators_by_hand() -> None:
    ops = layer(**PLUS)
    assert {leaf: op.total("activation_bytes") for leaf, op in ops.items()} == {
        "query": 3 * (8 + 16) * 2,
        "retrieve": 3 * 16 * 2 + 3 * 6 * (8 + 2),  # queries in; 6 indices and weights out
        "values": 3 * 6 * (8 + 2) + 3 * 8 * 2,
        "gate": 3 * (8 + 8 + 8) * 2,  # tokens and values in, their product out
        "output": 3 * (8 + 8) * 2,
    }
    # the gate's projection, and its silu: each written and read
    assert ops["gate"].total("intermediate_bytes") == 2 * 3 * (8 + 8) * 2
    assert ops["query"].total("intermediate_bytes") == 2 * 3 * 16 * 2
    # scores, both top-m lists (written), the grid's inputs (read), sums, choices; H = 3
    between = 2 * 2 * 5 * 2 + 2 * 3 * (2 + 8) + 2 * 3 * 2 + 2 * 9 * 2 + 2 * 3 * (8 + 2)
    assert layer(num_heads=3)["retrieve"].total("intermediate_bytes") == 3 * 3 * between


def test_layers_of_one_table_store_it_once_and_touch_it_together() -> None:
    kind = ProductKey(**(SIZES | {"layers": "0-2"}))
    own = ProductKey(**(SIZES | {"layers": "0-2", "shared_table": False}))
    site, step = Site.of((0, 1, 2), 8), make_step(batch=2)
    each = 25 * (1 - (22 / 25) ** 4)  # 2 tokens of 2 heads, 3 rows of 25
    for layers, copies, union in ((kind, 1, 25 * (1 - (22 / 25) ** 12)), (own, 3, None)):
        ops = layers.operators(site, step)
        stored = sum(w.rows * n for w, n in stored_weights(ops) if w.group == "memory_values")
        assert stored == copies * 25
        found = distinct(ops)
        assert found.rows == pytest.approx(each, rel=1e-12)
        if union is None:
            assert found.rows_union is None
        else:  # every layer reaches every row: 12 draws of 3
            assert found.rows_union == pytest.approx(union, rel=1e-12)


def test_values_must_have_the_width_of_the_stream_unless_projected() -> None:
    kind = ProductKey(**(SIZES | {"value_dim": 12}))
    with pytest.raises(InputError) as caught:
        kind.check(1, 8)
    assert "memory.value_dim=12: differs from hidden_size=8" in str(caught.value)
    ops = layer(value_dim=12, output_projection=True, gate=True)
    assert weights(ops["gate"]) == {"weight": ("memory_projections", 12, 8)}
    assert weights(ops["output"]) == {"weight": ("memory_projections", 8, 12)}
    assert flops(ops["gate"])["product"] == ("elementwise", 3 * 12)
