"""The router: logits against float64, and a choice that is exactly that of its own logits."""

import pytest
import torch
from torch import Tensor

from reference_model.kernels import oracles
from reference_model.kernels.router import route, splits_of
from reference_model.kernels.routing import RouterRule, Routing
from tests.reference_model.kernels.making import EXACT, normal

WIDTH = 64
SOFTMAX = RouterRule(top_k=3, scoring="softmax")
RULES = {
    "softmax": SOFTMAX,
    "normalised": RouterRule(top_k=3, scoring="softmax", normalised=True),
    "of chosen": RouterRule(top_k=2, scoring="softmax_of_chosen"),
    "sigmoid": RouterRule(top_k=3, scoring="sigmoid", normalised=True),
    "groups": RouterRule(
        top_k=4, scoring="sigmoid", normalised=True, groups=4, kept_groups=2, group_score_experts=2
    ),
    "softmax groups": RouterRule(
        top_k=3, scoring="softmax", groups=4, kept_groups=2, group_score_experts=1
    ),
}


def routing_of(tokens: int, experts: int, rule: RouterRule, splits: int = 1) -> Routing:
    """Buffers in which nothing that a router must write is right beforehand."""
    _, (routing,) = Routing.layers(
        1, tokens=tokens, experts=experts, top_k=rule.top_k, splits=splits, device="cpu"
    )
    for buffer in routing.weights, routing.logits, routing.partial, routing.scratch:
        buffer.fill_(float("nan"))
    for buffer in routing.ids, routing.slots, routing.lists:
        buffer.fill_(-1)
    return routing


def ordered(ranked: Tensor, top_k: int) -> Tensor:
    """Indices of the best k, ties to the lower index, which torch.topk leaves open."""
    return ranked.argsort(dim=-1, descending=True, stable=True)[:, :top_k]


def check_lists(routing: Routing) -> None:
    """Every pair stands once, in the list of its expert, at the place that it notes."""
    experts = routing.counts.numel()
    ids = routing.ids.long()
    assert torch.equal(routing.counts.long(), ids.flatten().bincount(minlength=experts))
    pairs = torch.arange(ids.numel()).view_as(ids)
    assert torch.equal(routing.lists[ids, routing.slots.long()].long(), pairs)
    assert not routing.arrived.any()


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("tokens", [1, 3, 17])
@pytest.mark.parametrize("experts", [16, 48])
@pytest.mark.parametrize("name", list(RULES))
def test_choice(
    generator: torch.Generator, name: str, experts: int, tokens: int, *, tiled: bool
) -> None:
    rule = RULES[name]
    x, weight = normal(generator, tokens, WIDTH), normal(generator, experts, WIDTH, std=0.1)
    bias = normal(generator, experts) if name == "of chosen" else None
    correction = normal(generator, experts, std=0.3) if "groups" in name else None
    routing = routing_of(tokens, experts, rule, splits=2 if tiled else 1)
    route(
        x, weight, routing, rule, bias=bias, correction=correction, tiled=tiled,
        chunk=4 if tiled and experts == 48 else None,
    )  # fmt: skip
    logits = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    assert oracles.error(routing.logits, logits) < EXACT
    scores, ranked = oracles.ranked_scores(routing.logits, rule, correction)
    assert torch.equal(routing.ids.long(), ranked.topk(rule.top_k, -1).indices)
    expected = oracles.router_weights(scores, routing.ids, rule)
    assert oracles.error(routing.weights, expected) < EXACT
    check_lists(routing)


@pytest.mark.parametrize("tiled", [False, True])
def test_ties_go_to_the_lower_index(*, tiled: bool) -> None:
    weight = torch.zeros(16, WIDTH)
    weight[[4, 9], 0] = 1.0
    routing = routing_of(3, 16, SOFTMAX)
    route(torch.ones(3, WIDTH), weight, routing, SOFTMAX, tiled=tiled)
    assert routing.ids.tolist() == [[4, 9, 0]] * 3
    check_lists(routing)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("name", list(RULES))
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_no_logit_leads_outside(
    generator: torch.Generator, name: str, poison: float, *, tiled: bool
) -> None:
    rule = RULES[name]
    x = normal(generator, 3, WIDTH)
    x[0, 5] = poison  # all logits of a token are infinite or NaN
    weight = normal(generator, 16, WIDTH)
    weight[7, 11] = poison  # and one of every token
    routing = routing_of(3, 16, rule)
    route(x, weight, routing, rule, tiled=tiled)
    assert routing.ids.min() >= 0
    assert routing.ids.max() < 16
    assert all(len(set(row)) == rule.top_k for row in routing.ids.tolist())
    check_lists(routing)


def test_a_nan_beats_every_number_and_one_token_harms_no_other(
    generator: torch.Generator,
) -> None:
    x, weight = normal(generator, 2, WIDTH), normal(generator, 16, WIDTH)
    alone = routing_of(2, 16, SOFTMAX)
    route(x, weight, alone, SOFTMAX)
    x[0] = float("nan")
    routing = routing_of(2, 16, SOFTMAX)
    route(x, weight, routing, SOFTMAX)
    assert routing.ids[0].tolist() == [0, 1, 2]
    assert torch.equal(routing.ids[1], alone.ids[1])
    assert torch.equal(routing.weights[1], alone.weights[1])


@pytest.mark.parametrize("tiled", [False, True])
def test_a_declared_routing_is_taken_and_weighed_by_the_scores(
    generator: torch.Generator, *, tiled: bool
) -> None:
    x, weight = normal(generator, 5, WIDTH), normal(generator, 16, WIDTH, std=0.1)
    declared = normal(generator, 5, 16)
    routing = routing_of(5, 16, SOFTMAX)
    route(x, weight, routing, SOFTMAX, declared=declared, tiled=tiled)
    assert torch.equal(routing.ids.long(), declared.topk(3, -1).indices)
    expected = routing.logits.double().softmax(-1).gather(-1, routing.ids.long())
    assert oracles.error(routing.weights, expected) < EXACT
    check_lists(routing)


def test_the_norm_in_front(generator: torch.Generator) -> None:
    x, weight = normal(generator, 2, 72), normal(generator, 16, 72, std=0.1)
    gamma = normal(generator, 72)
    routing = routing_of(2, 16, SOFTMAX)
    route(x, weight, routing, SOFTMAX, gamma=gamma, eps=1e-5)
    expected = oracles.rms_norm(x, gamma, 1e-5) @ weight.double().T
    assert oracles.error(routing.logits, expected) < EXACT


@pytest.mark.parametrize(
    ("width", "splits"), [(2048, 4), (2880, 3), (768, 4), (128, 2), (64, 1), (72, 1)]
)
def test_slices_of_the_hidden_size_divide_it(width: int, splits: int) -> None:
    assert splits_of(width) == splits
    assert width % splits == 0
    assert splits * int(torch.ones(1)) == splits_of(width)


def test_ordered_is_topk_without_ties(generator: torch.Generator) -> None:
    ranked = normal(generator, 4, 16)
    assert torch.equal(ordered(ranked, 3), ranked.topk(3, -1).indices)
