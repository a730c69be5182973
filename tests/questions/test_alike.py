"""The routing of the least traffic: no other touches fewer items."""

import numpy as np
import pytest

from costmodel.questions.published.alike import Alike
from costmodel.routing.popularity import Uniform, Zipf


@pytest.mark.parametrize("tokens", [1, 7, 4096])
@pytest.mark.parametrize(("population", "draws"), [(8, 2), (256, 8), (4, 4)])
def test_every_token_touches_the_same_items(population: int, draws: int, tokens: int) -> None:
    alike = Alike().expected_distinct(population, draws, tokens, kind="experts")
    assert (
        alike == draws == Alike().touched_by_rank(population, draws, tokens, kind="experts").sum()
    )
    for other in (Uniform(), Zipf(10.0)):
        distinct = other.expected_distinct(population, draws, tokens, kind="experts")
        assert alike <= distinct * (1 + 1e-12)


def test_over_an_array_of_tokens() -> None:
    tokens = np.array([[1], [64]])
    distinct = Alike().expected_distinct(64, 8, tokens, kind="experts")
    assert isinstance(distinct, np.ndarray)
    assert distinct.tolist() == [[8.0], [8.0]]


def test_rows_of_one_n_gram() -> None:
    assert Alike().expected_distinct_hashed(1000, 64, order=2) == 1
    assert Alike().hot_share_hashed(1000, 1, order=2) == 1
    assert Alike().expected_distinct_hashed(1000, 64, order=1) == 1


def test_hot_items_are_those_that_are_chosen() -> None:
    assert Alike().hot_share(64, 8, 2, kind="rows") == 2 / 8
    assert Alike().expected_distinct(64, 8, 5, kind="rows", hot=2) == 6
    assert Alike().expected_distinct(64, 8, 5, kind="rows", hot=20) == 0
    assert Alike().label == "all alike"
