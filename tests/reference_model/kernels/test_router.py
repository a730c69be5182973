"""The router: logits against float64, and a choice that is exactly that of its own logits."""

from collections.abc import Callable

import pytest
import torch

from reference_model.kernels import oracles
from reference_model.kernels.router import few, route
from reference_model.kernels.router_tiles import LateNorm, route_tiles, splits_of
from reference_model.kernels.router_tokens import route_tokens
from reference_model.kernels.routing import RouterRule, Routing
from tests.reference_model.kernels.making import EXACT, normal, poisoned

WIDTH = 64
Way = Callable[..., None]
WAYS: list[Way] = [route_tokens, route_tiles]
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


def routing_of(
    tokens: int, experts: int, rule: RouterRule, splits: int = 1, item_tokens: int = 0
) -> Routing:
    """Buffers in which nothing that a router must write is right beforehand."""
    _, (routing,) = Routing.layers(
        1,
        tokens=tokens,
        experts=experts,
        top_k=rule.top_k,
        splits=splits,
        device="cpu",
        item_tokens=item_tokens,
    )
    for buffer in routing.weights, routing.logits, routing.partial, routing.scratch:
        buffer.fill_(float("nan"))
    for buffer in routing.ids, routing.slots, routing.lists:
        buffer.fill_(-1)
    return routing


def check_lists(routing: Routing) -> None:
    """Every pair stands once, in the list of its expert, at the place that it notes."""
    experts = routing.counts.numel() - 1
    ids = routing.ids.long()
    lengths = ids.flatten().bincount(minlength=experts)
    assert torch.equal(routing.counts[:-1].long(), lengths)
    pairs = torch.arange(ids.numel()).view_as(ids)
    assert torch.equal(routing.lists[ids, routing.slots.long()].long(), pairs)
    assert not routing.arrived.any()
    count, size = int(routing.counts[-1]), routing.item_tokens
    items = sorted(routing.items[:count].tolist())
    tiles = [-(-length // size) if size else 0 for length in lengths.tolist()]
    expected = [
        expert << 16 | tile for expert, number in enumerate(tiles) for tile in range(number)
    ]
    assert items == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("tokens", "experts"), [(1, 48), (3, 16), (17, 16)])
@pytest.mark.parametrize("name", list(RULES))
def test_choice(generator: torch.Generator, name: str, experts: int, tokens: int, way: Way) -> None:
    rule = RULES[name]
    x, weight = normal(generator, tokens, WIDTH), normal(generator, experts, WIDTH, std=0.1)
    bias = normal(generator, experts) if name == "of chosen" else None
    correction = normal(generator, experts, std=0.3) if "groups" in name else None
    splits = 1 if way is route_tokens else 2
    routing = routing_of(tokens, experts, rule, splits, item_tokens=4)
    way(x, weight, routing, rule, bias=bias, correction=correction)  # fmt: skip
    logits = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    assert oracles.error(routing.logits, logits) < EXACT
    scores, ranked = oracles.ranked_scores(routing.logits, rule, correction)
    assert torch.equal(routing.ids.long(), ranked.topk(rule.top_k, -1).indices)
    expected = oracles.router_weights(scores, routing.ids, rule)
    assert oracles.error(routing.weights, expected) < EXACT
    check_lists(routing)


@pytest.mark.parametrize("way", WAYS)
def test_ties_go_to_the_lower_index(way: Way) -> None:
    weight = torch.zeros(16, WIDTH)
    weight[[4, 9], 0] = 1.0
    weight[13, 1] = -0.0
    routing = routing_of(3, 16, SOFTMAX)
    way(torch.ones(3, WIDTH), weight, routing, SOFTMAX)
    assert routing.ids.tolist() == [[4, 9, 0]] * 3
    check_lists(routing)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", list(RULES))
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_no_logit_leads_outside(
    generator: torch.Generator, name: str, poison: float, way: Way
) -> None:
    rule = RULES[name]
    x = normal(generator, 3, WIDTH)
    x[0, 5] = poison  # all logits of a token are infinite or NaN
    weight = normal(generator, 16, WIDTH)
    weight[7, 11] = poison  # and one of every token
    routing = routing_of(3, 16, rule)
    way(x, weight, routing, rule)
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


@pytest.mark.parametrize("way", WAYS)
def test_a_declared_routing_is_taken_and_weighed_by_the_scores(
    generator: torch.Generator, way: Way
) -> None:
    x, weight = normal(generator, 5, WIDTH), normal(generator, 16, WIDTH, std=0.1)
    declared = normal(generator, 5, 16)
    routing = routing_of(5, 16, SOFTMAX)
    way(x, weight, routing, SOFTMAX, declared=declared)
    assert torch.equal(routing.ids.long(), declared.topk(3, -1).indices)
    expected = routing.logits.double().softmax(-1).gather(-1, routing.ids.long())
    assert oracles.error(routing.weights, expected) < EXACT
    check_lists(routing)


def test_the_norm_in_front(generator: torch.Generator) -> None:
    x, weight = normal(generator, 2, 72), normal(generator, 16, 72, std=0.1)
    gamma = normal(generator, 72)
    routing = routing_of(2, 16, SOFTMAX)
    normed = torch.full((2, 72), torch.nan)
    route_tokens(x, weight, routing, SOFTMAX, gamma=gamma, normed=normed, eps=1e-5)
    expected = oracles.rms_norm(x, gamma, 1e-5)
    assert oracles.error(normed, expected) < EXACT
    assert oracles.error(routing.logits, expected @ weight.double().T) < EXACT


@pytest.mark.parametrize(
    ("width", "splits"), [(2048, 8), (2880, 9), (768, 6), (128, 2), (64, 1), (72, 1)]
)
def test_slices_of_the_hidden_size_divide_it(width: int, splits: int) -> None:
    assert splits_of(width) == splits
    assert width % splits == 0


def test_without_lists_no_list_is_touched(generator: torch.Generator) -> None:
    routing = routing_of(1, 16, SOFTMAX)
    x, weight = normal(generator, 1, WIDTH), normal(generator, 16, WIDTH)
    route_tokens(x, weight, routing, SOFTMAX, listed=False)
    assert torch.equal(routing.ids.long(), routing.logits.topk(3, -1).indices)
    assert not routing.counts.any()
    assert (routing.lists == -1).all()


@pytest.mark.parametrize("tokens", [3, 17])
def test_the_norm_whose_factor_comes_late(generator: torch.Generator, tokens: int) -> None:
    stream, add = normal(generator, tokens, WIDTH), normal(generator, tokens, WIDTH)
    gamma, weight = normal(generator, WIDTH), normal(generator, 16, WIDTH, std=0.1)
    routing = routing_of(tokens, 16, SOFTMAX, splits=2)
    norm = LateNorm(
        add=add, gamma=gamma, eps=1e-5, summed=poisoned(tokens, WIDTH),
        scaled=poisoned(tokens, WIDTH),
    )  # fmt: skip
    before = stream.clone()
    route_tiles(stream, weight, routing, SOFTMAX, norm=norm)
    total, normed = oracles.add_norm(stream, gamma, 1e-5, add)
    assert torch.equal(stream, before)
    assert oracles.error(norm.summed, total) < EXACT
    assert oracles.error(norm.scaled * routing.scale[:, None], normed) < EXACT
    assert oracles.error(routing.logits, normed @ weight.double().T) < EXACT
    assert torch.equal(routing.ids.long(), routing.logits.topk(3, -1).indices)
    check_lists(routing)


@pytest.mark.parametrize("tokens", [1, 16, 17])
def test_both_ways_choose_alike(generator: torch.Generator, tokens: int) -> None:
    assert few(tokens, 48) == (tokens < 17)
    x, weight = normal(generator, tokens, WIDTH), normal(generator, 48, WIDTH)
    routing, by_tokens = (routing_of(tokens, 48, SOFTMAX) for _ in range(2))
    route(x, weight, routing, SOFTMAX)
    route_tokens(x, weight, by_tokens, SOFTMAX)
    assert torch.equal(routing.ids, by_tokens.ids)
