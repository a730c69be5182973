"""Fused sums over table rows against loops, and gradients into the rows that were read."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reference_model.value_tables import TableView, dots, grouped_weighted_sum, weighted_sum
from tests.reference_model.tiny import array, assert_close, noise

TOKENS, READS, ROWS, WIDTH = 4, 6, 10, 12


def drawn(slices: int) -> tuple[Tensor, Tensor, Tensor]:
    """A table, rows that repeat within a token, weights."""
    generator = torch.Generator().manual_seed(slices)
    rows = torch.randint(ROWS, (TOKENS, READS), generator=generator)
    rows[0] = 3
    weights = noise(TOKENS, READS, slices, seed=slices, dtype=torch.float64)
    return noise(ROWS, WIDTH, dtype=torch.float64), rows, weights


@pytest.mark.parametrize("slices", [1, 2, 3, 12])
def test_weighted_sum_equals_a_loop(slices: int) -> None:
    table, rows, weights = drawn(slices)
    want = np.zeros((TOKENS, WIDTH))
    width = WIDTH // slices
    for token in range(TOKENS):
        for read in range(READS):
            for column in range(WIDTH):
                weight = array(weights)[token, read, column // width]
                want[token, column] += weight * array(table)[int(rows[token, read]), column]
    assert_close(weighted_sum(table, rows, weights), want, 1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4, 9])
@pytest.mark.parametrize("slices", [1, 2, 3])
def test_grouped_sum_equals_a_loop_with_empty_groups(slices: int, groups: int) -> None:
    table, rows, weights = drawn(slices)
    of_group = torch.randint(groups, (TOKENS, READS), generator=torch.Generator().manual_seed(1))
    of_group[0] = groups - 1  # the other groups of the first token are empty
    of_group[-1] = 0  # and the last ones of the last token
    want = np.zeros((TOKENS, groups, WIDTH))
    width = WIDTH // slices
    for token in range(TOKENS):
        for read in range(READS):
            for column in range(WIDTH):
                weight = array(weights)[token, read, column // width]
                value = array(table)[int(rows[token, read]), column]
                want[token, int(of_group[token, read]), column] += weight * value
    got = grouped_weighted_sum(table, rows, weights, of_group, groups)
    assert_close(got, want.reshape(TOKENS, -1), 1e-12)


def test_dots_equal_a_loop() -> None:
    table, rows, _ = drawn(1)
    x = noise(TOKENS, WIDTH, seed=5, dtype=torch.float64)
    want = [[array(table)[int(row)] @ array(x[t]) for row in rows[t]] for t in range(TOKENS)]
    assert_close(dots(table, rows, x), np.array(want), 1e-12)


@pytest.mark.parametrize("groups", [1, 4])
def test_gradients_reach_rows_and_weights(groups: int) -> None:
    table, rows, weights = drawn(2)
    table.requires_grad_()
    weights.requires_grad_()

    def summed(table: Tensor, weights: Tensor) -> Tensor:
        if groups == 1:
            return weighted_sum(table, rows, weights)
        return grouped_weighted_sum(table, rows, weights, rows % groups, groups)

    assert torch.autograd.gradcheck(summed, (table, weights))


def test_a_view_maps_virtual_rows_into_its_ring() -> None:
    table = nn.Parameter(torch.zeros(10, 4))
    whole = TableView(table=table, offset=0)
    assert whole.rows(torch.arange(10)).tolist() == list(range(10))
    ring = TableView(table=table, offset=7)
    assert ring.rows(torch.arange(6)).tolist() == [7, 8, 9, 0, 1, 2]
    virtual = TableView(table=table, offset=7, copies=4)
    assert virtual.rows(torch.arange(24)).tolist() == [
        row for row in (7, 8, 9, 0, 1, 2) for _ in range(4)
    ]
