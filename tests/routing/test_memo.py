"""A memo of a routing: the same expectations, each worked out once."""

from typing import Any

import numpy as np
import pytest

from costmodel.routing.expectation import Expected
from costmodel.routing.memo import RoutingMemo
from costmodel.routing.popularity import Uniform, Zipf


class Counting(Uniform):
    """Counts how often it works out an expectation."""

    calls = 0

    def expected_distinct(self, *args: Any, **kwargs: Any) -> Expected:  # noqa: ANN401
        type(self).calls += 1
        return super().expected_distinct(*args, **kwargs)


@pytest.mark.parametrize("routing", [Uniform(), Zipf(1.0)])
def test_answers_are_those_of_the_routing(routing: Uniform | Zipf) -> None:
    memo = RoutingMemo(routing)
    assert memo.label == routing.label
    for trials in (np.array([[1.0], [64.0]]), np.array([[1.0, 64.0]]), np.array([2, 3]), 7):
        for population, draws, copies in ((64, 8, 1), (64, 9, 1), (65, 8, 1), (64, 8, 4)):
            for _ in range(2):
                expected = routing.expected_distinct(
                    population, draws, trials, kind="rows", copies=copies
                )
                kept = memo.expected_distinct(population, draws, trials, kind="rows", copies=copies)
                np.testing.assert_array_equal(kept, expected, strict=isinstance(trials, np.ndarray))


def test_a_question_is_put_once_and_its_answer_cannot_be_written_over() -> None:
    memo = RoutingMemo(Counting())
    first = memo.expected_distinct(64, 8, np.array([1.0, 2.0]), kind="experts")
    again = memo.expected_distinct(64, 8, np.array([1.0, 2.0]), kind="experts")
    assert again is first
    assert Counting.calls == 1
    assert isinstance(first, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    for other in (np.array([1.0, 3.0]), np.array([[1.0, 2.0]])):
        memo.expected_distinct(64, 8, other, kind="experts")
    memo.expected_distinct(64, 8, np.array([1.0, 2.0]), kind="rows")
    assert Counting.calls == 4
