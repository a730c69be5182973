"""Rows of tables that layers share: one preset by hand, and laws over random models."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.costs.predict import predict
from costmodel.costs.step import step_costs
from costmodel.costs.totals import stored_weights
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Operator, Step
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from costmodel.questions.compare import compare
from costmodel.routing.popularity import Zipf
from costmodel.show.tables.comparison import comparison_table
from costmodel.show.tables.notes import cold_l2_note
from tests.costs.calibrations import curves
from tests.sentences import says
from tests.steps import make_step, tiny_model
from tests.strategies import models, product_key, steps, ultramem

if TYPE_CHECKING:
    from costmodel.layers.base import MemoryKind

H200 = load_hardware("h200")
PREFILL = Workload(phase="prefill", batch=1, context=0, new_tokens=8192)


def near(value: object) -> object:
    return pytest.approx(value, rel=1e-12)


@st.composite
def sharing(draw: st.DrawFn) -> ModelConfig:
    """Two to five layers with one table."""
    drawn: MemoryKind = draw(ultramem("all") | product_key("all", 8, replaces=False))
    memory: UltraMem | ProductKey
    if isinstance(drawn, UltraMem):
        memory = replace(drawn, share_ratio=draw(st.sampled_from([0.4, 0.5, 0.75, 1.0])))
    else:
        assert isinstance(drawn, ProductKey)
        memory = replace(drawn, shared_table=True)
    return tiny_model(num_hidden_layers=draw(st.integers(2, 5)), memory=(memory,))


def reading(model: ModelConfig, step: Step) -> list[Operator]:
    return [operator for operator in step_costs(model, step).operators if operator.rows is not None]


def union_row_by_row(model: ModelConfig, distinct: float) -> float:
    """Rows that a layer touches, laid over the table one by one."""
    (memory,), layers = model.memory, model.num_hidden_layers
    if isinstance(memory, ProductKey):
        rows = memory.num_keys**2
        return rows * (1 - (1 - distinct / rows) ** layers)
    assert isinstance(memory, UltraMem)
    rows, reach = memory.table_rows(layers), memory.row_keys(layers) ** 2
    union = 0.0
    for row in range(rows):
        reached_by = sum((row - layer * memory.knum**2) % rows < reach for layer in range(layers))
        union += 1 - (1 - distinct / reach) ** reached_by
    return union


def test_a_prefill_of_memory_plus_reads_no_more_than_its_table() -> None:
    found = predict(load_model("memory-plus-227m-1.2b"), PREFILL, H200).costs
    rows, width, layers = 1138**2, 768 * 2, 4
    distinct = rows * (1 - (1 - 80 / rows) ** (2 * 8192))  # two heads of 80 rows
    assert found.rows.read_bytes == near(layers * distinct * width)
    assert found.totals.row_bytes == pytest.approx(
        width * rows * (1 - (1 - distinct / rows) ** layers), rel=1e-12
    )
    assert (rows * width, round(layers * distinct * width / 1e6)) == (1_989_187_584, 5065)
    assert round(float(found.totals.row_bytes) / 1e6) == 1954
    assert round(float(found.totals.compulsory_bytes) / 1e7) == 295


@settings(max_examples=60)
@given(model=sharing(), step=steps())
def test_each_layer_is_charged_its_share_of_the_union(model: ModelConfig, step: Step) -> None:
    operators = reading(model, step)
    (touched,) = (op.touched for op in operators if op.touched is not None)
    union = union_row_by_row(model, float(touched.distinct))
    layers = model.num_hidden_layers
    assert operators
    for operator in operators:
        (table,) = operator.weights
        width = table.row_bytes(step)
        assert operator.row_read_bytes == near(touched.distinct * width)
        assert layers * operator.total("row_bytes") == near(union * width)
        assert layers * operator.repeated_row_bytes == pytest.approx(
            (layers * float(touched.distinct) - union) * width, rel=1e-9, abs=1e-6
        )


@settings(max_examples=60)
@given(model=sharing() | models(), step=steps())
def test_rows_lie_between_one_layers_and_the_table(model: ModelConfig, step: Step) -> None:
    costs = step_costs(model, step)
    stored = sum(
        weight.stored_bytes(step) * copies
        for weight, copies in stored_weights(costs.operators)
        if weight.group == "memory_values"
    )
    rows, read = costs.totals.row_bytes, costs.rows.read_bytes
    assert rows <= read * (1 + 1e-12)  # union <= row reads
    assert rows <= stored * (1 + 1e-12)
    assert rows * (1 - 1e-12) <= costs.rows.sector_bytes <= stored * (1 + 1e-12)
    for operator in costs.operators:
        count, one = operator.count, operator.row_read_bytes
        assert one * (1 - 1e-12) <= count * operator.total("row_bytes") <= count * one * (1 + 1e-12)
        touched = operator.touched
        if touched is not None:
            assert touched.distinct <= touched.population * (1 + 1e-12)


@settings(max_examples=60)
@given(model=sharing() | models(), step=steps())
def test_parts_and_operators_sum_to_the_step(model: ModelConfig, step: Step) -> None:
    costs = step_costs(model, step)
    for name in ("row_bytes", "read_bytes", "compulsory_bytes"):
        parts = sum(op.count * getattr(part, name) for op in costs.operators for part in op.parts)
        operators = sum(op.count * op.total(name) for op in costs.operators)
        assert getattr(costs.totals, name) == near(parts) == near(operators)
    assert costs.rows.read_bytes == sum(op.count * op.row_read_bytes for op in costs.operators)


workloads = st.builds(
    Workload,
    phase=st.just("prefill"),
    batch=st.integers(1, 50),
    context=st.integers(0, 100),
    new_tokens=st.integers(1, 50),
    routing=st.sampled_from([Workload().routing, Zipf(1.0)]),
)


@settings(max_examples=40)
@given(model=sharing() | models(), workload=workloads)
def test_no_bound_is_above_what_is_predicted(model: ModelConfig, workload: Workload) -> None:
    found = predict(model, workload, H200, curves())
    time: Any = found.time
    assert found.floor_s <= time.graph_s <= time.eager_s
    for operator, layer in zip(found.costs.operators, time.operators, strict=True):
        assert found.operator_floor_s(operator) <= layer.seconds
    touched = found.costs.totals.weight_bytes + found.costs.totals.row_bytes
    embedding = model.vocab_size * model.hidden_size * 2  # of a tied one rows are read twice
    assert touched <= (found.memory.weights_bytes + embedding) * (1 + 1e-12)


def test_a_table_of_ones_own_is_charged_whole() -> None:
    memory = UltraMem(layers="0-2", knum=4, knn=2, key_dim=4, value_dim=4)
    model = tiny_model(memory=(memory,))
    (operator,) = reading(model, make_step(batch=3))
    assert operator.rows is not None
    assert operator.rows.read_bytes == operator.total("row_bytes") > 0
    assert operator.repeated_row_bytes == 0


def test_rows_that_are_no_multiple_of_a_sector_move_more() -> None:
    # rows of 4 elements, 8 bytes, four in a sector; 16 rows, each missed by both layers 49/64
    memory = ProductKey(
        layers="0-1", num_keys=4, num_heads=1, knn=2, key_dim=4, value_dim=4, output_projection=True
    )
    model = tiny_model(memory=(memory,), num_hidden_layers=2)
    costs = step_costs(model, make_step(batch=1))
    assert costs.totals.row_bytes == 8 * 16 * (1 - 49 / 64)
    missed = (49 / 64) ** 4
    assert costs.rows.sector_bytes == pytest.approx(32 * 4 * (1 - missed), rel=1e-12)


@pytest.mark.parametrize("value_dim", [4, 16])
def test_arrays_give_what_single_steps_give(value_dim: int) -> None:
    memory = UltraMem(layers="0-2", knum=5, share_ratio=0.8, knn=3, key_dim=4, value_dim=value_dim)
    model = tiny_model(memory=(memory,))
    batches = np.array([1, 2, 7, 500])
    together = step_costs(model, replace(make_step(), batch=batches, tokens=batches))
    for index, batch in enumerate(batches.tolist()):
        alone = step_costs(model, make_step(batch=batch))
        for name in ("read_bytes", "sector_bytes"):
            column = np.broadcast_to(getattr(together.rows, name), batches.shape)
            assert column[index] == getattr(alone.rows, name)
        assert np.broadcast_to(together.totals.row_bytes, batches.shape)[index] == (
            alone.totals.row_bytes
        )


def test_energy_counts_what_every_layer_reads() -> None:
    """A prediction, not a bound: L2 is too small to keep the rows of a table for the next layer."""
    shared = load_model("memory-plus-227m-1.2b")
    (memory,) = shared.memory
    assert isinstance(memory, ProductKey)
    own = replace(shared, memory=(replace(memory, shared_table=False),))
    found = [predict(model, PREFILL, H200, curves()) for model in (shared, own)]
    times: list[Any] = [prediction.time for prediction in found]
    assert found[0].costs.totals.row_bytes < 0.4 * found[1].costs.totals.row_bytes
    assert times[0].energy_j == pytest.approx(times[1].energy_j, rel=1e-9)
    assert times[0].energy_j < 700 * times[0].predicted_s  # not at the power limit


@pytest.mark.parametrize("less", [0, 1])
def test_a_step_that_l2_could_hold_is_marked(less: int) -> None:
    model, workload = tiny_model(vocab_size=2**17), Workload(context=3)
    moved = math.ceil(step_costs(model, workload.step()).totals.compulsory_bytes)
    found = predict(model, workload, replace(H200, l2_bytes=moved - less))
    assert found.fits_l2 is (less == 0)
    assert bool(cold_l2_note(found)) is found.fits_l2
    large = predict(load_model("llama-3.1-8b"), workload, H200)
    assert not large.fits_l2


def test_a_comparison_names_the_steps_that_l2_could_hold() -> None:
    small, large = tiny_model(), load_model("llama-3.1-8b")
    tables = [
        comparison_table(compare(pair, Workload(context=3), H200, batches=(1, 2)))
        for pair in ([small, large], [large, large])
    ]
    notes = [[note for note in table.notes if "L2" in note] for table in tables]
    assert len(notes[0]) == 1
    assert says(notes[0][0], "cold L2", "tiny at batch 1", "tiny at batch 2")
    assert notes[1] == []
