"""Batched operators: prices and sums of each are those it has alone; what cannot batch differs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from costmodel.backends.step_kernels import Region
from costmodel.costs.latency import OperatorTime, region_time
from costmodel.costs.roofline import Ceilings
from costmodel.costs.totals import totals
from costmodel.layers.kernel_shape import Attend, Gemm, Grouped, Rows, Shape, TopK
from costmodel.layers.operator import Operator, Part
from costmodel.questions.designs.batched import OperatorBatch, structure
from tests.backends.kernels import kernels
from tests.costs.calibrations import curves

HAND = curves()
TORCH = kernels()
CEILINGS = Ceilings(hbm_bytes_per_s=4.8e12, peak_flops_per_s=1e15)
BATCHES = np.array([[1.0], [8.0], [500.0]])


def operator(*parts: Part, count: int = 3) -> Operator:
    return Operator(
        path="x", leaf="x", count=count, kind="matmul", parts=parts, formula="f", source="s"
    )


def part(shape: Shape | None = None, **fields: Any) -> Part:  # noqa: ANN401 - any field of a part
    return Part(name="a", kind="matmul", shape=shape, **fields)


def time_of(operator: Operator) -> OperatorTime:
    region = Region(operators=(operator,), layers=operator.layers)
    _, (time,) = region_time(HAND, region, TORCH, CEILINGS)
    return time


def designs() -> list[tuple[Operator, ...]]:
    """Four of one structure: sizes, workloads, zeros and shared numbers mixed."""
    n = BATCHES
    return [
        (
            operator(
                part(Gemm(m=n, n=size, k=100), flops=2 * n * size * 100, weight_bytes=200 * size),
                part(input_bytes=n * size if size > 1 else 0, inner_input_bytes=7),
                part(Grouped(groups=n / size + 1, rows=n * size, n=9, k=10), routing=True),
            ),
            operator(
                part(Rows(reads=n * size, row_bytes=100.0), row_bytes=n * 3),
                part(TopK(rows=n, width=100 * size, chosen=8), compares=n * size),
                part(
                    Attend(batch=n, heads=4, kv_heads=2, head_dim=8, queries=1, keys=50 * size),
                    kv_read_bytes=n * np.array([[1.0, 2.0]]) if size > 2 else n,
                ),
                count=1,
            ),
        )
        for size in (1, 2, 3, 1000)
    ]


def test_each_design_of_a_batch_costs_what_it_costs_alone() -> None:
    many = designs()
    assert len({structure(each, TORCH) for each in many}) == 1
    batch = OperatorBatch(many[0])
    for each in many:
        batch.add(each)
    together = batch.together()
    sums = totals(together)
    for i, alone in enumerate(many):
        expected = totals(alone)
        for name in ("flops", "compares", "compulsory_bytes", "activation_bytes"):
            found = np.broadcast_to(getattr(sums, name), (len(many), 3, 2))[i]
            np.testing.assert_array_equal(found, np.broadcast_to(getattr(expected, name), (3, 2)))
        for one, batched in zip(alone, together, strict=True):
            said = time_of(one)
            time = time_of(batched)
            for a, b in ((said.seconds, time.seconds), (said.routing_s, time.routing_s)):
                found = np.broadcast_to(b, (len(many), 3, 2))[i]
                np.testing.assert_allclose(found, np.broadcast_to(a, (3, 2)), rtol=1e-12)


def test_a_number_that_all_share_stays_as_it_is() -> None:
    batch = OperatorBatch(designs()[0])
    for each in designs():
        batch.add(each)
    first = batch.together()[0].parts
    assert first[1].intermediate_bytes == 7
    assert first[0].operations == 1
    weights = first[0].weight_bytes
    assert isinstance(weights, np.ndarray)
    assert weights.ravel().tolist() == [200, 400, 600, 200_000]


ONE = operator(part(TopK(rows=1, width=100, chosen=8)), part(Gemm(m=1, n=2, k=3)))


@pytest.mark.parametrize(
    "other",
    [
        replace(ONE, count=4),
        replace(ONE, parts=ONE.parts[:1]),
        replace(ONE, parts=ONE.parts[::-1]),
        replace(ONE, parts=(replace(ONE.parts[0], operations=2), ONE.parts[1])),
        replace(ONE, parts=(replace(ONE.parts[0], routing=True), ONE.parts[1])),
        replace(ONE, parts=(replace(ONE.parts[0], shape=None), ONE.parts[1])),
        replace(ONE, parts=(part(TopK(rows=1, width=100, chosen=9)), ONE.parts[1])),
    ],
)
def test_what_is_priced_in_another_way_has_another_structure(other: Operator) -> None:
    assert structure([other], TORCH) != structure([ONE], TORCH)
    assert structure([ONE, ONE], TORCH) != structure([ONE], TORCH)
    split = operator(ONE.parts[0]), operator(ONE.parts[1])
    assert structure(split, TORCH) != structure([ONE], TORCH)


def test_sizes_alone_make_no_structure() -> None:
    sizes = part(TopK(rows=BATCHES, width=7, chosen=8), flops=5), part(Gemm(m=4, n=5, k=6, calls=2))
    assert structure([replace(ONE, parts=sizes, path="y")], TORCH) == structure([ONE], TORCH)
