"""Prompts by fused kernels against the same model in plain PyTorch: logits, choices and cache."""

import pytest
import torch

from costmodel.errors import InputError
from reference_model.decode import DecodeStep, fused_step
from reference_model.kernels import memory, tiles
from reference_model.kernels.launch import INTERPRETED
from reference_model.model import ReferenceModel
from reference_model.routing import selectors, set_synthetic_routing
from reference_model.synthetic_routing import Popularity
from tests.reference_model.fused.models import MODELS, PROMPTED
from tests.reference_model.tiny import ids, made

CLOSE = 3e-6  # float32 on the interpreter: sums in another order
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INTERPRETED, reason="a GPU has tests of its own"),
]


@torch.no_grad()
def compare(reference: ReferenceModel, batch: int, new: int) -> None:
    """Logits, choices, cache; then a decode step after either prompt."""
    prompt = ids(reference.config, batch, new, seed=3)
    plain_cache, cache = (reference.new_cache(batch, new + 1) for _ in range(2))
    plain = reference(prompt, plain_cache)
    chosen = [leaf.selected for leaf in selectors(reference).values()]
    step = fused_step(reference, cache, prompt)
    fused = step()
    assert fused.shape == plain.shape
    assert (fused - plain).norm() <= CLOSE * plain.norm()
    assert cache.length == plain_cache.length == new
    for leaf, wanted in zip(selectors(reference).values(), chosen, strict=True):
        assert wanted is not None
        assert leaf.selected is not None
        assert torch.equal(leaf.selected.long().sort(-1).values, wanted.sort(-1).values)
    for layer, wanted_layer in zip(cache.kv_layers, plain_cache.kv_layers, strict=True):
        for kept, wanted in zip(layer.tensors, wanted_layer.tensors, strict=True):
            torch.testing.assert_close(kept, wanted, rtol=1e-4, atol=1e-4)
    token = torch.ones(batch, 1, dtype=torch.int64)
    after, plain_after = (
        DecodeStep(reference, each, graph=False)(token) for each in (cache, plain_cache)
    )
    assert (after - plain_after).norm() <= 10 * CLOSE * plain_after.norm()


@pytest.mark.parametrize("name", ["shared experts, groups", "memory, heads, groups, skips"])
def test_prompts_of_few_tokens(name: str) -> None:
    compare(made(MODELS[name]), 2, 3)


@pytest.mark.parametrize("name", PROMPTED)
def test_prompts_of_many_tokens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MANY", 4)
    compare(made(MODELS[name]), 1 if "memory" in name else 3, 5 if "memory" in name else 3)


def test_an_uneven_routing_that_is_given_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MANY", 4)
    reference = made(MODELS["full QK-norm, softmax"])
    set_synthetic_routing(reference, Popularity(exponent=3.0), tokens=8)
    compare(reference, 2, 4)
    step = fused_step(reference, reference.new_cache(2, 4), ids(reference.config, 2, 4))
    with torch.no_grad():
        assert torch.equal(step().clone(), step())  # a step leaves nothing behind
    lengths = [
        leaf.selected.flatten().bincount(minlength=leaf.items)
        for leaf in selectors(reference).values()
        if leaf.selected is not None
    ]
    assert any((length == 0).any() and length.max() > 6 for length in lengths)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("window, sinks, biases", "has no kernels for prefill with sliding_window=5"),
        ("latents, unlike layers", "has no kernels for prefill by latent attention"),
    ],
)
def test_prompts_without_kernels_are_refused(name: str, reason: str) -> None:
    reference = made(MODELS[name])
    prompt = ids(reference.config, 1, 4)
    with pytest.raises(InputError, match=reason):
        fused_step(reference, reference.new_cache(1, 4), prompt)


@pytest.mark.parametrize("name", [name for name in PROMPTED if "memory" in name])
def test_tokens_are_searched_for_in_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve tokens in three parts, of which the second runs beside the others, and as one."""
    reference = made(MODELS[name])
    prompt = ids(reference.config, 2, 6)
    whole = fused_step(reference, reference.new_cache(2, 6), prompt)
    monkeypatch.setattr(memory, "PART", 4)
    parts = fused_step(reference, reference.new_cache(2, 6), prompt)
    with torch.no_grad():
        assert torch.equal(whole(), parts())
    assert len(parts.plan.launches) > len(whole.plan.launches)


def test_no_two_streams_use_the_same_buffers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that begins anew waits for all of the one before it, whose output skips a block."""
    monkeypatch.setattr(memory, "PART", 4)
    reference = made(MODELS["memory, heads, groups, skips"])
    launches = fused_step(
        reference, reference.new_cache(2, 6), ids(reference.config, 2, 6)
    ).plan.launches
    running: set[int] = set()
    for launch in launches:
        behind = {*launch.joins} | ({launch.forks} if launch.forks is not None else set())
        if launch.stream == 1 and launch.forks == 0:
            assert running - {1} <= behind
        running -= behind
        running |= {launch.stream} - {0}
    assert not running - {1}
