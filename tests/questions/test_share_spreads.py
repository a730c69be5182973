"""The spread of shares between GPUs and formats: by hand, and as the constants say it."""

from dataclasses import replace
from math import log, sqrt

import pytest

from costmodel.costs.transfer import OTHER_FORMAT, OTHER_VENDOR, SAME_VENDOR
from costmodel.questions.published.public_bounds import PublicBounds, RowBound, public_bounds
from costmodel.questions.published.public_rows import public_rows
from costmodel.questions.published.share_spreads import (
    ShareSpread,
    between_formats,
    between_gpus,
    combined,
)


@pytest.fixture(scope="module")
def found() -> PublicBounds:
    return public_bounds(public_rows())


def test_the_constants_are_the_spreads_of_the_shipped_rows(found: PublicBounds) -> None:
    gpus, formats = between_gpus(found.bounds), between_formats(found.bounds)
    others = [one for one in gpus if any(name.startswith("mi") for name in one.between)]
    same = [one for one in gpus if one not in others]
    for spreads, constant, pairs, kinds in (
        (same, SAME_VENDOR, 416, 9),
        (others, OTHER_VENDOR, 92, 2),
        (formats, OTHER_FORMAT, 205, 8),
    ):
        assert combined(spreads) == pytest.approx(constant, abs=0.005)
        assert (sum(one.pairs for one in spreads), len(spreads)) == (pairs, kinds)


def test_two_rows_that_differ_in_the_gpu_alone_are_a_pair(found: PublicBounds) -> None:
    first = next(one for one in found.bounds if one.point.setting.gpu == "h200")
    other = _on(first, "b200", share=first.share / 2)
    unlike = replace(other, point=replace(other.point, row=replace(other.row, batch=3.5)))
    (spread,) = between_gpus([first, other, unlike])
    assert (spread.between, spread.pairs) == (("b200", "h200"), 1)
    assert spread.spread == pytest.approx(log(2))
    assert between_gpus([_on(first, "b200", share=0.5), _on(first, "b300", share=0.2)]) == ()


def test_spreads_count_alike() -> None:
    spreads = [
        ShareSpread(between=("a", "b"), pairs=1, spread=0.1),
        ShareSpread(between=("a", "c"), pairs=99, spread=0.7),
    ]
    assert combined(spreads) == pytest.approx(sqrt(0.25))


def _on(one: RowBound, gpu: str, share: float) -> RowBound:
    setting = replace(one.point.setting, gpu=gpu)
    bound_s = share * one.row.measured_s
    return replace(one, point=replace(one.point, setting=setting), bound_s=bound_s)
