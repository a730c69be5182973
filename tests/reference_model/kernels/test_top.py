"""The m best of n scores, best first and ties by index, against a stable sort."""

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from reference_model.kernels import memory_oracles
from reference_model.kernels.launch import block_of
from reference_model.kernels.top import key_of, most_of, top, top_constants
from tests.reference_model.kernels.making import normal, poisoned


@triton.jit  # type: ignore[untyped-decorator]
def _best(  # noqa: PLR0917 - a kernel
    scores: tl.tensor, out: tl.tensor, room: tl.tensor, N: tl.constexpr, M: tl.constexpr,
    MOST: tl.constexpr, GROUPS: tl.constexpr, CHUNK: tl.constexpr, UNROLL: tl.constexpr,
    BLOCK: tl.constexpr, LANES: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0)
    index = tl.arange(0, BLOCK)
    inside = index < N
    score = tl.load(scores + row * N + index, mask=inside, other=0.0)
    key = key_of(score, inside)
    chosen, rank = top(key, room + row * MOST, M, MOST, GROUPS, CHUNK, UNROLL, BLOCK, LANES)
    tl.store(out + row * M + rank, chosen, mask=rank < M)


def chosen(scores: Tensor, count: int) -> Tensor:
    """The kernel's choice [rows, count] of scores [rows, n]."""
    rows, n = scores.shape
    out = poisoned(rows, count, dtype=torch.int32)
    room = torch.full((rows, most_of(count)), 2**62)  # would win if it were read
    constants: dict[str, Any] = top_constants(count, block_of(n), 1)
    _best[rows,](scores, out, room, N=n, **constants)
    return out.long()


@pytest.mark.parametrize(
    ("n", "count"),
    [(1, 1), (5, 5), (37, 1), (64, 64), (100, 33), (257, 7), (1500, 128), (2000, 80), (5000, 40)],
)
def test_random_scores(generator: torch.Generator, n: int, count: int) -> None:
    scores = normal(generator, 3, n)
    scores[1] *= 1e-30
    scores[2] = scores[2].abs().neg().exp() * 10.0 ** normal(generator, n, std=8.0)
    expected = memory_oracles.best(scores, count)
    assert torch.equal(chosen(scores, count), expected)
    assert torch.equal(scores.topk(count).values, scores.gather(-1, expected))


@pytest.mark.parametrize("values", [1, 2, 5, 50])
@pytest.mark.parametrize(("n", "count"), [(700, 33), (4500, 20), (40, 39)])
def test_ties_go_to_the_lower_index(
    generator: torch.Generator, n: int, count: int, values: int
) -> None:
    scores = torch.randint(-values + 1, values, (3, n), generator=generator).float()
    assert torch.equal(chosen(scores, count), memory_oracles.best(scores, count))


def test_zeros_of_both_signs_are_equal() -> None:
    scores = torch.zeros(1, 300)
    scores[0, ::2] = -0.0
    assert chosen(scores, 20).tolist() == [list(range(20))]


@pytest.mark.parametrize("many", [1, 30, 400])
def test_infinite_scores_and_nan(generator: torch.Generator, many: int) -> None:
    scores = normal(generator, 4, 400)
    for row, poison in enumerate((torch.nan, torch.inf, -torch.inf)):
        scores[row, torch.randperm(400, generator=generator)[:many]] = poison
    scores[3, :3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    scores[3, 7] = -torch.nan
    assert torch.equal(chosen(scores, 24), memory_oracles.best(scores, 24))


def test_one_score_far_above_all_others_hides_none(generator: torch.Generator) -> None:
    scores = normal(generator, 2, 1000, std=1e-20)
    scores[:, 500] = 3e38
    scores[1, 501] = -3e38
    assert torch.equal(chosen(scores, 100), memory_oracles.best(scores, 100))


@pytest.mark.parametrize(("count", "most"), [(1, 2), (32, 64), (80, 128), (128, 256), (768, 1024)])
def test_survivors_are_a_quarter_more_than_the_chosen(count: int, most: int) -> None:
    assert most_of(count) == most
