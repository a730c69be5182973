"""One table of rows for several layers: its ring windows, and the rows they touch together."""

import math

import pytest

from costmodel.costs.totals import distinct, stored_weights
from costmodel.layers.operator import Operator
from costmodel.layers.site import Site
from costmodel.layers.touched import Touched
from costmodel.layers.ultramem import UltraMem
from tests.steps import make_step, total


def memory(knum: int, share_ratio: float | None, knn: int = 2) -> UltraMem:
    return UltraMem(
        knum=knum, share_ratio=share_ratio, knn=knn, key_dim=4, value_dim=6, pre_value_dim=4
    )


def ops_of(kind: UltraMem, num_layers: int, tokens: int = 3) -> dict[str, Operator]:
    found = kind.operators(Site.of(range(num_layers), 8), make_step(batch=tokens))
    return {op.path.rpartition(".")[2]: op for op in found}


def touched(ops: dict[str, Operator]) -> Touched:
    found = ops["values"].touched
    assert found is not None
    return found


def table_bytes(ops: dict[str, Operator]) -> int:
    held = stored_weights(ops.values())
    return sum(w.parameters * n for w, n in held if w.group == "memory_values")


@pytest.mark.parametrize(
    ("knum", "num_layers", "share_ratio", "rows", "row_keys"),
    [
        (360, 20, 0.5, 2_592_000, 1138),  # UltraMemV2-227M/1.2B: 1138^2 = 1,295,044
        (528, 16, 0.5, 4_460_544, 1493),  # UltraMemV2-1B/7B
        (360, 20, 0.05, 2_592_000, 360),  # 1/L: no sharing
        (360, 20, 1.0, 2_592_000, 1609),  # 1609^2 = 2,588,881 <= 2,592,000 < 1610^2
        (300, 20, 1 / 20, 1_800_000, 300),
        (300, 7, 1 / 7, 630_000, 300),  # 1/7 is no exact float: still 300, not 299
        (300, 3, 1 / 3, 270_000, 300),
        (300, 97, 1 / 97, 8_730_000, 300),
        (4, 2, 0.5, 32, 4),
        (808, 4, None, 808**2, 808),  # own tables
    ],
)
def test_rows_and_keys_of_a_layer(
    knum: int, num_layers: int, share_ratio: float | None, rows: int, row_keys: int
) -> None:
    kind = memory(knum, share_ratio)
    assert kind.table_rows(num_layers) == rows
    assert kind.row_keys(num_layers) == row_keys
    assert row_keys**2 <= rows
    if share_ratio is not None:
        assert row_keys == math.isqrt(round(rows * share_ratio))


def test_windows_stand_a_layers_rows_apart_on_a_ring() -> None:
    # 3 layers of 4 rows: a table of 12; each reaches floor(sqrt(12 * 0.8)) = 3, 9 rows
    found = touched(ops_of(memory(2, 0.8), 3))
    assert found.windows == ((0, 9), (4, 9), (8, 9))
    assert (found.table_rows, found.population) == (12, 9)


@pytest.mark.parametrize("share_ratio", [1 / 3, 0.5, 0.8, 1.0])
def test_the_union_of_windows_row_by_row(share_ratio: float) -> None:
    ops = ops_of(memory(2, share_ratio), 3)
    found = touched(ops)
    each = found.population * (1 - (1 - 2 / found.population) ** 3)
    union = 0.0
    for row in range(12):
        missed = 1.0
        for index in range(3):
            reach = {(4 * index + step) % 12 for step in range(found.population)}  # wraps
            if row in reach:
                missed *= 1 - each / found.population
        union += 1 - missed
    summed = distinct(ops.values())
    assert summed.rows == pytest.approx(each, rel=1e-12)
    assert summed.rows_union == pytest.approx(union, rel=1e-12)
    # bytes count the reads of every layer, whatever other layers read
    assert total(ops.values(), "row_bytes") == pytest.approx(3 * each * (12 + 8), rel=1e-12)


def test_windows_without_overlap_touch_apart() -> None:
    summed = distinct(ops_of(memory(4, 0.25), 4).values())  # 1/L: each its own 16 rows
    assert summed.rows is not None
    assert summed.rows_union == pytest.approx(4 * summed.rows, rel=1e-12)


def test_several_heads_draw_from_the_rows_of_their_layer() -> None:
    kind = UltraMem(
        knum=2, share_ratio=1.0, knn=1, key_dim=4, value_dim=6, num_heads=3
    )  # one layer: 4 rows, all its own
    summed = distinct(ops_of(kind, 1, tokens=2).values())
    each = 4 * (1 - (3 / 4) ** 6)  # 2 tokens of 3 heads
    assert summed.rows == pytest.approx(each, rel=1e-12)
    assert summed.rows_union == pytest.approx(each, rel=1e-12)
    # two layers over 2 x 4 rows: floor(sqrt(8)) = 2 keys, rows 0-3 and 4-7
    apart = distinct(ops_of(kind, 2, tokens=2).values())
    assert apart.rows_union == pytest.approx(2 * each, rel=1e-12)


def test_a_shared_table_is_stored_once_and_own_ones_each() -> None:
    shared, own = ops_of(memory(4, 0.5), 5), ops_of(memory(4, None), 5)
    assert table_bytes(shared) == 5 * 16 * (6 + 4)  # 80 rows, once
    assert table_bytes(own) == 5 * 16 * (6 + 4)  # 16 rows, five times
    assert [w.rows for w in shared["values"].weights] == [80]
    assert [w.rows for w in own["values"].weights] == [16]
    assert touched(own).table_rows == 0
    assert distinct(own.values()).rows_union is None


def test_each_layer_has_its_own_permutation_and_keys() -> None:
    retrieve = ops_of(memory(4, 0.5), 5)["retrieve"]  # 80 / 2 = 40 rows: 6 keys, 36 reached
    assert retrieve.count == 5
    buffer = retrieve.buffers[0]
    assert (buffer.elements, buffer.element_bytes) == (36, 8)
    assert retrieve.weights[0].rows == 2 * 6 * 2  # sides, keys, ranks
    assert not retrieve.weights[0].shared
