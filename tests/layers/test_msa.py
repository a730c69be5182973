"""Block-sparse attention (MSA): pairs by enumeration, every part by hand, what it saves."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh
from costmodel.layers.msa import BlockSparseAttention
from tests.steps import flops, make_step, one_layer, quantity, weights

SPARSE = BlockSparseAttention(
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    rotary_dim=6,
    index_n_heads=2,
    index_head_dim=5,
    index_block_size=4,
    index_topk_blocks=3,
)


def attended(query: int, block: int, topk: int) -> list[int]:
    """What a query at a position reads if it chooses the newest blocks: as many as any choice."""
    first = max(query // block - topk + 1, 0) * block
    return list(range(first, query + 1))


@pytest.mark.parametrize(("block", "topk"), list(itertools.product([1, 2, 3, 8], [1, 2, 5])))
def test_pairs_by_enumeration(block: int, topk: int) -> None:
    layer = BlockSparseAttention(
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=4,
        index_n_heads=1,
        index_head_dim=4,
        index_block_size=block,
        index_topk_blocks=topk,
    )
    for cached, new in itertools.product(range(20), range(1, 14)):
        step = make_step(cached=cached, new_tokens=new)
        seen = [len(attended(query, block, topk)) for query in range(cached, cached + new)]
        assert layer.attended_pairs(step) == sum(seen)
        read = layer.read_tokens(step)
        assert read == seen[0] - 1 if new == 1 else read <= cached
        full = make_step(cached=cached, new_tokens=new, attention_flops="full")
        assert layer.attended_pairs(full) == new * min(cached + new, block * topk)


def test_every_part_by_hand() -> None:
    """B = 3, T = 2, S = 17, D = 16: position 17 sees 2 x 4 + 2 keys, position 18 sees 2 x 4 + 3."""
    found = one_layer(SPARSE, make_step(batch=3, new_tokens=2, cached=17), hidden_size=16)
    n = 6
    assert flops(found["attention.index_qk"]) == {"gemm": ("matmul", 2 * n * 16 * (2 + 1) * 5)}
    rope = found["attention.index_rope"]
    assert flops(rope) == {
        "qk_norm": ("norm", 4 * n * 3 * 5),
        "rotary": ("elementwise", 3 * n * 3 * 5),  # 6 elements of a head turn, 5 there are
    }
    assert weights(rope) == {"q_norm": ("norm", 5, 1), "k_norm": ("norm", 5, 1)}
    assert quantity(rope, "kv_written_bytes") == {"cache_write": n * 5 * 2}
    select, scored = found["attention.index_select"], 3 * (18 + 19)
    assert flops(select) == {"scores": ("attention", 2 * scored * 2 * 5)}
    assert quantity(select, "kv_read_bytes") == {"scores": 3 * 17 * 5 * 2}
    assert quantity(select, "compares") == {"block_max": scored * 2, "top_k": n * 2 * 5}
    core, pairs = found["attention.core"], 3 * (10 + 11)
    assert [p.flops for p in core.parts if p.kind == "attention"] == [2 * pairs * 4 * 8] * 2
    # of 17 cached tokens two queries read at most 9 + 10
    assert quantity(core, "kv_read_bytes") == {"scores": 3 * 17 * 2 * 2 * 8 * 2}


@pytest.mark.parametrize("cached", [0, 3, 10, 11, 12, 13, 16, 100, 4096])
def test_decode_costs_the_dense_layer_and_the_indexer_and_then_no_more(cached: int) -> None:
    """Up to t b = 12 keys; beyond them pairs and reads stay those of 2 blocks and the newest."""
    step = make_step(batch=2, cached=cached)
    sparse = one_layer(SPARSE, step, hidden_size=16)
    dense = one_layer(SPARSE.grouped, step, hidden_size=16)
    for leaf, operator in dense.items():
        if leaf != "attention.core" or cached < 12:
            assert sparse[leaf].total("flops") == operator.total("flops")
            assert sparse[leaf].compulsory_bytes == operator.compulsory_bytes
    assert set(sparse) - set(dense) == {
        "attention.index_qk",
        "attention.index_rope",
        "attention.index_select",
    }
    keys = cached + 1 if cached < 12 else 8 + cached % 4 + 1
    core = sparse["attention.core"]
    assert sum(p.flops for p in core.parts if p.kind == "attention") == 2 * 2 * keys * 4 * 16
    assert core.total("kv_read_bytes") == 2 * (keys - 1) * 2 * 16 * 2


def test_the_cache_holds_keys_values_and_index_keys() -> None:
    assert SPARSE.kv_token_bytes(make_step()) == 2 * 16 * 2 + 5 * 2
    assert SPARSE.side_token_bytes(make_step()) == 10
    assert SPARSE.side_token_bytes(make_step(kv_dtype="fp8")) == 5 + 4


def test_a_gpu_of_two_has_half_the_heads_and_choices_and_the_whole_key() -> None:
    half = SPARSE.split(Mesh(tp=2))
    assert (half.num_attention_heads, half.num_key_value_heads, half.index_n_heads) == (2, 1, 1)
    assert half.side_token_bytes(make_step()) == SPARSE.side_token_bytes(make_step())


def test_minimax_m3_by_hand() -> None:
    """60 layers keep 4 heads of 128 keys and values, 57 an index key of 128.

    At 100,000 cached tokens a query of each head reads 15 blocks and 100,000 mod 128 = 32 tokens.
    """
    model = load_model("minimax-m3")
    costs = step_costs(model, Workload(context=100_000).step())
    assert costs.parameters.total == 426_174_572_928
    assert costs.kv_cache.bytes_per_token == 122_880 + 14_592
    assert costs.kv_cache.side_cache_bytes_per_token == 57 * 128 * 2
    read = 57 * (100_000 * 256 + (15 * 128 + 32) * 2048) + 3 * 100_000 * 2048
    assert costs.kv_cache.read_bytes == read


def test_the_scores_of_a_long_prompt_are_in_the_footprint() -> None:
    """16,384 new tokens of 4 index heads score 1,000,000 held ones, in bf16."""
    step = make_step(new_tokens=16384, cached=1_000_000 - 16384)
    kind = load_model("minimax-m3").attention_of(59)
    select = one_layer(kind, step, hidden_size=6144)["attention.index_select"]
    assert quantity(select, "inner_output_bytes")["scores"] == 4 * 16384 * 1_000_000 * 2


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("index_n_heads", 4, "index_n_heads=4: is not num_key_value_heads=2"),
        ("num_attention_heads", 3, "is not a multiple of num_key_value_heads=2"),
        ("rotary_dim", 9, "rotary_dim=9: exceeds head_dim=8"),
        ("index_topk_blocks", 0, "index_topk_blocks"),
    ],
)
def test_refusals(field: str, value: Any, rule: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=rule):
        replace(SPARSE, **{field: value})
