"""The decode step, run eagerly: greedy tokens, batches below the built one, synthetic routings."""

from typing import Any

import pytest
import torch
from torch import Tensor

from reference_model.cache import Cache
from reference_model.decode import DecodeStep
from reference_model.model import ReferenceModel
from reference_model.synthetic_routing import Popularity
from tests.reference_model.tiny import MODELS, assert_close, ids, made

BATCH, CONTEXT, NEW = 3, 3, 7  # beyond the window of 4 tokens
# Sums in another order, which the gates of Mamba-2 beside an attention enlarge in this model.
ENLARGED = {"attention_and_mamba2": 2e-5}
KEYS = {"ultramem_v2": "knum", "ultramem": "knum", "peer": "num_keys"}  # their field of that


def prefilled(name: str, batch: int = BATCH) -> tuple[ReferenceModel, Tensor, Cache]:
    model = made(MODELS[name])
    prompt = ids(model.config, batch, CONTEXT)
    cache = model.new_cache(batch, CONTEXT + NEW)
    with torch.no_grad():
        model(prompt, cache)
    return model, prompt, cache


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_greedy_steps_give_what_computing_everything_anew_gives(name: str) -> None:
    model, held, cache = prefilled(name)
    step = DecodeStep(model, cache, graph=False, greedy=True)
    token = ids(model.config, BATCH, 1, seed=1)
    given: Tensor | None = token
    for _ in range(NEW):
        held = torch.cat([held, token], dim=1)
        want = model(held, model.new_cache(BATCH, CONTEXT + NEW))
        assert_close(step(given), want, ENLARGED.get(name, 5e-6))
        token, given = want.argmax(-1), None  # from the second step on, tokens are fed back


@pytest.mark.parametrize("name", ["windows", "gpt_oss", "deepseek"])
@torch.no_grad()
def test_a_step_that_is_measured_stays_where_it_is(name: str) -> None:
    model, _, cache = prefilled(name)
    step = DecodeStep(model, cache, graph=False)
    token = ids(model.config, BATCH, 1, seed=1)
    first = step(token).clone()
    for _ in range(3):
        assert torch.equal(step(), first)
    assert cache.positions(1).tolist() == [CONTEXT]


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_smaller_batch_is_served_and_others_do_not_leak_in(name: str) -> None:
    model, prompt, cache = prefilled(name)
    token = ids(model.config, BATCH, 1, seed=1)
    step = DecodeStep(model, cache, graph=False)
    before = cache.static_state()
    step(token)
    cache.restore_static(before)  # states and past ids have moved on
    got = step(token[:2])
    alone = model.new_cache(2, CONTEXT + NEW)
    model(prompt[:2], alone)
    assert got.shape == (2, 1, model.config.vocab_size)
    assert_close(got, model(token[:2], alone), 5e-6)


@pytest.mark.parametrize("name", ["moe", "deepseek", "gpt_oss", "ultramem_v2", "ultramem", "peer"])
@torch.no_grad()
def test_a_synthetic_routing_is_what_the_step_uses(name: str) -> None:
    model, _, cache = prefilled(name)
    step = DecodeStep(model, cache, graph=False)
    generator = torch.Generator().manual_seed(0)
    popularity = Popularity(exponent=1.0)
    routed: dict[str, tuple[Any, Tensor]] = {}
    for path, module in model.leaves().items():
        leaf: Any = module
        if path.endswith("router"):
            leaf.synthetic_choice = popularity.expert_logits(
                BATCH, leaf.config.num_experts, generator=generator
            )
            routed[path] = leaf, leaf.synthetic_choice.topk(leaf.config.num_experts_per_tok).indices
        elif path.endswith("retrieve"):
            memory = model.config.memory[0]
            heads, knn, keys = (getattr(memory, one) for one in ("num_heads", "knn", KEYS[name]))
            rows = popularity.rows(BATCH * heads, keys**2, knn, generator=generator)
            leaf.synthetic_choice = rows.view(BATCH, heads * knn)
            routed[path] = leaf, leaf.synthetic_choice
    assert routed
    token = ids(model.config, BATCH, 1, seed=1)
    routed_logits = step(token).clone()
    for leaf, choice in routed.values():
        assert torch.equal(leaf.selected, choice)
        leaf.synthetic_choice = None
    assert not torch.allclose(step(token), routed_logits)
