"""A routing that remembers: the same answers, each question put to the routing once."""

from typing import Any

import numpy as np
import pytest

from costmodel.routing.memo import Remembered
from costmodel.routing.popularity import Expected, Uniform, Zipf


class Counting(Uniform):
    """Counts how often it is asked."""

    asked = 0

    def expected_distinct(self, *args: Any, **kwargs: Any) -> Expected:  # noqa: ANN401
        type(self).asked += 1
        return super().expected_distinct(*args, **kwargs)


@pytest.mark.parametrize("routing", [Uniform(), Zipf(1.0)])
def test_answers_are_those_of_the_routing(routing: Uniform | Zipf) -> None:
    remembered = Remembered(routing)
    assert remembered.label == routing.label
    for trials in (np.array([[1.0], [64.0]]), np.array([[1.0, 64.0]]), np.array([2, 3]), 7):
        for population, draws, copies in ((64, 8, 1), (64, 9, 1), (65, 8, 1), (64, 8, 4)):
            for _ in range(2):
                said = routing.expected_distinct(
                    population, draws, trials, kind="rows", copies=copies
                )
                found = remembered.expected_distinct(
                    population, draws, trials, kind="rows", copies=copies
                )
                np.testing.assert_array_equal(found, said, strict=isinstance(trials, np.ndarray))


def test_a_question_is_put_once_and_its_answer_cannot_be_written_over() -> None:
    remembered = Remembered(Counting())
    first = remembered.expected_distinct(64, 8, np.array([1.0, 2.0]), kind="experts")
    again = remembered.expected_distinct(64, 8, np.array([1.0, 2.0]), kind="experts")
    assert again is first
    assert Counting.asked == 1
    assert isinstance(first, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0
    for other in (np.array([1.0, 3.0]), np.array([[1.0, 2.0]])):
        remembered.expected_distinct(64, 8, other, kind="experts")
    remembered.expected_distinct(64, 8, np.array([1.0, 2.0]), kind="rows")
    assert Counting.asked == 4
