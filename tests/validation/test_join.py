"""Recorded beside predicted, numbers worked out by hand for a model of three layers.

D = 8, V = 11, 2 heads over 1 KV head of 4, FFN 12, bf16. One sequence, 3 tokens cached:
parameters  88 embed, 88 head, 3 (128 qkv + 64 o + 288 FFN + 16 norms), 8 final norm: 1672
cache       held 4 tokens x (4 K + 4 V) x 2 bytes x 3 layers: 192; read 3 tokens: 48 a layer
reads       all weights but the embedding, 3168; of that one row, 16, and an id, 8; cache, 144
"""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.operators import build_operators
from costmodel.costs.predict import predict
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.product_key import ProductKey
from costmodel.recordings.measured import NOT_IN_RUN
from costmodel.recordings.quantities import QUANTITIES, RUNS, measured_in
from costmodel.validation.case_prediction import NO_HARDWARE
from costmodel.validation.counterparts import (
    MODEL_FLOPS,
    PREDICTED,
    ROOFLINE,
    RUN_FACT,
    UNFUSED,
    WHOLE_PROCESS,
)
from costmodel.validation.join import NO_OPERATOR, NO_RUN, join_case
from costmodel.validation.joined import NO_LEAF
from costmodel.validation.machines import Gpus
from tests.backends.kernels import kernels
from tests.costs.calibrations import curves, write
from tests.recording_values import (
    CPU,
    case,
    everything,
    leaf_paths,
    recording,
    run,
    session,
    workload,
)
from tests.steps import tiny_model
from tests.validation.tiny import BOUNDS_ONLY, DENSE, MOE, ROUTERS, numbers, rows_of


def column(**given: float) -> list[float | None]:
    """A column of the dense model; leaves by their names, dots as underlines."""
    found = [given.get(path.replace(".", "_")) for path in leaf_paths(DENSE)]
    assert sum(value is not None for value in found) == len(given)
    return found


def test_the_memory_of_a_process_is_not_set_beside_that_of_the_model() -> None:
    step = {"parameters": 1672, "peak_memory_bytes": 9000, "resident_memory_bytes": 5000}
    rows = rows_of(recording(DENSE, case(time=run(step)), sessions=[session(CPU)]))
    assert numbers(rows["time", "parameters", None]) == (1672, 1672, PREDICTED)
    for name in ("peak_memory_bytes", "resident_memory_bytes"):
        row = rows["time", name, None]
        assert (row.predicted, row.measured, row.reason) == (None, step[name], WHOLE_PROCESS)


def test_numbers_of_the_step_stand_beside_those_worked_out_by_hand() -> None:
    step = {
        "parameters": 1672,
        "buffer_bytes": 0,
        "kv_held_bytes": 192,
        "kv_allocated_bytes": 4096,
        "resident_memory_bytes": 5000,
        "graph_s": 2e-6,
    }
    counters = {"hbm_read_bytes": 6672.0, "hbm_written_bytes": 140.0, "flops_tensor": 14000.0}
    rows = rows_of(
        recording(DENSE, case(time=run(step), counters=run(counters), energy=run({"power_w": 99})))
    )
    assert numbers(rows["time", "parameters", None]) == (1672, 1672, PREDICTED)
    assert numbers(rows["time", "buffer_bytes", None]) == (0, 0, PREDICTED)
    assert numbers(rows["time", "kv_held_bytes", None]) == (192, 192, PREDICTED)
    assert numbers(rows["time", "kv_allocated_bytes", None]) == (None, 4096, "nothing")
    assert rows["time", "kv_allocated_bytes", None].reason == RUN_FACT
    assert numbers(rows["time", "resident_memory_bytes", None]) == (3344 + 192, 5000, PREDICTED)
    read = rows["counters", "hbm_read_bytes", None]
    assert numbers(read) == (3168 + 16 + 8 + 144, 6672, PREDICTED)  # all else stays in L2
    assert read.ratio == 2
    # A token of 48 bytes of cache, and 11 logits
    assert numbers(rows["counters", "hbm_written_bytes", None]) == (48 + 22, 140, PREDICTED)
    # Twice 1,496 weights without norms and embedding, and 3 layers of 2 heads x 4 keys x 4 x 2 x 2
    assert numbers(rows["counters", "flops_tensor", None]) == (3056 + 384, 14000, MODEL_FLOPS)
    floor = (3336 + 70) / 4.8e12
    assert numbers(rows["time", "graph_s", None]) == (pytest.approx(floor), 2e-6, ROOFLINE)
    assert numbers(rows["energy", "power_w", None]) == (None, 99, "nothing")


def test_bytes_of_a_leaf_by_what_is_counted() -> None:
    rows = rows_of(recording(DENSE, case()))
    core = next(
        op
        for op in build_operators(DENSE, Workload(context=3).step())
        if op.path.endswith("attention.core")
    )
    logical = rows["time", "logical_bytes", "layers.0.attention.core"]
    moved = core.total("activation_bytes") + core.total("intermediate_bytes")
    assert numbers(logical) == (48 + moved, None, UNFUSED)
    assert moved > 0
    assert rows["counters", "hbm_bytes", None].predicted == 3336 + 70


def test_a_leaf_carries_median_quartiles_repeats_and_source() -> None:
    made = recording(DENSE, case(trace=run(operators={"kernel_s": column(lm_head=2e-6)})))
    row = rows_of(made)["trace", "kernel_s", "lm_head"]
    assert (row.measured, row.repeats, row.source) == (2e-6, 5, "torch_profiler")
    assert (row.q1, row.q3) == (2e-6 * 0.99, 2e-6 * 1.01)
    assert (row.kind, row.basis, row.reason) == ("matmul", ROOFLINE, None)
    assert row.predicted == pytest.approx((176 + 22) / 4.8e12)
    other = rows_of(made)["trace", "kernel_s", "embed"]
    assert (other.measured, other.reason) == (None, NOT_IN_RUN)


def test_counted_flops_are_those_of_products_attention_and_gathers_with_the_full_square() -> None:
    work = workload(phase="prefill", context=0, new_tokens=4)
    given = column(lm_head=176, embed=0, layers_0_attention_core=512, layers_0_ffn_norm=0)
    rows = rows_of(recording(DENSE, case(work, time=run(operators={"flops_counted": given}))))

    def counted(path: str | None) -> object:
        return rows["time", "flops_counted", path].predicted

    assert counted("lm_head") == 176  # of the last token alone
    assert counted("layers.0.attention.core") == 2 * 2 * (4 * 4) * 4 * 2  # not 10 pairs of 16
    assert counted("layers.0.ffn_norm") == counted("embed") == 0
    assert counted("layers.2.ffn.down") == 2 * 4 * 12 * 8  # silu, of gate_up, is left out
    # 4 tokens x 2 x 480 weights a layer, 512 of attention; the head
    assert counted(None) == 3 * (4 * 960 + 512) + 176


def test_tensor_flops_stand_beside_products_and_attention_and_not_beside_gathers() -> None:
    memory = ProductKey(layers="1", num_keys=4, num_heads=2, knn=3, key_dim=4, value_dim=8)
    rows = rows_of(recording(tiny_model(memory=(memory,)), case()))
    assert rows["time", "flops_counted", "layers.1.memory.values"].predicted == 2 * 2 * 3 * 8
    assert rows["counters", "flops_tensor", "layers.1.memory.values"].predicted == 0
    assert rows["counters", "flops_tensor", "lm_head"].predicted == 176


def test_launches_are_those_of_plain_pytorch() -> None:
    rows = rows_of(recording(DENSE, case(trace=run({"launches": 90}))))
    assert rows["trace", "launches", "layers.0.attention_norm"].predicted == 1
    assert rows["trace", "launches", "layers.1.attention_norm"].predicted == 2  # the add before it
    operators = build_operators(DENSE, Workload(context=3).step())
    summed = kernels().launches_of(operators)
    assert numbers(rows["trace", "launches", None]) == (summed, 90, PREDICTED)


def test_distinct_items_stand_at_the_leaf_that_chooses() -> None:
    paths = leaf_paths(MOE)
    chosen = [5 if path in ROUTERS else None for path in paths]
    made = recording(
        MOE,
        case(workload(batch=2), time=run(operators={"distinct": chosen}), counters=run()),
        paths=paths,
    )
    rows = rows_of(made)
    for router in ROUTERS:
        # 8 experts, each escapes two tokens of 2 choices with 3/4 x 3/4
        assert numbers(rows["time", "distinct", router]) == (8 * (1 - 9 / 16), 5, PREDICTED)
        assert rows["counters", "distinct", router].measured is None
    assert {path for run_, name, path in rows if name == "distinct"} == set(ROUTERS)


def test_a_distinct_count_at_a_leaf_that_is_not_known_to_choose_is_kept() -> None:
    made = recording(DENSE, case(time=run(operators={"distinct": column(embed=3)})))
    assert numbers(rows_of(made)["time", "distinct", "embed"]) == (None, 3, "nothing")


def test_zipf_is_predicted_as_declared() -> None:
    work = workload(batch=2, routing="zipf:1.0")
    made = recording(MOE, case(work, time=run(operators={"distinct": [1] * len(leaf_paths(MOE))})))
    predicted = rows_of(made)["time", "distinct", ROUTERS[0]].predicted
    assert predicted is not None
    assert 2 < predicted < 8 * (1 - 9 / 16)


def test_one_sided_rows_are_kept_with_their_reason() -> None:
    paths = ("lm_head", "layers.9.rogue")
    made = recording(
        DENSE,
        case(trace=run(operators={"launches": [1, 7]}), lacking={"energy": "no power meter"}),
        paths=paths,
    )
    rows = rows_of(made)
    assert numbers(rows["trace", "launches", "layers.9.rogue"]) == (None, 7, "nothing")
    assert rows["trace", "launches", "layers.9.rogue"].reason == NO_OPERATOR
    assert numbers(rows["trace", "launches", "final_norm"]) == (2, None, PREDICTED)
    assert rows["trace", "launches", "final_norm"].reason == NO_LEAF
    assert rows["counters", "hbm_read_bytes", "lm_head"].reason == NO_RUN
    assert rows["counters", "hbm_read_bytes", "lm_head"].predicted == 176
    energy = rows["energy", "energy_j", None].reason
    assert energy is not None
    assert energy.endswith("times are roofline bounds; no power meter")


def test_a_machine_without_a_datasheet_has_all_that_names_no_hardware() -> None:
    step: dict[str, float | str] = {
        "parameters": 1672,
        "eager_s": 1e-3,
        "graph_s": "not measured (no NVIDIA GPU)",
    }
    rows = rows_of(recording(DENSE, case(time=run(step)), sessions=(session(CPU),)))
    assert numbers(rows["time", "parameters", None]) == (1672, 1672, PREDICTED)
    assert numbers(rows["time", "eager_s", None]) == (None, 1e-3, "nothing")
    assert rows["time", "eager_s", None].reason == NO_HARDWARE
    graph = rows["time", "graph_s", None]
    assert (graph.predicted, graph.measured) == (None, None)
    assert graph.reason == f"{NO_HARDWARE}; not measured (no NVIDIA GPU)"


def test_each_run_is_priced_on_the_machine_that_measured_it() -> None:
    made = recording(
        DENSE,
        case(time=run({"eager_s": 1e-3}, in_session=1), counters=run()),
        sessions=(session(), session(CPU)),
    )
    assert rows_of(made)["time", "eager_s", None].reason == NO_HARDWARE


def test_a_calibration_puts_predictions_where_floors_stood(tmp_path: Path) -> None:
    given = column(lm_head=2e-6)
    made = recording(
        DENSE,
        case(
            time=run({"graph_s": 1e-3, "eager_s": 2e-3}),
            trace=run(operators={"kernel_s": given}),
            energy=run({"energy_j": 0.1}),
        ),
    )
    rows = rows_of(made, Gpus(write(tmp_path / "h200.json")))
    time = predict(DENSE, Workload(context=3), load_hardware("h200"), curves()).time
    assert not isinstance(time, Unknown)
    assert numbers(rows["time", "graph_s", None]) == (time.graph_s, 1e-3, PREDICTED)
    assert numbers(rows["time", "eager_s", None]) == (time.eager_s, 2e-3, PREDICTED)
    assert numbers(rows["energy", "energy_j", None]) == (time.energy_j, 0.1, PREDICTED)
    # The head is the last operator: a product [1, 8] x [11, 8] and its launch of 1 us. Its kernel
    # takes that less the pause of the launch
    head = time.operators[-1].seconds
    assert head > 1e-6
    assert numbers(rows["trace", "kernel_s", "lm_head"]) == (head - 0.31e-6, 2e-6, PREDICTED)


def test_energy_of_a_prefill_is_that_of_its_graph_which_was_measured(tmp_path: Path) -> None:
    """Eagerly the host takes longer than the graph: at 100 W idle, the difference costs so much."""
    work = workload(phase="prefill", context=0, new_tokens=4)
    made = recording(DENSE, case(work, energy=run({"energy_j": 0.1})))
    row = rows_of(made, Gpus(write(tmp_path / "h200.json")))["energy", "energy_j", None]
    time = predict(DENSE, work.to_workload(), load_hardware("h200"), curves()).time
    assert isinstance(time, StepTime)
    assert isinstance(time.energy_j, float)
    assert time.eager_s > 2 * time.graph_s
    spared_j = 100 * (time.eager_s - time.graph_s)
    assert row.predicted == pytest.approx(time.energy_j - spared_j)


KNOWN = leaf_paths(MOE)
LEAVES = st.lists(st.sampled_from(KNOWN) | st.from_regex(r"[a-z]{1,3}(\.[0-9])?", fullmatch=True))


@given(leaves=LEAVES.map(dict.fromkeys).map(tuple).filter(bool), data=st.data())
@settings(max_examples=60)
def test_every_path_of_either_side_appears_exactly_once(
    leaves: tuple[str, ...], data: st.DataObject
) -> None:
    numbers = st.lists(st.none() | st.integers(0, 9), min_size=len(leaves), max_size=len(leaves))
    columns = {
        name: data.draw(numbers)
        for name in measured_in("time", "operators")
        if data.draw(st.booleans())
    }
    made = recording(MOE, case(time=run(operators=columns)), paths=leaves)
    joined = join_case(made, 0, BOUNDS_ONLY)
    for name in RUNS:
        for quantity in measured_in(name, "operators"):
            rows = [row for row in joined.rows if (row.run, row.quantity) == (name, quantity)]
            if QUANTITIES[quantity].only:  # tables stand in HBM, and there is no state
                assert not rows
                continue
            paths = [row.path for row in rows if row.path is not None]
            assert len(set(paths)) == len(paths)
            measured = {row.path: row.measured for row in rows if row.measured is not None}
            given = columns.get(quantity, []) if name == "time" else []
            assert measured == {
                path: value for path, value in zip(leaves, given, strict=False) if value is not None
            }
            if quantity == "distinct":
                assert set(paths) == set(ROUTERS) | set(measured)
            else:
                assert set(paths) == set(KNOWN) | set(leaves)
            assert all(row.reason for row in rows if row.measured is None or row.predicted is None)


def test_every_quantity_has_a_row_of_the_step_even_where_nothing_ran() -> None:
    rows = rows_of(recording(DENSE, case()))
    steps = {(run_, name) for run_, name, path in rows if path is None}
    assert steps == {
        (name, each)
        for name in RUNS
        for each in measured_in(name, "step")
        if QUANTITIES[each].only is None
    }
    assert all(row.measured is None and row.reason for row in rows.values())


def test_a_full_recording_has_no_row_without_a_measurement() -> None:
    rows = rows_of(everything(MOE, [workload()]))
    assert all(row.measured is not None for row in rows.values())
    of_hbm = {each.name for each in QUANTITIES.values() if each.only is None}
    assert {name for _, name, _ in rows} == of_hbm


def test_bytes_from_host_memory_stand_beside_the_sectors_of_the_rows() -> None:
    """A table of 16 rows of 16 bytes, two a sector; a token reads 3 rows with each of 2 heads.

    Each of them is a sector over the link, though two heads may read the same.
    """
    memory = ProductKey(layers="1", num_keys=4, num_heads=2, knn=3, key_dim=4, value_dim=8)
    model = tiny_model(memory=(memory,))
    work = replace(workload(), placement="tables=host")
    rows = rows_of(recording(model, case(work, counters=run({"host_read_bytes": 128.0}))))
    assert rows["counters", "host_read_bytes", None].measured == 128
    leaf = rows["counters", "host_read_bytes", "layers.1.memory.values"].predicted
    assert leaf == rows["counters", "host_read_bytes", None].predicted
    assert leaf == 2 * 3 * 32
    assert rows["counters", "host_read_bytes", "lm_head"].predicted == 0
    in_hbm = rows_of(recording(model, case()))
    assert ("counters", "host_read_bytes", None) not in in_hbm
    values = "hbm_read_bytes", "layers.1.memory.values"
    untouched = (13 / 16) ** 2  # a row, by both heads
    assert in_hbm["counters", *values].predicted == 16 * 16 * (1 - untouched)
    assert rows["counters", *values].predicted == 0
