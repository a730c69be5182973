"""What must be resident, by hand, and the largest batch that fits, exactly."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.step import step_costs
from costmodel.costs.totals import KvCache
from costmodel.layers.operator import Buffer, Operator, Part, Weight
from tests.steps import make_step, tiny_model


def kv(stored: int, state: int = 0) -> KvCache:
    return KvCache(
        bytes_per_token=0, stored_bytes=stored, read_bytes=0, written_bytes=0,
        state_bytes_per_sequence=state, state_bytes=state,
    )  # fmt: skip


def wide(border: int, between: int, *, io: int = 0, count: int = 1, **fields: Any) -> Operator:  # noqa: ANN401
    part = Part(
        name="p",
        kind="matmul",
        input_bytes=border,
        inner_output_bytes=between,
        io_written_bytes=io,
        weight_bytes=10**9,  # touched, not alive: plays no part
    )
    return Operator(
        path="x",
        leaf="x",
        count=count,
        kind="matmul",
        parts=(part,),
        formula="",
        source="",
        **fields,
    )


def test_every_term_by_hand() -> None:
    table = Weight(name="t", group="memory_values", rows=7, cols=4, shared="t")
    matrix = Weight(name="w", group="ffn", rows=3, cols=4)
    ops = [
        wide(100, 40, count=5, weights=(matrix, table),
             buffers=(Buffer(name="permutation", elements=11, element_bytes=8),)),
        wide(70, 111, io=10, count=1, weights=(table,)),
    ]  # fmt: skip
    memory = footprint(
        ops, make_step(batch=1, new_tokens=2), kv(700, 300), 8, 10**6, towers_bytes=5000
    )
    weights = 5 * 3 * 4 * 2 + 7 * 4 * 2  # the shared table once
    buffers = 5 * 11 * 8
    # two copies of the stream of 2 tokens of 8; the widest: 70 + 10 + 111/2, rounded up
    activations = 2 * 2 * 8 * 2 + 136
    assert memory == Footprint(
        weights_bytes=weights,
        buffers_bytes=buffers,
        kv_bytes=700,
        state_bytes=300,
        towers_bytes=5000,
        activations_bytes=activations,
        total_bytes=weights + buffers + 5000 + 1000 + activations,
        capacity_bytes=10**6,
        fits=True,
        max_batch=2 * (10**6 - weights - buffers - 5000) // (2 * (1000 + 64) + 271),
    )


def sized(batch: int, capacity: int, **step: Any) -> Footprint:  # noqa: ANN401
    model = tiny_model()
    given_step = make_step(batch=batch, **step)
    costs = step_costs(model, given_step)
    return footprint(costs.operators, given_step, costs.kv_cache, model.hidden_size, capacity)


def test_a_model_by_hand() -> None:
    memory = sized(2, 10**6, cached=9)
    # parameters: costs/test_totals.py; 2 bytes each
    assert memory.weights_bytes == 2 * (3 * (192 + 288 + 16) + 8 + 2 * 88)
    assert memory.buffers_bytes == 0
    assert memory.kv_bytes == 2 * 10 * 3 * 16  # 10 tokens held, 3 layers of 16 bytes
    # widest operator, bytes a token: gate_up (8 + 12 + (24 + 24) / 2) * 2; qkv (8 + 16) * 2;
    # rope (16 + 16 + 12 + 12 ...) * 2 with a rotation between: 2 * 16 + (2 * 12) / 2 elements
    gate_up, qkv, rope = (8 + 12 + 24) * 2, (8 + 16) * 2, (2 * 16 + 12) * 2
    assert memory.activations_bytes == 2 * (2 * 8 * 2 + max(gate_up, qkv, rope))


@pytest.mark.parametrize("short", [0, 1])
def test_fits_to_the_byte(short: int) -> None:
    need = sized(3, 0, cached=9).total_bytes
    memory = sized(3, int(need) - short, cached=9)
    assert memory.fits is (short == 0)
    assert memory.max_batch == 3 - short


@settings(max_examples=60)
@given(
    st.integers(1, 50), st.integers(0, 40), st.integers(1, 5), st.integers(0, 200_000),
    st.sampled_from(["last", "all"]),
)  # fmt: skip
def test_the_largest_batch_fits_and_one_more_does_not(
    batch: int, cached: int, new: int, capacity: int, logits: str
) -> None:
    def at(count: int) -> Footprint:
        return sized(count, capacity, cached=cached, new_tokens=new, logits=logits)

    largest = int(at(batch).max_batch)
    assert largest >= 0
    if largest:
        assert at(largest).fits
    assert not at(largest + 1).fits
    assert at(largest + 1).max_batch == largest  # whatever the batch asked for


def test_weights_beyond_the_capacity_leave_no_batch() -> None:
    memory = sized(1, 100)
    assert memory.fits is False
    assert memory.max_batch == 0


def test_a_capacity_of_each_gpu_at_once() -> None:
    capacities = np.array([100, 10_000, 10**6])
    model, step = tiny_model(), make_step(batch=2, cached=9)
    costs = step_costs(model, step)
    memory = footprint(costs.operators, step, costs.kv_cache, model.hidden_size, capacities)
    one_by_one = [sized(2, int(capacity), cached=9) for capacity in capacities]
    assert isinstance(memory.fits, np.ndarray)
    assert isinstance(memory.max_batch, np.ndarray)
    assert memory.fits.tolist() == [one.fits for one in one_by_one]
    assert memory.max_batch.tolist() == [one.max_batch for one in one_by_one]
