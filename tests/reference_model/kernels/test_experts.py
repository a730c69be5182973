"""Expert products on the matrix unit and without it, and dense ones, against float64."""

import pytest
import torch
from torch import Tensor

from reference_model.kernels import oracles
from reference_model.kernels.experts import described, down, gate_up
from reference_model.kernels.experts_one import down_one, gate_up_one
from reference_model.kernels.router import route
from reference_model.kernels.routing import RouterRule, Routing
from reference_model.kernels.tiles import Tile, expert_tiles
from tests.reference_model.kernels.making import EXACT, normal, poisoned

E, K, D, WIDTH = 8, 3, 64, 48
RULE = RouterRule(top_k=K, scoring="softmax")
TILE = Tile(tokens=4, rows=16, depth=16, stages=2)


def routed(generator: torch.Generator, tokens: int, favourite: int | None = None) -> Routing:
    """A routing of T tokens, in which 3 of 4 tokens choose a favourite expert first."""
    _, (routing,) = Routing.layers(
        1, tokens=tokens, experts=E, top_k=K, splits=1, device="cpu", item_tokens=TILE.tokens
    )
    declared = normal(generator, tokens, E)
    if favourite is not None:
        declared[: 3 * tokens // 4, favourite] = 10.0
        declared[:, (favourite + 1) % E] = -10.0  # and one expert stays empty
    route(normal(generator, tokens, D), normal(generator, E, D), routing, RULE, declared=declared)
    return routing


def weights(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return normal(generator, E, 2 * WIDTH, D, std=D**-0.5), normal(
        generator, E, D, WIDTH, std=WIDTH**-0.5
    )


def product_layer(
    x: Tensor, up: Tensor, out: Tensor, routing: Routing, *, tile: Tile = TILE, **extras: Tensor
) -> tuple[Tensor, Tensor]:
    tokens = x.shape[0]
    hidden, results = poisoned(tokens * K, WIDTH), poisoned(tokens * K, D)
    activation = "clamped_silu" if extras else "silu"
    gate_up(
        x, described(up, tile), hidden, tile, routing=routing, bias=extras.get("gate_up_bias"),
        activation=activation,
    )  # fmt: skip
    down(
        hidden, described(out, tile), results, tile, tokens=tokens, routing=routing,
        bias=extras.get("down_bias"),
    )  # fmt: skip
    return hidden, results


@pytest.mark.parametrize("tokens", [1, 2, 3, 9, 17])
@pytest.mark.parametrize("favourite", [None, 5])
def test_experts(generator: torch.Generator, tokens: int, favourite: int | None) -> None:
    routing = routed(generator, tokens, favourite)
    x, (up, out) = normal(generator, tokens, D), weights(generator)
    hidden, results = product_layer(x, up, out, routing)
    expected = oracles.experts(x, up, out, routing.ids)
    assert oracles.error(hidden, expected[0]) < EXACT
    assert oracles.error(results, expected[1]) < EXACT


@pytest.mark.parametrize("tokens", [1, 5])
def test_biases_and_the_clamped_activation(generator: torch.Generator, tokens: int) -> None:
    routing = routed(generator, tokens)
    x, (up, out) = 4 * normal(generator, tokens, D), weights(generator)
    extras = {"gate_up_bias": normal(generator, E, 2 * WIDTH), "down_bias": normal(generator, E, D)}
    hidden, results = product_layer(x, up, out, routing, tile=TILE, **extras)
    expected = oracles.experts(x, up, out, routing.ids, **extras, activation="clamped_silu")
    assert oracles.error(hidden, expected[0]) < EXACT
    assert oracles.error(results, expected[1]) < EXACT
    one_hidden, one_out = poisoned(tokens * K, WIDTH), poisoned(tokens, D)
    gate_up_one(x, up, one_hidden, routing, bias=extras["gate_up_bias"], activation="clamped_silu")
    down_one(one_hidden, out, one_out, routing, bias=extras["down_bias"])
    assert oracles.error(one_hidden, expected[0]) < EXACT
    assert oracles.error(one_out, summed(expected[1], routing)) < EXACT


def summed(results: Tensor, routing: Routing) -> Tensor:
    return (results.view(-1, K, D) * routing.weights.double()[..., None]).sum(1)


@pytest.mark.parametrize("tokens", [1, 3])
def test_one_token_a_block_with_norm_and_residual(generator: torch.Generator, tokens: int) -> None:
    routing = routed(generator, tokens)
    x, (up, out) = normal(generator, tokens, D), weights(generator)
    gamma = normal(generator, D)
    hidden, stream = poisoned(tokens * K, WIDTH), x.clone()
    gate_up_one(x, up, hidden, routing, gamma=gamma, eps=1e-5)
    down_one(hidden, out, stream, routing, residual=stream, rows=2)
    normed = oracles.rms_norm(x, gamma, 1e-5)
    expected = oracles.experts(normed, up, out, routing.ids)
    assert oracles.error(hidden, expected[0]) < EXACT
    assert oracles.error(stream, x + summed(expected[1], routing)) < EXACT


@pytest.mark.parametrize("tokens", [1, 6, 9])
def test_a_dense_layer_is_one_expert_of_all_tokens(generator: torch.Generator, tokens: int) -> None:
    x, (up, out) = normal(generator, tokens, D), weights(generator)
    hidden, results = poisoned(tokens, WIDTH), poisoned(tokens, D)
    gate_up(x, described(up[0], TILE), hidden, TILE)
    down(hidden, described(out[0], TILE), results, TILE, tokens=tokens)
    expected = oracles.experts(x, up, out, torch.zeros(tokens, 1))
    assert oracles.error(hidden, expected[0]) < EXACT
    assert oracles.error(results, expected[1]) < EXACT


def test_a_norms_factor_may_come_after_the_products(generator: torch.Generator) -> None:
    routing = routed(generator, 5)
    x, (up, _) = normal(generator, 5, D), weights(generator)
    scale = normal(generator, 5)
    hidden = poisoned(5 * K, WIDTH)
    gate_up(x, described(up, TILE), hidden, TILE, routing=routing, scale=scale)
    expected, _ = oracles.experts(x * scale[:, None], up, up[:, :D, :WIDTH], routing.ids)
    assert oracles.error(hidden, expected) < EXACT


def test_one_tokens_nan_stays_with_it(generator: torch.Generator) -> None:
    routing = routed(generator, 6, favourite=2)
    x, (up, out) = normal(generator, 6, D), weights(generator)
    x[1] = float("nan")
    _, results = product_layer(x, up, out, routing)
    broken = results.view(6, K, D).isnan().any(-1).any(-1)
    assert broken.tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize("tokens", [2, 9])
def test_what_a_tile_reads_beyond_an_expert_reaches_no_result(
    generator: torch.Generator, tokens: int
) -> None:
    wide = Tile(tokens=4, rows=32, depth=32, stages=2)  # 32 does not divide the width of 48
    x, (up, out) = normal(generator, tokens, D), weights(generator)
    routing = routed(generator, tokens)
    hidden, results = product_layer(x, up, out, routing, tile=wide)
    expected = oracles.experts(x, up, out, routing.ids)
    assert oracles.error(hidden, expected[0]) < EXACT
    assert oracles.error(results, expected[1]) < EXACT


@pytest.mark.parametrize("tokens", [1, 4, 16, 64, 256])
@pytest.mark.parametrize(
    ("experts", "top_k", "hidden", "width"),
    [(64, 8, 2048, 1024), (128, 8, 2048, 768), (32, 4, 2880, 2880), (64, 6, 2048, 1408)],
)
def test_the_tables_tiles_divide_the_weights(
    tokens: int, experts: int, top_k: int, hidden: int, width: int
) -> None:
    first, second = expert_tiles(tokens, experts, top_k, hidden, width)
    assert width % first.rows == hidden % first.depth == 0
    assert hidden % second.rows == width % second.depth == 0
