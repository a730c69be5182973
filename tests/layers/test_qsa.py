"""Attention to groups chosen by pooled keys (QSA): pairs by enumeration, every part by hand."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from costmodel.costs.kernel_times import multiply_adds
from costmodel.layers.kernel_shape import Attend
from costmodel.layers.mesh import Mesh
from costmodel.layers.qsa import PooledKeyAttention
from tests.steps import flops, make_step, one_layer, quantity, weights

SPARSE = PooledKeyAttention(
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    rotary_dim=4,
    output_gate=True,
    index_n_heads=3,
    index_head_dim=5,
    index_budget=8,
    index_compress_ratio=4,
)


def attended(query: int, ratio: int, budget: int) -> int:
    """Keys of a query at a position: the whole groups of the budget, and the unfinished one."""
    groups: dict[int, list[int]] = {}
    for key in range(query + 1):
        groups.setdefault(key // ratio, []).append(key)
    whole = [keys for keys in groups.values() if len(keys) == ratio]
    tail = [keys for keys in groups.values() if len(keys) < ratio]
    return sum(map(len, whole[: budget // ratio])) + sum(map(len, tail))


@pytest.mark.parametrize(("ratio", "groups"), list(itertools.product([1, 2, 3, 8], [1, 2, 5])))
def test_pairs_by_enumeration(ratio: int, groups: int) -> None:
    layer = replace(SPARSE, index_budget=ratio * groups, index_compress_ratio=ratio)
    for cached, new in itertools.product(range(20), range(1, 14)):
        step = make_step(cached=cached, new_tokens=new)
        seen = [attended(query, ratio, ratio * groups) for query in range(cached, cached + new)]
        assert layer.attended_pairs(step) == sum(seen)
        read = layer.read_tokens(step)
        assert read == seen[0] - 1 if new == 1 else read <= cached
        (scored,) = (one for one in layer.letters(None, step) if one.name == "scored")  # type: ignore[arg-type]  # it reads no operator
        assert scored.value == sum((q + 1) // ratio for q in range(cached, cached + new))


def test_every_part_by_hand() -> None:
    """B = 3, T = 2, S = 17, D = 16: 4 whole groups of 4; the two queries read 8 + 2 and 8 + 3."""
    found = one_layer(SPARSE, make_step(batch=3, new_tokens=2, cached=17), hidden_size=16)
    n = 6
    assert flops(found["attention.index_qk"]) == {"gemm": ("matmul", 2 * n * 16 * (3 + 1) * 5)}
    rope = found["attention.index_rope"]
    assert flops(rope) == {
        "q_norm": ("norm", 4 * n * 3 * 5),
        "rotary": ("elementwise", 3 * n * 3 * 4),
    }
    assert quantity(rope, "kv_written_bytes") == {"cache_write": n * 5 * 2}
    select, scored = found["attention.index_select"], 3 * (4 + 4)
    assert flops(select) == {
        "pool": ("elementwise", 3 * 4 * ((4 + 1 + 4) * 5 + 3 * 4)),
        "scores": ("attention", 2 * scored * 3 * 5),
        "sum": ("elementwise", scored * 3),
    }
    assert weights(select) == {"k_norm": ("norm", 5, 1)}
    assert quantity(select, "kv_read_bytes") == {"pool": 3 * 17 * 5 * 2}
    assert quantity(select, "compares") == {"top_k": scored}
    core, pairs = found["attention.core"], 3 * (10 + 11)
    assert [p.flops for p in core.parts if p.kind == "attention"] == [2 * pairs * 4 * 8] * 2
    assert quantity(core, "kv_read_bytes") == {"scores": 3 * 17 * 2 * 2 * 8 * 2}


@pytest.mark.parametrize("cached", [0, 3, 9, 10, 11, 12, 14, 100, 4096])
def test_decode_costs_the_dense_layer_and_the_indexer_and_then_no_more(cached: int) -> None:
    """Up to 8 + 3 keys; beyond them pairs and reads stay 8 and the unfinished group."""
    step = make_step(batch=2, cached=cached)
    sparse = one_layer(SPARSE, step, hidden_size=16)
    dense = one_layer(SPARSE.grouped, step, hidden_size=16)
    for leaf, operator in dense.items():
        if leaf != "attention.core" or cached + 1 <= 11:
            assert sparse[leaf].total("flops") == operator.total("flops")
            assert sparse[leaf].compulsory_bytes == operator.compulsory_bytes
    keys = cached + 1 if cached + 1 <= 11 else 8 + (cached + 1) % 4
    core = sparse["attention.core"]
    assert sum(p.flops for p in core.parts if p.kind == "attention") == 2 * 2 * keys * 4 * 16
    assert core.total("kv_read_bytes") == 2 * (keys - 1) * 2 * 16 * 2


def test_qwen3_8_by_hand() -> None:
    """The sizes of a layer of Qwen3.8-Flash-Next: D 2,560, an indexer of 1,638,656 parameters.

    A token keeps 2,048 bytes of keys and values and 256 of the index key, in bf16. At 512 cached
    tokens a step of 4 scores 128 groups by 4 heads.
    """
    layer = PooledKeyAttention(
        num_attention_heads=24,
        num_key_value_heads=2,
        head_dim=256,
        rotary_dim=64,
        output_gate=True,
        index_n_heads=4,
        index_head_dim=128,
        index_budget=2048,
        index_compress_ratio=4,
    )
    step = make_step(batch=4, cached=512)
    found = one_layer(layer, step, hidden_size=2560)
    index = [op for leaf, op in found.items() if "index" in leaf]
    assert sum(w.parameters for op in index for w in op.weights) == 19_660_800 // 12 + 2 * 128
    assert layer.kv_token_bytes(step) == 24_576 // 12 + 256
    scores = flops(found["attention.index_select"])["scores"]
    assert scores == ("attention", 6_291_456 // 12)


@pytest.mark.parametrize(("cached", "new"), [(0, 1), (0, 2), (0, 5), (3, 1), (0, 512), (90, 7)])
def test_scores_are_priced_as_causal_attention_of_as_many_pairs(cached: int, new: int) -> None:
    """A prompt of 512 has 128 groups, fewer than queries; one token may have none."""
    step = make_step(cached=cached, new_tokens=new)
    select = one_layer(SPARSE, step, hidden_size=16)["attention.index_select"]
    (shape,) = (part.shape for part in select.parts if part.shape is not None)
    assert isinstance(shape, Attend)
    priced = multiply_adds(1, 1, 1.0, shape.queries, shape.keys)
    pairs = sum((query + 1) // 4 for query in range(cached, cached + new))
    assert 0 < priced <= pairs + new
    assert priced >= pairs - new


def test_a_gpu_of_two_has_half_the_heads_and_the_whole_indexer() -> None:
    half = SPARSE.split(Mesh(tp=2))
    assert (half.num_attention_heads, half.num_key_value_heads, half.index_n_heads) == (2, 1, 3)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("index_budget", 9, "index_budget=9: is not a multiple of index_compress_ratio=4"),
        ("num_attention_heads", 3, "is not a multiple of num_key_value_heads=2"),
        ("index_compress_ratio", 0, "index_compress_ratio"),
    ],
)
def test_refusals(field: str, value: Any, rule: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=rule):
        replace(SPARSE, **{field: value})
