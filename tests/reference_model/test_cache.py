"""The cache: what it holds after each step, its sizes, and what happens at its end."""

import pytest
import torch

from costmodel.layers.attention import Attention
from reference_model.cache import Cache, LayerCache
from tests.reference_model.running import WAYS, in_way, model_step
from tests.reference_model.tiny import MLA, MODELS, ids, made, small


def cache_of(*windows: int | None, capacity: int) -> Cache:
    """One sequence, one head of one element; keys are the token's number plus one."""
    layers = []
    for window in windows:
        slots = capacity if window is None else min(window, capacity)
        layers.append(
            LayerCache(
                keys=torch.zeros(1, 1, slots, 1), values=torch.zeros(1, 1, slots, 1), window=window
            )
        )
    return Cache(
        layers=[*layers],
        batch=1,
        capacity=capacity,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


def store(cache: Cache, new: int) -> list[list[int]]:
    """Store the next `new` tokens in every layer; the tokens each layer attends to."""
    tokens = torch.arange(cache.length, cache.length + new).view(1, 1, new, 1) + 1.0
    attended = []
    for index in range(len(cache.kv_layers)):
        keys, values = cache.store(index, tokens, -tokens)
        assert values is not None
        assert torch.equal(keys, -values)
        attended.append([int(one) - 1 for one in keys.flatten()])
    cache.length += new
    return attended


@pytest.mark.parametrize("chunks", [(7,), (1,) * 7, (2, 5), (3, 3, 1), (6, 1), (1, 1, 5)])
@pytest.mark.parametrize("window", [None, 1, 2, 3, 7, 9])
def test_a_step_attends_to_all_that_is_in_reach(window: int | None, chunks: tuple[int]) -> None:
    cache = cache_of(window, capacity=7)
    for chunk in chunks:
        before = cache.length
        (seen,) = store(cache, chunk)
        first = 0 if window is None else max(0, before - window + 1)
        assert sorted(seen) == list(range(first, before + chunk))
        if chunk > 1:
            assert seen == sorted(seen), "the mask counts on this order"
    kept = 7 if window is None else min(window, 7)
    assert sorted(cache.kv_layers[0].keys.flatten().tolist()) == list(range(8 - kept, 8))


@pytest.mark.parametrize("window", [None, 5])
def test_a_full_cache_refuses_more(window: int | None) -> None:
    cache = cache_of(window, capacity=4)
    store(cache, 3)
    with pytest.raises(AssertionError, match="the cache is full"):
        store(cache, 2)
    store(cache, 1)
    with pytest.raises(AssertionError, match="the cache is full"):
        store(cache, 1)


def test_a_ring_goes_on_beyond_its_window() -> None:
    cache = cache_of(3, capacity=100)
    for _ in range(20):
        (seen,) = store(cache, 1)
    assert sorted(seen) == [17, 18, 19]


@pytest.mark.parametrize("position", [0, 1, 3, 4, 5, 9])
def test_the_static_mask_shows_the_tokens_held_and_the_new_one(position: int) -> None:
    cache = cache_of(None, 4, capacity=12)
    cache.make_static(position)
    for now in range(position, 12):
        assert cache.positions(1).tolist() == [now]
        for slots in (12, 4):
            mask = cache.masks.get(slots, torch.zeros(slots))  # without one, all are seen
            assert (mask.flatten() == 0).tolist() == [slot <= now for slot in range(slots)]
        if now < 11:
            cache.advance_static()


@pytest.mark.parametrize("position", [0, 2, 3, 4, 7])
def test_the_static_mask_of_chunks_shows_the_tokens_of_the_newest_one(position: int) -> None:
    chunked = Attention(
        num_attention_heads=2, num_key_value_heads=1, head_dim=4, attention_chunk_size=4
    )
    cache = made(small(attention=chunked)).new_cache(2, 12)
    cache.make_static(position)
    for now in range(position, 12):
        mask = cache.mask_of(0)
        assert mask is not None
        assert (mask.flatten() == 0).tolist() == [slot <= now % 4 for slot in range(4)]
        if now < 11:
            cache.advance_static()


def test_static_mode_may_start_again_at_another_position() -> None:
    cache = cache_of(None, 4, capacity=12)
    cache.make_static(1)
    cache.make_static(5)
    assert set(cache.masks) == {12}
    assert int((cache.masks[12] == 0).sum()) == 6


def test_static_mode_refuses_a_position_beyond_the_cache() -> None:
    with pytest.raises(AssertionError, match="the cache is full"):
        cache_of(None, 4, capacity=12).make_static(12)
    with pytest.raises(AssertionError, match="the cache is full"):
        cache_of(50, capacity=12).make_static(12)
    cache_of(4, capacity=12).make_static(12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["dense", "gpt_oss", "mla"])
def test_bytes_held_are_those_of_the_tokens_kept(name: str, way: str) -> None:
    config = MODELS[name]
    model = made(config)
    cache = model.new_cache(3, 12)
    in_way(way, model_step(model), ids(config, 3, 9), cache)
    written = sum(
        int((kept != 0).any(-1).sum()) * kept.shape[-1] * kept.element_size()
        for layer in cache.kv_layers
        for kept in layer.tensors
    )
    assert cache.held_bytes(9) == written
    assert cache.allocated_bytes() >= written


def test_sizes_are_those_of_the_configuration() -> None:
    narrow = Attention(num_attention_heads=2, num_key_value_heads=1, head_dim=4, sliding_window=5)
    cache = made(small(attention=narrow), dtype=torch.bfloat16).new_cache(2, 12)
    assert cache.allocated_bytes() == 4 * 2 * 2 * 5 * 4 * 2  # layers, B, K and V, W, d, bytes
    latent = made(small(attention=MLA), dtype=torch.bfloat16).new_cache(2, 12)
    assert latent.allocated_bytes() == 4 * 2 * 12 * (8 + 4) * 2
