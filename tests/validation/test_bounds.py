"""The bound, worked out by hand: what a measured read or time may not fall below.

D = 8, 3 layers, 8 experts of 16 x 8 and 8 x 8 weights in bf16: 384 bytes each. One sequence, 3
tokens cached. Reads beside experts: embedding row 16 and id 8; a layer 256 qkv, 128 output, 32
norms, 128 router, 48 cache; final norm 16, head 176. Written: 16 of cache a layer, 22 of logits.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from costmodel.recordings.recording import Recording
from costmodel.validation.bounds import violations
from costmodel.validation.machines import Gpus
from costmodel.validation.required_work import operator_work, required_work
from tests.recording_values import CPU, H200, case, leaf_paths, recording, run, session, workload
from tests.sentences import says
from tests.steps import tiny_model
from tests.validation.tiny import MOE

PATHS = leaf_paths(MOE)
GPUS = Gpus("none")
L2 = 100  # bytes, so that tiny models do not fit
SMALL = replace(H200, l2_bytes=L2)
FIXED = 16 + 8 + 3 * (256 + 128 + 32 + 128 + 48) + 16 + 176  # 1992
CHOSEN = {f"layers.{layer}.moe.router": 2 + layer for layer in range(3)}  # 2 + 3 + 4 experts
READS = FIXED + 9 * 384  # 5448
BANDWIDTH = 4.8e12


def made(
    step: Mapping[str, float] | None = None,
    leaf: Mapping[str, Mapping[str, float]] | None = None,
    *,
    chosen: Mapping[str, int] | None = CHOSEN,
    kind: str = "counters",
    machine: Any = SMALL,  # noqa: ANN401 - a Machine
    work: Mapping[str, Any] | None = None,
) -> Recording:
    columns: dict[str, list[Any]] = {
        name: [values.get(path) for path in PATHS] for name, values in (leaf or {}).items()
    }
    if chosen is not None:
        columns["distinct"] = [chosen.get(path) for path in PATHS]
    measured: Any = {kind: run(step, columns)}
    return recording(MOE, case(workload(**(work or {})), **measured), sessions=(session(machine),))


def broken(found: Recording) -> list[Any]:
    return [(v.quantity, v.path, v.measured, v.bound) for v in violations(found, GPUS)]


def test_reads_of_a_step_may_fall_short_by_what_l2_holds_and_no_more() -> None:
    assert broken(made({"hbm_read_bytes": float(READS - L2)})) == []
    assert broken(made({"hbm_read_bytes": READS - L2 - 1.0})) == [
        ("hbm_read_bytes", None, 5347, 5348)
    ]


def test_reads_of_a_leaf_are_held_against_the_experts_of_its_own_layer() -> None:
    leaves = {f"layers.{layer}.moe.experts": 384.0 * 3 - L2 for layer in range(3)}
    assert broken(made(leaf={"hbm_read_bytes": leaves})) == [
        ("hbm_read_bytes", "layers.2.moe.experts", 1052, 1436)
    ]


def test_experts_of_one_token_are_demanded_where_no_choice_was_recorded() -> None:
    least = FIXED + 3 * 2 * 384 - L2
    assert broken(made({"hbm_read_bytes": float(least)}, chosen=None)) == []
    assert len(broken(made({"hbm_read_bytes": least - 1.0}, chosen=None))) == 1


def test_times_are_held_against_all_compulsory_bytes() -> None:
    floor = (READS + 3 * 16 + 22 - L2) / BANDWIDTH
    for quantity in ("graph_s", "eager_s", "kernel_s"):
        assert broken(made({quantity: floor * 1.001}, kind="time")) == []
        assert broken(made({quantity: floor * 0.999}, kind="time")) == [
            (quantity, None, pytest.approx(floor * 0.999), pytest.approx(floor))
        ]
    head = (176 + 22 - L2) / BANDWIDTH
    assert broken(made(leaf={"kernel_s": {"lm_head": head * 0.999}}, kind="time")) == [
        ("kernel_s", "lm_head", pytest.approx(head * 0.999), pytest.approx(head))
    ]


def test_times_are_held_against_useful_flops_too() -> None:
    # The head of 2^17 new tokens, of the last alone; a projection [2^17, 8] x [16, 8]
    flops = 2 * 2**17 * 16 * 8
    leaf = {"kernel_s": {"layers.0.attention.qkv": 0.999 * flops / 989.5e12}}
    machine = replace(H200, l2_bytes=2**30)
    work = {"phase": "prefill", "context": 0, "new_tokens": 2**17}
    found = broken(made(leaf=leaf, kind="time", machine=machine, work=work))
    assert [path for _, path, _, _ in found] == ["layers.0.attention.qkv"]
    assert found[0][3] == pytest.approx(flops / 989.5e12, rel=1e-3)


def test_what_fits_in_l2_has_no_bound() -> None:
    assert broken(made({"hbm_read_bytes": 0.0}, machine=H200)) == []
    no_flops = {"kernel_s": {"embed": 0.0}}  # so nothing at all bounds its time
    assert broken(made(leaf=no_flops, kind="time", machine=H200)) == []


def test_the_datasheets_l2_stands_in_for_one_that_was_not_recorded() -> None:
    assert broken(made({"hbm_read_bytes": 0.0}, machine=replace(H200, l2_bytes=None))) == []


def test_a_machine_without_a_datasheet_and_a_leaf_of_no_operator_have_no_bound() -> None:
    assert broken(made({"hbm_read_bytes": 0.0}, machine=CPU)) == []
    counters = run(operators={"hbm_read_bytes": [0.0]})
    odd = recording(MOE, case(counters=counters), paths=["rogue"], sessions=(session(SMALL),))
    assert broken(odd) == []


def test_a_violation_is_told_in_one_line() -> None:
    (found,) = violations(made({"hbm_read_bytes": 5000.0}), GPUS)
    assert says(str(found), "decode", 1, 3, "bf16", "uniform", "hbm_read_bytes", 5000, 5348)
    assert found.share == 5000 / 5348


def test_rows_of_a_memory_layer_are_counted_for_each_leaf_that_reads_them() -> None:
    # 128 rows, of which each layer reaches 11^2 = 121; pre-values and values of 8 and 4 elements:
    # 16 and 8 bytes a row, and 8 of the permutation's index for each
    memory = UltraMem(
        layers="0-1", knum=8, share_ratio=1.0, knn=4, key_dim=4, value_dim=4, pre_value_dim=8
    )
    model = tiny_model(memory=(memory,))
    work = operator_work(model, case().workload)
    retrieve = "layers.{}.memory.retrieve"
    few = required_work(work, {retrieve.format(0): 10.0, retrieve.format(1): 20.0})
    more = required_work(work, {retrieve.format(0): 11.0, retrieve.format(1): 20.0})
    changed = {
        path: more.by_leaf[path].read_bytes - few.by_leaf[path].read_bytes
        for path in few.by_leaf
        if more.by_leaf[path] != few.by_leaf[path]
    }
    assert changed == {
        "layers.0.memory.pre_values": 16,
        "layers.0.memory.values": 8,
        "layers.0.memory.retrieve": 8,
    }
    assert few.by_leaf["layers.1.memory.values"].read_bytes == 20 * 8
    # Layer 1 starts at row 64 and wraps: 114 rows are in reach of both. Of those that layer 0
    # touches, the step counts only the ones that layer 1 does not touch.
    in_both = 114 * (1 / 121) * (20 / 121)
    assert more.step.read_bytes - few.step.read_bytes == pytest.approx(32 - (16 + 8) * in_both)


def test_reads_of_a_step_may_fall_short_of_its_leaves_by_rows_that_they_share() -> None:
    memory = ProductKey(  # 16 rows of 8 elements: 16 bytes; all layers read the one table
        layers="0-2", num_keys=4, num_heads=1, knn=4, key_dim=4, value_dim=8
    )
    model = tiny_model(memory=(memory,))
    touched = {f"layers.{layer}.memory.retrieve": 4.0 for layer in range(3)}
    least = required_work(operator_work(model, case().workload), touched)
    leaves = sum(leaf.read_bytes for leaf in least.by_leaf.values())
    union = 16 * (1 - (3 / 4) ** 3)  # each layer misses three of four rows
    assert leaves - least.step.read_bytes == pytest.approx(16 * (3 * 4 - union))
