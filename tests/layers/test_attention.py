"""Attention: pairs by enumerating queries and keys, every part by hand."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from costmodel.layers.attention import Attention, QkNorm
from costmodel.layers.attention_core import attended_pairs, pairs_letter, read_tokens
from tests.steps import flops, make_step, one_layer, parts, quantity, total, weights

WINDOWS = [None, 1, 2, 3, 4, 5, 7, 8, 9, 20]


def visible(query: int, window: int | None) -> list[int]:
    """Positions that the query at a position attends to: itself and what its window reaches."""
    return [key for key in range(query + 1) if window is None or query - key < window]


@pytest.mark.parametrize("window", WINDOWS)
def test_pairs_and_cached_tokens_by_enumeration(window: int | None) -> None:
    layer = Attention(
        num_attention_heads=1, num_key_value_heads=1, head_dim=4, sliding_window=window
    )
    for cached, new in itertools.product(range(10), range(1, 10)):
        step = make_step(cached=cached, new_tokens=new)
        seen = [visible(query, window) for query in range(cached, cached + new)]
        assert attended_pairs(step, window) == sum(len(keys) for keys in seen)
        old = {key for keys in seen for key in keys if key < cached}
        assert read_tokens(step, window) == len(old)
        # the cache must hold what the next query sees besides itself, and the ring its last slot
        after = [key for key in visible(cached + new, window) if key < cached + new]
        kept = layer.kept_tokens(cached + new, step)
        assert kept == min(cached + new, len(after) + 1)
        assert kept >= len(after)
        written = layer.kept_tokens(new, step)
        assert written == min(new, new if window is None else window)
        full = make_step(cached=cached, new_tokens=new, attention_flops="full")
        assert attended_pairs(full, window) == new * len(old | set(range(cached, cached + new)))


@pytest.mark.parametrize(
    ("cached", "new", "window", "pairs", "read", "written"),
    [
        (5, 1, None, 6, 5, 1),  # decode: S + 1 keys
        (5, 1, 3, 3, 2, 1),  # ... or W, of which one is new
        (2, 1, 3, 3, 2, 1),
        (1, 1, 3, 2, 1, 1),
        (9, 1, 1, 1, 0, 1),  # W = 1: each token sees itself alone
        (0, 4, None, 1 + 2 + 3 + 4, 0, 4),
        (0, 4, 1, 4, 0, 1),
        (0, 5, 3, 1 + 2 + 3 + 3 + 3, 0, 3),  # T > W: only the last W are kept
        (2, 5, 3, 3 * 5, 2, 3),
        (2, 2, 100, 3 + 4, 2, 2),
        (0, 1, None, 1, 0, 1),  # the first token of all
    ],
)
def test_window_edges_by_hand(
    *, cached: int, new: int, window: int | None, pairs: int, read: int, written: int
) -> None:
    layer = Attention(
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, sliding_window=window
    )
    ops = one_layer(layer, make_step(batch=3, cached=cached, new_tokens=new), hidden_size=8)
    core = ops["attention.core"]
    assert flops(core) == {
        "scores": ("attention", 3 * pairs * 2 * 2 * 4),
        "softmax": ("elementwise", 3 * pairs * 2 * 4),
        "values": ("attention", 3 * pairs * 2 * 2 * 4),
    }
    token = 2 * 4 * 2  # a key and a value of 4 elements of 2 bytes
    assert core.total("kv_read_bytes") == 3 * read * token
    assert ops["attention.rope"].total("kv_written_bytes") == 3 * written * token


def test_the_square_by_hand() -> None:
    # 4 new on 6 cached: 40 pairs; with a window of 3 the first new one reads 2 cached: 4 * 6
    step = make_step(cached=6, new_tokens=4, attention_flops="full")
    assert attended_pairs(step, None) == 4 * 10
    assert attended_pairs(step, 3) == 4 * 6
    assert attended_pairs(make_step(cached=6, new_tokens=4), None) == 7 + 8 + 9 + 10
    one = make_step(cached=6, attention_flops="full")  # decode: square and triangle agree
    assert attended_pairs(one, None) == 7
    assert attended_pairs(one, 3) == 3


def test_matrix_products_by_counting_multiply_adds() -> None:
    heads, groups, size, hidden, cached, new, batch = 4, 2, 4, 6, 3, 2, 2
    qkv = core = output = 0
    for _ in range(batch):
        for query in range(cached, cached + new):
            for _ in range((heads + 2 * groups) * size):
                qkv += hidden
            for _ in range(heads):
                for _ in visible(query, None):
                    core += size  # a score
                    core += size  # a weighted value
            for _ in range(hidden):
                output += heads * size
    layer = Attention(num_attention_heads=heads, num_key_value_heads=groups, head_dim=size)
    step = make_step(batch=batch, new_tokens=new, cached=cached)
    ops = one_layer(layer, step, hidden_size=hidden)
    by_leaf = {
        leaf: sum(p.flops for p in op.parts if p.kind in ("matmul", "attention"))
        for leaf, op in ops.items()
    }
    assert by_leaf == {
        "attention.qkv": 2 * qkv,
        "attention.rope": 0,
        "attention.core": 2 * core,
        "attention.output": 2 * output,
    }


RICH = Attention(
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=4,
    qk_norm="head",
    rotary_dim=2,
    sliding_window=3,
    attention_bias=True,
    output_bias=True,
    sinks=True,
)


def test_every_part_by_hand() -> None:
    # B = 2, T = 1, S = 5, D = 8: N = 2; qkv 8 to (4 + 2 * 2) * 4 = 32; 3 keys seen
    ops = one_layer(RICH, make_step(batch=2, cached=5), hidden_size=8)
    assert list(ops) == ["attention.qkv", "attention.rope", "attention.core", "attention.output"]
    assert flops(ops["attention.qkv"]) == {
        "gemm": ("matmul", 2 * 2 * 8 * 32),
        "bias": ("elementwise", 2 * 32),
    }
    assert flops(ops["attention.rope"]) == {
        "qk_norm": ("norm", 4 * 2 * (4 + 2) * 4),
        "rotary": ("elementwise", 3 * 2 * (4 + 2) * 2),
    }
    scores = 2 * 3 * 4
    assert flops(ops["attention.core"]) == {
        "scores": ("attention", 2 * scores * 4),
        "softmax": ("elementwise", 4 * (scores + 2 * 4)),  # a sink for each token and head
        "values": ("attention", 2 * scores * 4),
    }
    assert flops(ops["attention.output"]) == {
        "gemm": ("matmul", 2 * 2 * 16 * 8),
        "bias": ("elementwise", 2 * 8),
    }
    assert [op.kind for op in ops.values()] == ["matmul", "elementwise", "attention", "matmul"]
    assert total(ops.values(), "compares") == 0
    assert not any(part.routing for op in ops.values() for part in op.parts)


def test_an_output_gate_doubles_the_query_projection_and_keeps_the_cache() -> None:
    """Layer 3 of Qwen3.5-122B-A10B: 78,643,200 parameters, and QK-norms of 256 each."""
    layer = Attention(
        num_attention_heads=32,
        num_key_value_heads=2,
        head_dim=256,
        qk_norm="head",
        rotary_dim=64,
        output_gate=True,
    )
    step = make_step(batch=2, cached=5)
    ops = one_layer(layer, step, hidden_size=3072)
    assert sum(w.parameters for op in ops.values() for w in op.weights) == 78_643_200 + 512
    assert flops(ops["attention.qkv"]) == {
        "gemm": ("matmul", 2 * 2 * 3072 * (2 * 32 + 2 * 2) * 256)
    }
    assert flops(ops["attention.gate"]) == {"gate": ("elementwise", 4 * 2 * 32 * 256)}
    assert quantity(ops["attention.gate"], "activation_bytes") == {"gate": 3 * 2 * 32 * 256 * 2}
    assert layer.kv_token_bytes(step) == 2 * 2 * 256 * 2


def test_values_of_their_own_size_by_hand() -> None:
    # B = 2, T = 1, S = 5, D = 8: 4 query heads and 2 key-value heads; keys of 4, values of 6
    layer = Attention(num_attention_heads=4, num_key_value_heads=2, head_dim=4, v_head_dim=6)
    step = make_step(batch=2, cached=5)
    ops = one_layer(layer, step, hidden_size=8)
    assert weights(ops["attention.qkv"]) == {"weight": ("attention", 16 + 8 + 12, 8)}
    assert weights(ops["attention.output"]) == {"weight": ("attention", 8, 24)}
    assert flops(ops["attention.core"]) == {
        "scores": ("attention", 2 * 2 * 6 * 4 * 4),
        "softmax": ("elementwise", 4 * 2 * 6 * 4),
        "values": ("attention", 2 * 2 * 6 * 4 * 6),
    }
    assert layer.kv_token_bytes(step) == 2 * 2 * (4 + 6)
    assert ops["attention.core"].total("kv_read_bytes") == 2 * 5 * 40
    assert ops["attention.core"].total("activation_bytes") == 2 * 2 * (16 + 8 + 12 + 24)
    # gates are of the result, which is as wide as the values
    gated = one_layer(replace(layer, output_gate=True), step, hidden_size=8)
    assert weights(gated["attention.qkv"]) == {"weight": ("attention", 24 + 16 + 8 + 12, 8)}
    assert flops(gated["attention.gate"]) == {"gate": ("elementwise", 4 * 2 * 24)}


def test_keys_that_are_values_by_hand() -> None:
    """A full layer of Gemma-4-31B: no value projection, and yet both are cached."""
    layer = Attention(
        num_attention_heads=32,
        num_key_value_heads=4,
        head_dim=512,
        qk_norm="head",
        rotary_dim=128,
        attention_k_eq_v=True,
        value_norm=True,
    )
    step = make_step(batch=3, cached=5)
    ops = one_layer(layer, step, hidden_size=5376)
    assert weights(ops["attention.qkv"]) == {"weight": ("attention", (32 + 4) * 512, 5376)}
    assert flops(ops["attention.rope"]) == {
        "qk_norm": ("norm", 4 * 3 * (32 + 4) * 512),
        "value_norm": ("norm", 3 * 3 * 4 * 512),  # square, add, scale: it has no weight
        "rotary": ("elementwise", 3 * 3 * (32 + 4) * 128),
    }
    assert layer.kv_token_bytes(step) == 81_920 / 10
    assert ops["attention.rope"].total("kv_written_bytes") == 3 * 8192
    read, passed_on = (32 + 4) * 512, (32 + 4 + 4) * 512
    assert ops["attention.rope"].total("input_bytes") == 3 * read * 2
    assert ops["attention.rope"].total("output_bytes") == 3 * passed_on * 2


def test_a_layer_that_reads_anothers_cache_by_hand() -> None:
    """It projects, norms and rotates queries alone, keeps nothing, and reads as much."""
    own = replace(RICH, sinks=False)
    shared = replace(own, shared_kv=True)
    step = make_step(batch=2, cached=5)
    ops, others = (one_layer(layer, step, hidden_size=8) for layer in (shared, own))
    assert weights(ops["attention.qkv"]) == {
        "weight": ("attention", 16, 8),
        "bias": ("attention", 16, 1),
    }
    assert weights(ops["attention.rope"]) == {"q_norm": ("norm", 4, 1)}
    assert flops(ops["attention.rope"]) == {
        "qk_norm": ("norm", 4 * 2 * 4 * 4),
        "rotary": ("elementwise", 3 * 2 * 4 * 2),
    }
    assert shared.kv_token_bytes(step) == total(ops.values(), "kv_written_bytes") == 0
    read = 2 * 2 * (2 * 2 * 4 * 2)  # two sequences, two cached tokens in reach
    assert total(ops.values(), "kv_read_bytes") == total(others.values(), "kv_read_bytes") == read
    assert flops(ops["attention.core"]) == flops(others["attention.core"])
    assert ops["attention.rope"].total("activation_bytes") == 2 * (16 + 16) * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attention_k_eq_v": True, "v_head_dim": 8}, "v_head_dim=8: differs from head_dim=4"),
        ({"shared_kv": True, "value_norm": True}, "value_norm=True: is of a layer's own values"),
        ({"shared_kv": True, "attention_k_eq_v": True}, "attention_k_eq_v=True: is of a layer's"),
    ],
)
def test_rules_of_values(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Attention(num_attention_heads=2, num_key_value_heads=2, head_dim=4, **fields)


def test_parameters_and_their_bytes_by_hand() -> None:
    ops = one_layer(RICH, make_step(batch=2, cached=5, dtype="int4"), hidden_size=8)
    assert weights(ops["attention.qkv"]) == {
        "weight": ("attention", 32, 8),
        "bias": ("attention", 32, 1),
    }
    assert weights(ops["attention.rope"]) == {"q_norm": ("norm", 4, 1), "k_norm": ("norm", 4, 1)}
    assert weights(ops["attention.core"]) == {"sinks": ("attention", 4, 1)}
    assert weights(ops["attention.output"]) == {
        "weight": ("attention", 8, 16),
        "bias": ("attention", 8, 1),
    }
    # int4 rows: 8 elements (32 + 20 bits: 7 bytes), 16 elements (64 + 20: 11); vectors stay 16-bit
    assert quantity(ops["attention.qkv"], "weight_bytes") == {"gemm": 32 * 7, "bias": 64}
    assert quantity(ops["attention.rope"], "weight_bytes") == {"qk_norm": (4 + 4) * 2}
    assert quantity(ops["attention.core"], "weight_bytes") == {"softmax": 4 * 2}
    assert quantity(ops["attention.output"], "weight_bytes") == {"gemm": 8 * 11, "bias": 16}


def test_activations_between_operators_by_hand() -> None:
    ops = one_layer(RICH, make_step(batch=2, new_tokens=3, cached=5), hidden_size=8)
    n = 6
    moved = {leaf: op.total("activation_bytes") for leaf, op in ops.items()}
    assert moved == {
        "attention.qkv": n * (8 + 32) * 2,
        "attention.rope": n * (32 + 32) * 2,  # queries, keys and values in and out
        "attention.core": n * (16 + 8 + 8 + 16) * 2,  # queries, new keys and values, result
        "attention.output": n * (16 + 8) * 2,
    }
    # unfused, queries and keys are written and read once after the norm, once after the rotation
    between = {leaf: op.total("intermediate_bytes") for leaf, op in ops.items()}
    assert between["attention.rope"] == 2 * 2 * n * (16 + 8) * 2
    assert sum(between.values()) == between["attention.rope"]


@pytest.mark.parametrize(
    ("qk_norm", "expected"),
    [
        ("none", {}),
        ("head", {"q_norm": ("norm", 4, 1), "k_norm": ("norm", 4, 1)}),
        ("full", {"q_norm": ("norm", 16, 1), "k_norm": ("norm", 8, 1)}),
    ],
)
def test_qk_norm_over_a_head_or_over_all(
    qk_norm: QkNorm, expected: dict[str, tuple[str, int, int]]
) -> None:
    layer = Attention(num_attention_heads=4, num_key_value_heads=2, head_dim=4, qk_norm=qk_norm)
    rope = one_layer(layer, make_step(batch=2), hidden_size=8)["attention.rope"]
    assert weights(rope) == expected
    found: dict[str, object] = {"rotary": ("elementwise", 3 * 2 * 6 * 4)}
    if expected:  # the same elements are normalised either way
        found["qk_norm"] = ("norm", 4 * 2 * 6 * 4)
    assert flops(rope) == found


def test_without_rotation_the_cache_is_still_written() -> None:
    layer = Attention(num_attention_heads=2, num_key_value_heads=2, head_dim=4, rotary_dim=0)
    rope = one_layer(layer, make_step(), hidden_size=8)["attention.rope"]
    assert list(parts(rope)) == ["cache_write"]
    assert rope.total("kv_written_bytes") == 2 * 2 * 4 * 2


@pytest.mark.parametrize(
    ("kv_dtype", "token"),
    [
        ("bf16", 2 * 2 * 64 * 2),
        ("fp32", 2 * 2 * 64 * 4),
        ("fp8", 2 * 2 * (64 + 4)),  # a scale for each token, head, and key or value
        ("int8", 2 * 2 * (64 + 2)),
        ("int4", 2 * 2 * 35),  # 256 + 20 bits: 34.5 bytes
        ("int4:32", 2 * 2 * 37),  # 256 + 40 bits
    ],
)
def test_cache_bytes_of_a_token_by_format(kv_dtype: str, token: int) -> None:
    layer = Attention(num_attention_heads=8, num_key_value_heads=2, head_dim=64)
    step = make_step(batch=2, cached=10, new_tokens=3, kv_dtype=kv_dtype)
    assert layer.kv_token_bytes(step) == token
    ops = one_layer(layer, step, hidden_size=16)
    assert total(ops.values(), "kv_read_bytes") == 2 * 10 * token
    assert total(ops.values(), "kv_written_bytes") == 2 * 3 * token


def test_fp32_doubles_activations_and_vectors() -> None:
    half, single = (
        one_layer(RICH, make_step(cached=5, dtype=dtype), hidden_size=8)
        for dtype in ("bf16", "fp32")
    )
    for name in ("activation_bytes", "intermediate_bytes", "weight_bytes"):
        assert total(single.values(), name) == 2 * total(half.values(), name)
    assert total(single.values(), "kv_read_bytes") == total(half.values(), "kv_read_bytes")


def test_the_letter_of_the_pairs_says_how_they_are_counted() -> None:
    """Of two new tokens after six: 7 and 8 keys, of a window of 3 three each; squares 2 (6 + 2)."""
    step = make_step(new_tokens=2, cached=6)
    whole, windowed = pairs_letter(step, None), pairs_letter(step, 3)
    assert (whole.value, windowed.value) == (7 + 8, 3 + 3)
    assert "T S + T (T + 1) / 2" in whole.meaning
    assert "at most 3" in windowed.meaning
    assert "T (T + 1)" not in windowed.meaning
    full = make_step(new_tokens=2, cached=6, attention_flops="full")
    whole, windowed = pairs_letter(full, None), pairs_letter(full, 3)
    assert (whole.value, windowed.value) == (2 * (6 + 2), 2 * (2 + 2))
    assert "T (S + T)" in whole.meaning
    assert "2 cached keys" in windowed.meaning
