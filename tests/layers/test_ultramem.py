"""UltraMem and UltraMemV2: each step by hand, against an independent table, rows by enumeration."""

import itertools
from fractions import Fraction
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.layers.operator import Operator
from costmodel.layers.site import Site
from costmodel.layers.ultramem import Outputs, UltraMem
from tests.steps import flops, make_step, one_layer, parts, quantity, total, weights

# n = knum = 5 keys, R = 25 rows, m = 3, Dk = 4, Dv = 6, Dp = 7, H = 2; D = 8
SIZES: dict[str, Any] = {
    "layers": "0", "knum": 5, "knn": 3, "key_dim": 4, "value_dim": 6, "pre_value_dim": 7,
    "num_heads": 2,
}  # fmt: skip


def layer(tokens: int = 3, dtype: str = "bf16", **fields: Any) -> dict[str, Operator]:  # noqa: ANN401
    found = one_layer(
        UltraMem(**(SIZES | fields)), make_step(batch=tokens, dtype=dtype), hidden_size=8
    )
    return {leaf.removeprefix("memory."): op for leaf, op in found.items()}


def flops_of_the_papers(  # noqa: PLR0917
    D: int, n: int, m: int, f: int, dk: int, dv: int, dp: int, h: int, r: int, c: int, q: int,
    groups: int,
) -> dict[str, int]:  # fmt: skip
    """FLOPs per token by step, from the papers' formulas; `groups` have outputs of their own."""
    return {
        "query": 2 * D * q * 2 * dk,
        "query_norm": 4 * q * 2 * dk,  # RMSNorm of both halves
        "scores": 2 * r * h * 2 * n * dk,
        "merge": 4 * r * h * n,
        "grid": c * h * (2 * f * r**2 + 2 * f**2 * r),
        "grid_sum": c * h * f**2,
        "pre_projection": 2 * D * dp,
        "dots": 2 * h * m * dp,
        "weights": c * h * m,
        "weighted_sum": 2 * h * m * dv,
        "output": 2 * D * groups * dv,
    }


@settings(max_examples=60)
@given(
    D=st.integers(4, 40), knum=st.integers(2, 9), m=st.integers(1, 4), dk=st.integers(4, 12),
    slices=st.integers(1, 6), dp=st.integers(4, 12), h=st.integers(1, 3), r=st.integers(1, 4),
    c=st.integers(1, 3), t=st.integers(1, 3), tokens=st.integers(1, 50), capped=st.booleans(),
    per_rank=st.booleans(), outputs=st.sampled_from(get_args(Outputs)),
)  # fmt: skip
def test_every_step_equals_the_table(
    *, D: int, knum: int, m: int, dk: int, slices: int, dp: int, h: int, r: int, c: int, t: int,
    tokens: int, capped: bool, per_rank: bool, outputs: Outputs,
) -> None:  # fmt: skip
    cap = 2 if capped else None  # a grid of 4 still gives 4 rows
    dv = slices * c * 4
    kind = UltraMem(
        knum=knum, knn=m, key_dim=dk, value_dim=dv, pre_value_dim=dp, num_heads=h,
        tucker_rank=r, tucker_cores=c, value_expansion=t, first_stage_topk=cap,
        query_per_rank=per_rank, value_expansion_outputs=outputs,
    )  # fmt: skip
    ops = one_layer(kind, make_step(batch=tokens), hidden_size=D)
    found = {
        "output" if leaf == "memory.output" else
        "pre_projection" if leaf == "memory.pre_projection" else name: part
        for leaf, op in ops.items() for name, part in parts(op).items()
    }  # fmt: skip
    n = knum * t
    f = min(m if cap is None else cap, n)
    q, groups = r if per_rank else 1, t**2 if outputs == "per_group" else 1
    expected = flops_of_the_papers(D, n, m, f, dk, dv, dp, h, r, c, q, groups)
    assert {name: part.flops for name, part in found.items() if part.flops} == {
        name: tokens * count for name, count in expected.items()
    }
    assert {name: part.compares for name, part in found.items() if part.compares} == {
        "first_top_m": tokens * 2 * h * n,
        "second_top_m": tokens * h * f**2,
    }
    dense = 2 * D * dk * q + 2 * h * n * dk * r + groups * D * dv + D * dp + 2 * dk + c * h * r**2
    rows = knum**2 * (dv + dp)
    parameters = sum(w.parameters for op in ops.values() for w in op.weights)
    assert parameters == dense + rows
    active = sum(w.active_parameters for op in ops.values() for w in op.weights)
    assert active == dense + h * m * (dv + dp)


def test_scores_and_grid_by_counting_multiply_adds() -> None:
    """The loops of one token: n = 5, H = 2, r = 2, c = 2, Dk = 4, f = m = 3."""
    scores = merge = grid = grid_sum = 0
    for _head in range(2):
        for _side, _key, _rank in itertools.product(range(2), range(5), range(2)):
            scores += 4  # a dot of Dk
            merge += 1  # times u or v, into the merged score
        for _core in range(2):
            for _row, _out, _rank in itertools.product(range(3), range(2), range(2)):
                grid += 1  # rows times core
            for _row, _column, _rank in itertools.product(range(3), range(3), range(2)):
                grid += 1  # ... times columns
            grid_sum += 3 * 3  # one add an element and core
    ops = layer(1)
    assert flops(ops["retrieve"]) == {
        "scores": ("matmul", 2 * scores),
        "merge": ("selection", 2 * merge),
        "grid": ("matmul", 2 * grid),
        "grid_sum": ("selection", grid_sum),
    }


def test_the_rest_by_hand() -> None:
    ops = layer()
    assert list(ops) == ["query", "retrieve", "pre_projection", "pre_values", "values", "output"]
    kinds = ["matmul", "selection", "matmul", "gather", "gather", "matmul"]
    assert [op.kind for op in ops.values()] == kinds
    assert flops(ops["query"]) == {
        "query": ("matmul", 3 * 2 * 8 * 8),
        "query_norm": ("norm", 3 * 4 * 8),
    }
    assert flops(ops["pre_projection"]) == {"gemm": ("matmul", 3 * 2 * 8 * 7)}
    assert flops(ops["pre_values"]) == {
        "dots": ("gather", 3 * 2 * 6 * 7),  # 6 = H m rows
        "weights": ("selection", 3 * 2 * 6),
    }
    assert flops(ops["values"]) == {"weighted_sum": ("gather", 3 * 2 * 6 * 6)}
    assert flops(ops["output"]) == {"gemm": ("matmul", 3 * 2 * 6 * 8)}
    routing = {p.name for op in ops.values() for p in op.parts if p.routing}
    assert routing == {
        "query", "query_norm", "scores", "merge", "first_top_m", "grid", "grid_sum",
        "second_top_m", "permutation", "weights",
    }  # fmt: skip


def test_parameters_and_buffers_by_hand() -> None:
    ops = layer()
    assert {leaf: weights(op) for leaf, op in ops.items()} == {
        "query": {"weight": ("memory_projections", 8, 8), "norm": ("norm", 4, 1)},
        "retrieve": {
            "keys": ("memory_keys", 2 * 2 * 5 * 2, 4),  # sides, heads, keys, ranks
            "cores": ("memory_keys", 2 * 2 * 4, 1),
            "key_norm": ("norm", 4, 1),
        },
        "pre_projection": {"weight": ("memory_projections", 7, 8)},
        "pre_values": {"weight": ("memory_values", 25, 7)},
        "values": {"weight": ("memory_values", 25, 6)},
        "output": {"weight": ("memory_projections", 8, 6)},
    }
    retrieve = layer(num_heads=3)["retrieve"]
    buffers = {b.name: b.elements * b.element_bytes for b in retrieve.buffers}
    assert buffers == {"permutation": 8 * 25, "u": 3 * 2 * 4, "v": 3 * 2 * 4}  # H r in fp32


def test_static_weights_are_read_once_and_the_folded_norm_never() -> None:
    ops = layer(dtype="int8")
    read = {leaf: quantity(op, "weight_bytes") for leaf, op in ops.items()}
    assert read == {
        "query": {"query": 8 * (8 + 2), "query_norm": 4 * 2},
        "retrieve": {"scores": 40 * (4 + 2), "grid": 16 * 2},  # keys, cores; key_norm is folded
        "pre_projection": {"gemm": 7 * (8 + 2)},
        "pre_values": {},
        "values": {},
        "output": {"gemm": 8 * (6 + 2)},
    }


def mean_distinct(rows: int, chosen: int, draws: int) -> Fraction:
    choices = list(itertools.combinations(range(rows), chosen))
    total = sum(len(set().union(*each)) for each in itertools.product(choices, repeat=draws))
    return Fraction(total, len(choices) ** draws)


@pytest.mark.parametrize(("m", "heads", "tokens"), [(1, 1, 3), (2, 1, 2), (2, 2, 1), (3, 2, 2)])
def test_rows_touched_by_enumerating_all_choices(m: int, heads: int, tokens: int) -> None:
    rows = float(mean_distinct(4, m, heads * tokens))
    ops = layer(tokens, knum=2, knn=m, num_heads=heads)
    assert ops["values"].touched is not None
    assert ops["values"].touched.distinct == pytest.approx(rows, rel=1e-12)
    assert ops["pre_values"].total("row_bytes") == pytest.approx(rows * 14, rel=1e-12)
    assert ops["values"].total("row_bytes") == pytest.approx(rows * 12, rel=1e-12)
    assert ops["retrieve"].total("index_bytes") == pytest.approx(rows * 8, rel=1e-12)
    assert total(ops.values(), "row_bytes") == pytest.approx(rows * 26, rel=1e-12)


def test_the_first_version_has_no_pre_values_and_expands_its_values() -> None:
    ops = layer(pre_value_dim=None, value_expansion=2)
    assert list(ops) == ["query", "retrieve", "values", "output"]
    assert weights(ops["retrieve"])["keys"] == ("memory_keys", 2 * 2 * 10 * 2, 4)  # t n keys
    assert ops["retrieve"].buffers[0].elements == 100  # t^2 virtual rows for each of 25
    assert weights(ops["values"]) == {"weight": ("memory_values", 25, 6)}
    assert weights(ops["output"]) == {"weight": ("memory_projections", 8, 4 * 6)}
    assert flops(ops["values"]) == {"weighted_sum": ("gather", 3 * 2 * 6 * 6)}  # each row once
    assert flops(ops["output"]) == {"gemm": ("matmul", 3 * 2 * 24 * 8)}
    # indices and 2 core scores of 6 rows in, 4 groups of 6 out
    assert ops["values"].total("activation_bytes") == 3 * (6 * (8 + 2 * 2) + 24 * 2)
    assert quantity(ops["retrieve"], "compares") == {
        "first_top_m": 3 * 2 * 2 * 10,
        "second_top_m": 3 * 2 * 9,
    }


def test_the_second_version_sums_its_groups_and_projects_once() -> None:
    """As t = 2 keys a row and side, but one output projection: arXiv 2508.18756, equation 12."""
    ops = layer(value_expansion=2)
    assert weights(ops["retrieve"])["keys"] == ("memory_keys", 2 * 2 * 10 * 2, 4)  # t n keys
    assert ops["retrieve"].buffers[0].elements == 100  # t^2 virtual rows for each of 25
    assert weights(ops["output"]) == {"weight": ("memory_projections", 8, 6)}
    assert flops(ops["values"]) == {"weighted_sum": ("gather", 3 * 2 * 6 * 6)}
    assert flops(ops["output"]) == {"gemm": ("matmul", 3 * 2 * 6 * 8)}
    # indices and 2 core scores of 6 rows in, one sum of 6 out
    assert ops["values"].total("activation_bytes") == 3 * (6 * (8 + 2 * 2) + 6 * 2)


@pytest.mark.parametrize(
    ("pre_value_dim", "stated", "form"),
    [
        (7, None, "shared"),
        (None, None, "per_group"),
        (7, "per_group", "per_group"),
        (None, "shared", "shared"),
    ],
)
def test_an_unstated_form_of_value_expansion_is_that_of_the_version(
    pre_value_dim: int | None, stated: Outputs | None, form: str
) -> None:
    kind = UltraMem(**SIZES | {"pre_value_dim": pre_value_dim, "value_expansion_outputs": stated})
    assert kind.value_expansion_outputs == form


def test_each_rank_has_a_query_of_its_own_by_hand() -> None:
    one, each = layer(), layer(query_per_rank=True)
    assert weights(each["query"]) == {
        "weight": ("memory_projections", 2 * 8, 8),  # r = 2 queries of 2 Dk = 8
        "norm": ("norm", 4, 1),
    }
    assert flops(each["query"]) == {
        "query": ("matmul", 3 * 2 * 8 * 16),
        "query_norm": ("norm", 3 * 4 * 16),
    }
    assert flops(each["retrieve"]) == flops(one["retrieve"])  # each key meets one query
    more = each["retrieve"].total("input_bytes") - one["retrieve"].total("input_bytes")
    assert more == 3 * 8 * 2
    assert layer(query_per_rank=True, tucker_rank=1) == layer(tucker_rank=1)


def test_the_first_stage_keeps_at_most_its_cap_and_the_keys() -> None:
    for cap, kept in ((None, 3), (2, 2), (4, 4), (9, 5)):
        retrieve = layer(first_stage_topk=cap)["retrieve"]
        assert parts(retrieve)["second_top_m"].compares == 3 * 2 * kept**2
        assert parts(retrieve)["grid_sum"].flops == 3 * 2 * 2 * kept**2
    wide = layer(knum=2, knn=4)["retrieve"]  # 4 rows of a head from 2 keys a side
    assert parts(wide)["second_top_m"].compares == 3 * 2 * 4


def test_activations_between_operators_by_hand() -> None:
    ops = layer()
    assert {leaf: op.total("activation_bytes") for leaf, op in ops.items()} == {
        "query": 3 * (8 + 8) * 2,
        "retrieve": 3 * 8 * 2 + 3 * 6 * (8 + 2 * 2),  # queries in; 6 indices, 2 scores each out
        "pre_projection": 3 * (8 + 7) * 2,
        "pre_values": 3 * 7 * 2 + 3 * 6 * 8 + 2 * 3 * 6 * 2 * 2,  # scores in, weights out
        "values": 3 * 6 * (8 + 2 * 2) + 3 * 6 * 2,
        "output": 3 * (6 + 8) * 2,
    }
    assert ops["query"].total("intermediate_bytes") == 2 * 3 * 8 * 2


def test_activations_between_parts_by_hand() -> None:
    """Bytes of a token and head: n = 5, f = m = 3, r = 2, c = 3; 2-byte scores, 8-byte indices."""
    written_and_read = (2 * 2 * 5 + 2 * 5 + 3 * 9 + 9) * 2  # both sides' ranks, merged, grids, sum
    first = 2 * 3 * (2 + 8)  # scores and indices of rows and columns, written
    ranks = 2 * 3 * 2 * 2  # ... and the ranks of those, read for the grid
    second = 3 * 8 + 3 * (8 + 8 + 3 * 2)  # positions written; row, column and 3 core scores read
    ops = layer(num_heads=4, tucker_cores=3)
    retrieve = ops["retrieve"].total("intermediate_bytes")
    assert retrieve == 3 * 4 * (2 * written_and_read + first + ranks + second)
    # gathered rows of 7 and their dots, each written and read
    assert ops["pre_values"].total("intermediate_bytes") == 2 * 3 * 12 * (7 + 1) * 2


def test_a_layer_cannot_read_more_rows_than_it_reaches() -> None:
    kind = UltraMem(**(SIZES | {"share_ratio": 0.05}))
    with pytest.raises(InputError) as caught:  # floor(sqrt(2 * 25 * 0.05)) = 1 row
        kind.check(2, 8)
    assert "memory.knn=3: exceeds the 1 rows" in str(caught.value)
    assert "share_ratio=0.05, 2 memory layers" in str(caught.value)
    every = layer(knn=25)["values"]  # all rows it reaches, and one of one, are allowed
    assert every.total("row_bytes") == 25 * 6 * 2
    single = UltraMem(**(SIZES | {"share_ratio": 0.05, "knn": 1}))
    assert single.operators(Site.of((0, 1), 8), make_step())
    none = UltraMem(**(SIZES | {"share_ratio": 1e-9}))
    with pytest.raises(InputError, match="exceeds the 0 rows"):
        none.check(1, 8)
