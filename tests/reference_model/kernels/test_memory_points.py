"""The best points of a large grid, best first and ties by index, against a stable sort."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from reference_model.kernels import memory_oracles as oracles
from reference_model.kernels.memory import MemorySizes
from reference_model.kernels.memory_grid import choose_rows
from reference_model.kernels.memory_points import corner_of
from reference_model.kernels.top import most_of
from tests.reference_model.kernels.making import normal
from tests.reference_model.kernels.test_memory import random_weights, room

SIZES = MemorySizes(key_dim=8, keys=40, kept=34, reads=24, value_dim=4)
MOST = most_of(SIZES.reads)


def check(generator: torch.Generator, lines: Tensor, columns: Tensor, cores: Tensor) -> Tensor:
    """Choose by scores of lines and columns [T, r, f]; how many points reach the corner's bound."""
    tokens = lines.shape[0]
    weights = random_weights(generator, SIZES)
    weights = replace(weights, cores=cores)
    buffers = room(SIZES, tokens)
    buffers.places.copy_(torch.arange(SIZES.kept).expand_as(buffers.places))
    buffers.sides[:, 0, 0], buffers.sides[:, 1, 0] = lines, columns
    choose_rows(normal(generator, tokens, SIZES.projected), SIZES, weights, buffers, bounded=True)
    grid = oracles.grid(buffers.sides, cores)
    points = oracles.best(grid, SIZES.reads)
    assert weights.permutation is not None
    expected = oracles.rows_at(points, buffers.places, SIZES, weights.permutation)
    assert torch.equal(buffers.rows.long(), expected)
    corner = corner_of(SIZES.reads, SIZES.kept)
    assert corner == 16
    near = grid.unflatten(-1, (SIZES.kept, -1))[..., :corner, :corner].flatten(-2)
    bound = near.topk(SIZES.reads, -1).values[..., -1:]
    above: Tensor = (grid >= bound).sum(-1).flatten()
    return above


@pytest.mark.parametrize("order", ["best first", "best last", "none"])
def test_the_corner_bounds_any_order(generator: torch.Generator, order: str) -> None:
    sides = normal(generator, 2, 3, 2, SIZES.kept).abs()
    if order != "none":
        sides = sides.sort(-1, descending=order == "best first").values
    cores = torch.tensor([[1.0, 0.1], [0.0, 0.5]]).expand(2, 1, 2, 2).contiguous()
    above = check(generator, sides[0], sides[1], cores)
    assert (above <= MOST).all() if order == "best first" else (above > MOST).all()


@pytest.mark.parametrize("values", [1, 4])
def test_ties_go_to_the_lower_index(generator: torch.Generator, values: int) -> None:
    sides = torch.randint(0, values, (2, 1, 2, SIZES.kept), generator=generator).float()
    above = check(generator, sides[0], sides[1], torch.ones(2, 1, 2, 2))
    assert (above > MOST).all()


def test_nan_and_infinity_are_the_best(generator: torch.Generator) -> None:
    sides = normal(generator, 2, 2, 2, SIZES.kept).abs().sort(-1, descending=True).values
    sides[0, 0, 0, 20], sides[1, 1, 1, 30] = torch.inf, torch.nan
    weights = random_weights(generator, SIZES)
    weights = replace(weights, cores=torch.ones(2, 1, 2, 2))
    assert weights.permutation is not None
    buffers = room(SIZES, 2)
    buffers.places.copy_(torch.arange(SIZES.kept).expand_as(buffers.places))
    buffers.sides[:, 0, 0], buffers.sides[:, 1, 0] = sides
    choose_rows(normal(generator, 2, SIZES.projected), SIZES, weights, buffers, bounded=True)
    first, second = buffers.rows.long()
    line = weights.permutation[20 * SIZES.keys :][: SIZES.reads]
    column = weights.permutation[30 :: SIZES.keys][: SIZES.reads]
    assert torch.equal(first, line)
    assert torch.equal(second, column)
