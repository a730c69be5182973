"""Expert products of many tokens in tiles that share an expert, against float64."""

import pytest
import torch
from torch import Tensor

from reference_model.kernels import oracles
from reference_model.kernels.grouped import (
    Groups,
    GroupTile,
    group_pairs,
    grouped_down,
    grouped_gate_up,
)
from reference_model.kernels.norm import add_norm
from reference_model.kernels.router import route
from reference_model.kernels.routing import RouterRule, Routing
from tests.reference_model.kernels.making import EXACT, normal, poisoned

E, K, D, WIDTH = 8, 3, 64, 48
RULE = RouterRule(top_k=K, scoring="softmax")
FIRST = GroupTile(tokens=4, rows=32, depth=32, stages=2, warps=4, blocks=3)
SECOND = GroupTile(tokens=4, rows=128, depth=32, stages=2, warps=4, blocks=200, flat=False)
"""Neither 32 outputs nor a step of 32 divides the width, and 128 outputs are more than D."""


def routed(generator: torch.Generator, tokens: int, favourite: int | None = None) -> Routing:
    """A routing of T tokens, in which most choose a favourite expert, and the next stays empty."""
    _, (routing,) = Routing.layers(1, tokens=tokens, experts=E, top_k=K, splits=1, device="cpu")
    declared = normal(generator, tokens, E)
    if favourite is not None:
        declared[: 3 * tokens // 4 + 1, favourite] = 10.0
        declared[:, (favourite + 1) % E] = -10.0
    route(normal(generator, tokens, D), normal(generator, E, D), routing, RULE, declared=declared)
    return routing


def room(x: Tensor) -> Groups:
    return Groups.make(
        tokens=x.shape[0], experts=E, top_k=K, hidden=D, tile=FIRST.tokens, like=x
    )  # fmt: skip


@pytest.mark.parametrize("tokens", [1, 2, 9, 17])
@pytest.mark.parametrize("favourite", [None, 5])
def test_pairs_stand_in_the_order_of_their_experts(
    generator: torch.Generator, tokens: int, favourite: int | None
) -> None:
    routing, x = routed(generator, tokens, favourite), normal(generator, tokens, D)
    groups = room(x)
    group_pairs(x, routing, groups)
    lengths = routing.ids.flatten().bincount(minlength=E)
    tiles = -(-lengths // FIRST.tokens)
    owners = torch.arange(E).repeat_interleave(tiles)
    assert groups.tiles.item() == tiles.sum()
    assert groups.owners[: len(owners)].tolist() == owners.tolist()
    places = groups.places.flatten().long()
    assert len(places.unique()) == tokens * K
    assert torch.equal(owners[places // FIRST.tokens], routing.ids.flatten())
    token = torch.arange(tokens).repeat_interleave(K)
    assert torch.equal(groups.sources[places], token)
    assert torch.equal(groups.rows[places], x[token])
    beginnings = (tiles.cumsum(0) - tiles) * FIRST.tokens
    last = beginnings + lengths  # an expert's rows have no hole
    assert (places < last[routing.ids.flatten()]).all()


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("tokens", [1, 2, 9, 17])
@pytest.mark.parametrize("favourite", [None, 5])
def test_experts(
    generator: torch.Generator, tokens: int, favourite: int | None, *, copy: bool
) -> None:
    routing, x = routed(generator, tokens, favourite), normal(generator, tokens, D)
    up = normal(generator, E, 2 * WIDTH, D, std=D**-0.5)
    low = normal(generator, E, D, WIDTH, std=WIDTH**-0.5)
    extras: dict[str, Tensor] = {}
    if favourite is not None:
        extras["gate_up_bias"] = normal(generator, E, 2 * WIDTH)
        extras["down_bias"] = normal(generator, E, D)
    activation = "clamped_silu" if extras else "silu"
    groups = room(x)
    hidden = poisoned(groups.rows.shape[0], WIDTH)
    group_pairs(x, routing, groups, copy=copy)
    grouped_gate_up(
        up, hidden, groups, FIRST, x=None if copy else x, bias=extras.get("gate_up_bias"),
        activation=activation,
    )  # fmt: skip
    grouped_down(low, hidden, groups, SECOND, bias=extras.get("down_bias"))
    expected = oracles.experts(x, up, low, routing.ids, **extras, activation=activation)
    places = groups.places.flatten().long()
    assert oracles.error(hidden[places], expected[0]) < EXACT
    assert oracles.error(groups.rows[places], expected[1]) < EXACT

    stream, gamma = normal(generator, tokens, D), normal(generator, D)
    wanted = oracles.add_norm(stream, gamma, 1e-5, results=expected[1], weights=routing.weights)
    normed = poisoned(tokens, D)
    add_norm(
        stream, gamma, normed, eps=1e-5, results=groups.rows, weights=routing.weights,
        places=groups.places,
    )  # fmt: skip
    assert oracles.error(stream, wanted[0]) < EXACT
    assert oracles.error(normed, wanted[1]) < EXACT


def test_one_tokens_nan_stays_with_it(generator: torch.Generator) -> None:
    routing, x = routed(generator, 6, 2), normal(generator, 6, D)
    x[1] = float("nan")
    groups = room(x)
    hidden = poisoned(groups.rows.shape[0], WIDTH)
    group_pairs(x, routing, groups)
    grouped_gate_up(normal(generator, E, 2 * WIDTH, D), hidden, groups, FIRST)
    grouped_down(normal(generator, E, D, WIDTH), hidden, groups, SECOND)
    broken = groups.rows[groups.places.long()].isnan().any(-1).any(-1)
    assert broken.tolist() == [False, True, False, False, False, False]
