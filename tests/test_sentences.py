"""A sentence is held to its numbers and names, in their order, and to nothing else."""

import pytest

from tests.sentences import says

TEXT = "A heading of 7\nM on H200: batch 2,048, -1.5 % off, 1.02e+09 B."


@pytest.mark.parametrize(
    "told", [(2048,), ("M", "H200", 2048, -1.5, 1.02e9), ("batch", 2048, "off"), (7,), ()]
)
def test_numbers_and_names_in_order_are_said(told: tuple[float | str, ...]) -> None:
    assert says(TEXT, *told)


@pytest.mark.parametrize(
    "told", [(200,), (2048, "M"), (7, 2048), (1.5,), (2048, 2048), (48,), ("m",), (1.02,)]
)
def test_another_order_line_or_part_of_a_number_is_not(told: tuple[float | str, ...]) -> None:
    assert not says(TEXT, *told)
