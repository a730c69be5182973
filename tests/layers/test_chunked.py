"""Chunked attention: pairs and cached tokens by enumerating, every part by hand."""

import itertools

import pytest

from costmodel.layers.attention import Attention
from costmodel.layers.chunked import chunk_pairs, chunk_pairs_letter, chunk_read_tokens
from tests.steps import flops, make_step, one_layer, quantity


def seen_by(query: int, chunk: int) -> list[int]:
    """Positions that the query at a position attends to: those of its chunk, up to itself."""
    return [key for key in range(query + 1) if key // chunk == query // chunk]


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7, 8, 20])
def test_pairs_and_cached_tokens_by_enumeration(chunk: int) -> None:
    layer = Attention(
        num_attention_heads=1, num_key_value_heads=1, head_dim=4, attention_chunk_size=chunk
    )
    for cached, new in itertools.product(range(18), range(1, 18)):
        step = make_step(cached=cached, new_tokens=new)
        seen = [seen_by(query, chunk) for query in range(cached, cached + new)]
        assert chunk_pairs(step, chunk) == sum(len(keys) for keys in seen)
        old = {key for keys in seen for key in keys if key < cached}
        assert chunk_read_tokens(step, chunk) == len(old)
        kept = layer.kept_tokens(cached + new, step)
        assert kept == min(cached + new, chunk)
        assert kept >= len(seen_by(cached + new, chunk)) - 1  # the next token's, but for itself
        full = make_step(cached=cached, new_tokens=new, attention_flops="full")
        assert chunk_pairs(full, chunk) == new * len(old | set(range(cached, cached + new)))


@pytest.mark.parametrize(
    ("cached", "new", "pairs", "read", "written"),
    [  # in chunks of 4
        (3, 1, 4, 3, 1),  # the last token of a chunk sees all four
        (4, 1, 1, 0, 1),  # the next one itself alone
        (6, 1, 3, 2, 1),
        (0, 6, 1 + 2 + 3 + 4 + 1 + 2, 0, 4),
        (2, 3, 3 + 4 + 1, 2, 3),
    ],
)
def test_edges_by_hand(*, cached: int, new: int, pairs: int, read: int, written: int) -> None:
    layer = Attention(
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, attention_chunk_size=4
    )
    ops = one_layer(layer, make_step(batch=3, cached=cached, new_tokens=new), hidden_size=8)
    core, token = ops["attention.core"], 2 * 4 * 2  # a key and a value of 4 elements of 2 bytes
    assert flops(core) == {
        "scores": ("attention", 3 * pairs * 2 * 2 * 4),
        "softmax": ("elementwise", 3 * pairs * 2 * 4),
        "values": ("attention", 3 * pairs * 2 * 2 * 4),
    }
    assert core.total("kv_read_bytes") == 3 * read * token
    assert ops["attention.rope"].total("kv_written_bytes") == 3 * written * token


def test_a_chunk_of_llama_4_at_its_end_and_after_it() -> None:
    """Facts of Llama-4-Maverick: chunks of 8,192; a start of a chunk resets the cost."""
    assert chunk_pairs(make_step(cached=8191), 8192) == 8192
    assert chunk_pairs(make_step(cached=8192), 8192) == 1
    assert (
        chunk_pairs(make_step(new_tokens=20_000), 8192) == 2 * 8192 * 8193 // 2 + 3616 * 3617 // 2
    )


def test_queries_that_grow_and_norms_without_weights_by_hand() -> None:
    layer = Attention(
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        qk_norm="head_unweighted",
        rotary_dim=0,
        floor_scale=8192,
    )
    rope = one_layer(layer, make_step(batch=2, cached=5), hidden_size=8)["attention.rope"]
    assert flops(rope) == {
        "qk_norm": ("norm", 3 * 2 * (4 + 2) * 4),  # square, add, scale: no weight
        "query_scale": ("elementwise", 2 * 4 * 4),
    }
    assert not rope.weights
    assert quantity(rope, "intermediate_bytes") == {
        "qk_norm": 2 * (2 * 6 * 4 * 2),
        "query_scale": 2 * (2 * 4 * 4 * 2),
    }


def test_the_word_for_pairs_says_which_are_counted() -> None:
    step = make_step(cached=5, new_tokens=2)
    assert chunk_pairs_letter(step, 4).value == 2 + 3
    assert "its chunk of 4" in chunk_pairs_letter(step, 4).meaning
    full = make_step(cached=5, new_tokens=2, attention_flops="full")
    assert chunk_pairs_letter(full, 4).value == 2 * (1 + 2)
    assert "the 1 cached keys of the chunk" in chunk_pairs_letter(full, 4).meaning


def test_a_layer_has_a_window_or_chunks() -> None:
    with pytest.raises(ValueError, match="attention_chunk_size=4: a layer with a sliding_window"):
        Attention(
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=4,
            sliding_window=3,
            attention_chunk_size=4,
        )
