"""The kernels of a memory layer: each against float64, choices against their own scores."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from reference_model.kernels import memory_oracles as oracles
from reference_model.kernels.experts import described
from reference_model.kernels.key_scores import score_keys
from reference_model.kernels.memory import (
    MemoryBuffers,
    MemorySizes,
    MemoryWeights,
    usual_slices,
)
from reference_model.kernels.memory_grid import choose_rows, sums_too
from reference_model.kernels.memory_rows import sum_rows
from reference_model.kernels.memory_sides import choose_sides
from reference_model.kernels.oracles import error
from reference_model.kernels.tiles import Tile
from tests.reference_model.kernels.making import EXACT, normal, poisoned

EPS = 1e-5
TILE = Tile(tokens=4, rows=16, depth=16, stages=2)
SIZES = MemorySizes(key_dim=24, keys=37, kept=7, reads=6, value_dim=20, pre_value_dim=12)
CASES = {
    "pre-values": SIZES,
    "no pre-values": replace(SIZES, pre_value_dim=None),
    "heads": replace(SIZES, heads=3, reads=5),
    "rank 3, 4 cores": replace(SIZES, ranks=3, cores=4),
    "rank 1, 1 core": replace(SIZES, ranks=1, cores=1),
    "groups": replace(SIZES, expansion=9, sums=9),
    "groups in one sum": replace(SIZES, expansion=4),
    "a query a rank": replace(SIZES, queries=2),
    "heads and queries": replace(SIZES, heads=2, ranks=3, queries=3),
    "heads and groups": replace(SIZES, heads=2, expansion=4, sums=4, pre_value_dim=None),
    "all points": replace(SIZES, kept=3, reads=9),
    "a grid of all keys": replace(SIZES, keys=5, kept=5, reads=11),
    "one row": replace(SIZES, kept=1, reads=1),
    "a large grid": replace(SIZES, keys=90, kept=70, reads=33),
}


def random_weights(generator: torch.Generator, sizes: MemorySizes) -> MemoryWeights:
    """A window that reaches beyond the table's end."""
    s = sizes
    window = s.keys**2 // s.expansion + 1
    table = window + 13
    pre = None if s.pre_value_dim is None else normal(generator, table, s.pre_value_dim)
    return MemoryWeights(
        keys=normal(generator, 2, s.heads, s.ranks, s.keys, s.key_dim),
        merge=normal(generator, 2, s.heads, s.ranks),
        cores=normal(generator, s.cores, s.heads, s.ranks, s.ranks),
        permutation=torch.randperm(s.keys**2, generator=generator),
        values=normal(generator, table, s.value_dim),
        pre_values=pre,
        offset=table - window // 3,
    )


def room(sizes: MemorySizes, tokens: int) -> MemoryBuffers:
    """Buffers in which nothing that a kernel must write is right beforehand."""
    buffers = MemoryBuffers.make(sizes, tokens=tokens, device="cpu")
    for buffer in buffers.scores, buffers.sides, buffers.weights, buffers.partial:
        buffer.fill_(torch.nan)
    for buffer in buffers.places, buffers.rows:
        buffer.fill_(-1)
    for buffer in buffers.side_room, buffers.grid_room:
        buffer.fill_(2**62)
    return buffers


def run(
    projected: Tensor, sizes: MemorySizes, weights: MemoryWeights, *, together: bool = False,
    declared: Tensor | None = None,
) -> tuple[MemoryBuffers, Tensor]:  # fmt: skip
    """The chain from the projection on; buffers, and the sum of the rows [T, g Dv]."""
    tokens = projected.shape[0]
    buffers = room(sizes, tokens)
    out = poisoned(tokens, sizes.sums * sizes.value_dim)
    keys = described(weights.keys, TILE)
    score_keys(projected, keys, buffers.scores, TILE, sizes)
    choose_sides(projected, sizes, weights, buffers, eps=EPS)
    summed = out if together else None
    choose_rows(projected, sizes, weights, buffers, summed, declared=declared)
    if not together:
        sum_rows(projected, sizes, weights, buffers, out)
    assert not buffers.arrived.any()
    return buffers, out


def check(
    projected: Tensor, sizes: MemorySizes, weights: MemoryWeights, buffers: MemoryBuffers,
    out: Tensor,
) -> None:  # fmt: skip
    """Each kernel's results from what the kernels before it gave."""
    scores = oracles.key_scores(projected, sizes, weights.keys)
    assert error(buffers.scores, scores) < EXACT
    assert weights.cores is not None
    factors = oracles.norm_factors(projected, sizes, EPS)
    merged = oracles.merged(buffers.scores, weights.merge, factors)
    assert torch.equal(buffers.places.long(), oracles.best(merged, sizes.kept))
    sides = oracles.chosen_sides(buffers.scores, buffers.places, factors)
    assert error(buffers.sides, sides) < EXACT
    points = oracles.best(oracles.grid(buffers.sides, weights.cores), sizes.reads)
    rows = oracles.rows_at(points, buffers.places, sizes, weights.permutation)
    assert torch.equal(buffers.rows.long(), rows)
    assert all(len(set(row)) == sizes.reads for row in points.flatten(0, 1).tolist())
    by_core = oracles.by_core(buffers.sides, weights.cores)
    assert error(buffers.weights, oracles.weights_at(points, by_core)) < EXACT
    total = oracles.summed_rows(projected, sizes, weights, buffers.rows, buffers.weights)
    assert error(out, total) < EXACT


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("name", list(CASES))
def test_every_kernel(generator: torch.Generator, name: str, tokens: int) -> None:
    sizes = CASES[name]
    weights = random_weights(generator, sizes)
    projected = normal(generator, tokens, sizes.projected)
    buffers, out = run(projected, sizes, weights)
    check(projected, sizes, weights, buffers, out)
    assert buffers.rows.max() < sizes.keys**2


@pytest.mark.parametrize(
    "name", [name for name, sizes in CASES.items() if sums_too(replace(sizes, reads=1))]
)
def test_one_block_may_choose_read_and_sum(generator: torch.Generator, name: str) -> None:
    sizes = CASES[name]
    weights = random_weights(generator, sizes)
    projected = normal(generator, 2, sizes.projected)
    buffers, out = run(projected, sizes, weights, together=True)
    check(projected, sizes, weights, buffers, out)


def test_sizes_of_a_published_model(generator: torch.Generator) -> None:
    sizes = replace(SIZES, keys=1500, kept=128, reads=128)
    weights = random_weights(generator, sizes)
    projected = normal(generator, 1, sizes.projected)
    buffers, out = run(projected, sizes, weights)
    check(projected, sizes, weights, buffers, out)
    assert buffers.partial.shape[1] == 32


@pytest.mark.parametrize("tokens", [1, 2000])
def test_a_slice_may_hold_all_rows_and_the_last_one_none(
    generator: torch.Generator, tokens: int
) -> None:
    sizes = replace(SIZES, reads=9, kept=3, expansion=4, sums=4)
    weights = random_weights(generator, sizes)
    buffers = room(sizes, 2)
    slices = usual_slices(sizes, tokens)
    assert slices == (3 if tokens == 1 else 1)
    buffers.rows.copy_(torch.randint(0, 1369, (2, 9), generator=generator))
    buffers.weights.copy_(normal(generator, 2, 9, 2))
    projected = normal(generator, 2, sizes.projected)
    results = []
    for count in (slices, 4, 7):  # 4: slices of 3 rows and an empty one; 7: of 2, two empty ones
        partial = poisoned(2, count, 80)
        out = poisoned(2, 80)
        sum_rows(projected, sizes, weights, replace(buffers, partial=partial), out)
        results.append(out)
    total = oracles.summed_rows(projected, sizes, weights, buffers.rows, buffers.weights)
    assert all(error(out, total) < EXACT for out in results)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("expansion", [1, 4])
def test_declared_rows_are_read_with_the_weights_of_the_chosen(
    generator: torch.Generator, expansion: int, *, together: bool
) -> None:
    sizes = replace(SIZES, expansion=expansion)
    weights = random_weights(generator, sizes)
    projected = normal(generator, 3, sizes.projected)
    chosen, _ = run(projected, sizes, weights)
    declared = torch.randint(0, sizes.keys**2 // expansion, (3, 6), generator=generator)
    buffers, out = run(projected, sizes, weights, declared=declared, together=together)
    assert torch.equal(buffers.weights, chosen.weights)
    assert torch.equal(buffers.rows.long(), declared * expansion + chosen.rows.long() % expansion)
    total = oracles.summed_rows(projected, sizes, weights, buffers.rows, buffers.weights)
    assert error(out, total) < EXACT


def of_ones(weights: MemoryWeights) -> MemoryWeights:
    """Cores of ones, so that scores can be added up by hand."""
    assert weights.cores is not None
    return replace(weights, cores=torch.ones_like(weights.cores))


def test_equal_points_go_to_the_lower_line_then_column(generator: torch.Generator) -> None:
    weights = of_ones(random_weights(generator, SIZES))
    assert weights.permutation is not None
    buffers = room(SIZES, 1)
    buffers.places.copy_(torch.arange(7).expand_as(buffers.places))
    buffers.sides.fill_(0.0)
    buffers.sides[0, 0, 0, 0] = torch.tensor([0.0, 1, 0, 2, 1, 0, 0])
    buffers.sides[0, 1, 0, 1] = torch.tensor([0.0, 0, 1, 0, 0, 1, 2])
    choose_rows(normal(generator, 1, SIZES.projected), SIZES, weights, buffers)
    # scores 4, then 2 at (1, 6), (3, 2), (3, 5), (4, 6), then the first of the ones
    points = torch.tensor([[3, 6], [1, 6], [3, 2], [3, 5], [4, 6], [1, 2]])
    expected = weights.permutation[points[:, 0] * SIZES.keys + points[:, 1]]
    assert torch.equal(buffers.rows[0].long(), expected)
    assert buffers.weights[0, :, 0].tolist() == [4, 2, 2, 2, 2, 1]


def test_a_point_below_the_least_of_all_groups_is_chosen_where_groups_are_too_few(
    generator: torch.Generator,
) -> None:
    """7 of 9 points in 8 groups, of which padding fills two: their bound lets 6 points through."""
    sizes = replace(SIZES, kept=3, reads=7)
    weights = of_ones(random_weights(generator, sizes))
    assert weights.permutation is not None
    buffers = room(sizes, 1)
    buffers.places.copy_(torch.arange(3).expand_as(buffers.places))
    buffers.sides.fill_(1.0)
    buffers.sides[0, 0, 0, :, 2] = 0.0
    choose_rows(normal(generator, 1, sizes.projected), sizes, weights, buffers)
    points = torch.tensor([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)])
    expected = weights.permutation[points[:, 0] * sizes.keys + points[:, 1]]
    assert torch.equal(buffers.rows[0].long(), expected)


@pytest.mark.parametrize(
    ("heads", "reads", "together"), [(1, 32, True), (1, 33, False), (2, 32, False)]
)
def test_one_head_with_few_rows_reads_them_in_the_launch_that_chooses(
    heads: int, reads: int, *, together: bool
) -> None:
    assert sums_too(replace(SIZES, heads=heads, reads=reads)) is together


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_one_tokens_poison_stays_with_it_and_leads_nowhere_outside(
    generator: torch.Generator, poison: float, *, together: bool
) -> None:
    weights = random_weights(generator, SIZES)
    projected = normal(generator, 3, SIZES.projected)
    alone, expected = run(projected, SIZES, weights, together=together)
    projected[1, 5] = poison
    buffers, out = run(projected, SIZES, weights, together=together)
    assert buffers.rows.min() >= 0
    assert buffers.rows.max() < SIZES.keys**2
    assert len(set(buffers.rows[1].tolist())) == SIZES.reads
    for token in (0, 2):
        assert torch.equal(buffers.rows[token], alone.rows[token])
        assert torch.equal(out[token], expected[token])
