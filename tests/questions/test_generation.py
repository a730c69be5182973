"""Sums over the steps of a generation: exact counts, straight lines between, and the bound."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.costs.predict import predict
from costmodel.inputs.workload import MAX_BATCH, MAX_NEW_TOKENS, Workload
from costmodel.questions import generation as decoding
from costmodel.questions.generation import _sum, one_step
from tests.questions.test_request import GPU, MODELS, served
from tests.strategies import PRESETS


def test_straight_lines_join_the_values_between() -> None:
    assert _sum([1, 4, 8], [0, 3, 5]) == (1 + 2 + 3 + 4 + 6 + 8, 1 * 3 + 0.5 * 4)
    assert _sum([0, 1], [0, 2]) == (2, 0.5)  # 1.5, rounded up
    assert _sum([0.0, 1.0], [0, 2]) == (1.5, 0.5)
    assert _sum([7], [0]) == (7, 0)
    assert _sum([2**62, 2**62, 2**62 + 1], [0, 1, 2]) == (3 * 2**62 + 1, 0)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=60), st.data())
def test_no_rising_or_falling_sequence_leaves_the_bound(
    rises: list[int], data: st.DataObject
) -> None:
    values = [float(value) for value in accumulate(rises)]
    if data.draw(st.booleans()):
        values.reverse()
    inner = data.draw(st.sets(st.integers(1, len(values) - 1)))
    offsets = sorted({0, len(values) - 1} | inner)
    total, bound = _sum([values[i] for i in offsets], offsets)
    assert abs(total - sum(values)) <= bound + 1e-6


@pytest.mark.parametrize("name", MODELS)
def test_a_long_output_is_sampled_within_the_stated_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, first = served(name, 50, 1500, 8), served(name, 50, 2, 8).decode
    monkeypatch.setattr(decoding, "MAX_EVALUATED", 64)
    found = served(name, 50, 1500, 8)
    assert (found.decode.steps, found.decode.evaluated) == (1499, 64)
    assert 0 < found.decode.error_bound < 0.01
    for field in decoding.SUMMED:
        told, right = getattr(found.decode, field), getattr(exact.decode, field)
        assert abs(told / right - 1) <= found.decode.error_bound
        rise = getattr(one_step(exact.end_step), field) - getattr(first, field)
        assert found.decode.error_bound >= 11 * rise / right  # 23 steps or more a gap
    if name != "gpt-oss-20b":  # has windows
        assert found.decode.flops == exact.decode.flops  # straight in the context


def test_the_longest_output_is_bounded_and_its_counts_do_not_wrap() -> None:
    found = served("deepseek-v3", MAX_NEW_TOKENS, MAX_NEW_TOKENS, MAX_BATCH)
    assert found.decode.steps == MAX_NEW_TOKENS - 1
    assert found.decode.evaluated == decoding.MAX_EVALUATED
    assert found.decode.error_bound < 1e-3
    assert found.flops > 2**64
    assert (found.fits, found.max_batch) == (False, 0)
    few = served("deepseek-v3", MAX_NEW_TOKENS, 4, MAX_BATCH)
    steps = [
        predict(PRESETS["deepseek-v3"], Workload(batch=MAX_BATCH, context=MAX_NEW_TOKENS + i), GPU)
        for i in range(3)
    ]
    assert few.decode.flops == sum(step.costs.totals.flops for step in steps)
