"""Mixture of experts against the oracle: scores, groups, weights, biases, shared experts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from costmodel.layers.moe import MoeFfn
from tests.reference_model import oracles
from tests.reference_model.oracles import Array, Choice, under
from tests.reference_model.tiny import (
    BIASED_MOE,
    GROUPED_MOE,
    MOE,
    SQRT_MOE,
    ZERO_MOE,
    array,
    arrays,
    assert_close,
    made,
    noise,
    with_gap,
)
from tests.steps import tiny_model

HIDDEN, TOKENS = 16, 11

V2 = replace(
    GROUPED_MOE,
    scoring="softmax",
    norm_topk_prob=False,
    score_correction_bias=False,
    group_score_experts=1,
)
CASES: dict[str, MoeFfn] = {
    "softmax": MOE,
    "softmax_normalised": replace(MOE, norm_topk_prob=True),
    "sigmoid": replace(MOE, scoring="sigmoid"),
    "sigmoid_normalised": replace(MOE, scoring="sigmoid", norm_topk_prob=True),
    "softmax_of_chosen": replace(MOE, scoring="softmax_of_chosen"),
    "softmax_of_chosen_corrected": replace(
        MOE, scoring="softmax_of_chosen", score_correction_bias=True
    ),
    "sigmoid_of_chosen": replace(MOE, scoring="sigmoid_of_chosen"),
    "sigmoid_of_chosen_normalised": replace(MOE, scoring="sigmoid_of_chosen", norm_topk_prob=True),
    "weighted_input": replace(
        MOE, scoring="sigmoid_of_chosen", weighted_input=True, shared_intermediate_size=8
    ),
    "weighted_input_biases": replace(BIASED_MOE, weighted_input=True),
    "correction_bias": replace(MOE, scoring="sigmoid", score_correction_bias=True),
    "softmax_corrected_normalised": replace(MOE, score_correction_bias=True, norm_topk_prob=True),
    "deepseek_v3": GROUPED_MOE,
    "deepseek_v2": V2,
    "one_group_kept": replace(V2, topk_group=1, num_experts_per_tok=3),
    "all_groups_kept": replace(V2, topk_group=4, num_experts_per_tok=5),
    "groups_of_one": replace(V2, n_group=12, topk_group=6),
    "groups_scored_by_all": replace(GROUPED_MOE, group_score_experts=3),
    "groups_of_softmax_of_chosen": replace(V2, scoring="softmax_of_chosen"),
    "gpt_oss": BIASED_MOE,
    "shared_and_biases": replace(BIASED_MOE, shared_intermediate_size=20),
    "not_gated": replace(MOE, gated=False, activation="gelu", shared_intermediate_size=8),
    "relu": replace(MOE, activation="relu"),
    "relu2": replace(MOE, gated=False, activation="relu2"),
    "latent": replace(GROUPED_MOE, moe_latent_size=8, gated=False, activation="relu2"),
    "latent_alone": replace(MOE, moe_latent_size=12),
    "zero_experts": replace(MOE, num_experts_per_tok=3, zero_expert_num=4),
    "zero_experts_corrected": ZERO_MOE,
    "zero_experts_with_biases": replace(BIASED_MOE, zero_expert_num=3),
    "zero_experts_more_than_real_ones": replace(MOE, num_experts_per_tok=10, zero_expert_num=9),
    "zero_experts_weighted_input": replace(ZERO_MOE, weighted_input=True),
    "zero_experts_in_a_latent_space": replace(MOE, zero_expert_num=8, moe_latent_size=8),
    "one_expert": replace(MOE, num_experts=1, num_experts_per_tok=1),
    "all_experts": replace(MOE, num_experts_per_tok=8),
    "sqrtsoftplus": SQRT_MOE,
    "many_experts": replace(MOE, num_experts=64, num_experts_per_tok=6),
}


def moe_of(config: MoeFfn, dtype: torch.dtype = torch.float32) -> nn.Module:
    model = made(tiny_model(hidden_size=HIDDEN, num_hidden_layers=1, ffn=config), dtype=dtype)
    return model.get_submodule("layers.0.moe")


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_layer_equals_the_oracle(case: str) -> None:
    config = CASES[case]
    layer = moe_of(config)
    weights = arrays(layer)

    def truth(seed: int, choice: Choice) -> tuple[Tensor, list[Array]]:
        x = noise(1, TOKENS, HIDDEN, seed=seed)
        return x, [oracles.moe(config, weights, array(one), choice) for one in x[0]]

    x, want = with_gap(truth)
    assert_close(layer(x), np.array([want]), 2e-6)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_chosen_experts_and_weights_are_those_of_the_oracle_in_order(case: str) -> None:
    config = CASES[case]
    layer = moe_of(config)
    router: Any = layer.get_submodule("router")
    weights = arrays(layer)

    def truth(seed: int, choice: Choice) -> tuple[Tensor, list[list[tuple[int, float]]]]:
        x = noise(TOKENS, HIDDEN, seed=seed)
        return x, [oracles.chosen_experts(config, weights, array(one), choice) for one in x]

    x, want = with_gap(truth)
    shares, experts = router(x)
    assert torch.equal(router.selected, experts)
    assert experts.tolist() == [[expert for expert, _ in token] for token in want]
    assert_close(shares, np.array([[share for _, share in token] for token in want]), 2e-6)


@torch.no_grad()
def test_equal_scores_still_choose_k_different_experts() -> None:
    for case in ("softmax", "deepseek_v3", "gpt_oss"):
        layer = moe_of(CASES[case])
        router: Any = layer.get_submodule("router")
        for parameter in router.parameters():
            parameter.zero_()
        shares, experts = router(noise(TOKENS, HIDDEN))
        assert all(len(set(token)) == len(token) for token in experts.tolist())
        assert_close(shares, shares[:1, :1].expand_as(shares), 1e-6)


@torch.no_grad()
def test_experts_without_tokens_and_one_with_all() -> None:
    layer = moe_of(MOE)
    experts = layer.get_submodule("experts")
    weights = under(arrays(layer), "experts")
    x = noise(TOKENS, HIDDEN)
    chosen = torch.tensor([[5, 2]] * TOKENS)
    shares = torch.tensor([[0.75, 0.25]] * TOKENS)
    got = experts(x, shares, chosen, None)
    for token in range(TOKENS):
        want = np.zeros(HIDDEN)
        for expert, share in ((5, 0.75), (2, 0.25)):
            hidden = weights["gate_up"][expert] @ array(x[token])
            want += share * weights["down"][expert] @ oracles.activated("silu", hidden, gated=True)
        assert_close(got[token], want, 2e-6)


@torch.no_grad()
def test_tokens_do_not_see_one_another() -> None:
    layer = moe_of(GROUPED_MOE)
    x = noise(1, TOKENS, HIDDEN)
    whole = layer(x)
    order = torch.randperm(TOKENS, generator=torch.Generator().manual_seed(1))
    assert_close(layer(x[:, order]), whole[:, order], 1e-6)
    for token in range(TOKENS):
        assert_close(layer(x[:, token : token + 1]), whole[:, token : token + 1], 1e-6)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_synthetic_logits_decide_the_choice_whatever_the_router_scores(case: str) -> None:
    """The top k of the synthetic logits, without groups and corrections."""
    config = CASES[case]
    router: Any = moe_of(config).get_submodule("router")
    x = noise(TOKENS, HIDDEN)
    synthetic = 30 * noise(TOKENS + 5, config.choices, seed=9)
    router.synthetic_choice = synthetic
    shares, experts = router(x)
    want = synthetic[:TOKENS].topk(config.num_experts_per_tok).indices
    assert torch.equal(experts, want)
    assert torch.equal(router.selected, want)
    assert shares.isfinite().all()
    if config.norm_topk_prob or config.scoring == "softmax_of_chosen":
        assert_close(shares.sum(-1), torch.ones(TOKENS), 1e-6)


@torch.no_grad()
def test_the_router_works_in_float32_in_a_bf16_model() -> None:
    layer = moe_of(GROUPED_MOE, torch.bfloat16)
    router: Any = layer.get_submodule("router")
    x = noise(TOKENS, HIDDEN, dtype=torch.bfloat16)
    shares, experts = router(x)
    assert shares.dtype == torch.bfloat16
    exact = nn.functional.linear(x, router.weight).float().sigmoid().gather(1, experts)
    assert_close(shares, exact / exact.sum(-1, keepdim=True), 2**-8)
