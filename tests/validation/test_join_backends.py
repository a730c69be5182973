"""Joins with what another backend than plain PyTorch measured: regions, launches, names."""

from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.backends import BACKENDS
from costmodel.costs.latency import StepTime
from costmodel.costs.predict import predict
from costmodel.errors import InputError
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.site import region_leaves
from costmodel.validation.machines import Gpus
from tests.backends.test_base import Spanning
from tests.costs.calibrations import curves, write
from tests.recording_values import case, leaf_paths, recording, run, workload
from tests.validation.tiny import DENSE, rows_of


def test_a_region_stands_beside_the_sum_of_its_leaves_which_are_not_measured_alone() -> None:
    """A kernel over QKV projection and rotary embedding of layer 1, and one alone in layer 0."""
    region = "layers.1.attention.{qkv,rope}"
    inside = ("layers.1.attention.qkv", "layers.1.attention.rope")
    paths = [path for path in leaf_paths(DENSE) if path not in inside] + [region]
    seconds = [1e-6] * (len(paths) - 1) + [5e-6]
    read = [None] * (len(paths) - 1) + [900]
    made = recording(
        DENSE,
        case(trace=run(operators={"kernel_s": seconds}),
             counters=run(operators={"hbm_read_bytes": read})),
        paths=paths,
    )  # fmt: skip
    rows = rows_of(made)
    row = rows["counters", "hbm_read_bytes", region]
    # QKV weights of 16 x 8 elements of 2 bytes; the rotary embedding reads nothing compulsory
    assert (row.predicted, row.measured, row.kind) == (16 * 8 * 2, 900, "region")
    for path in inside:
        leaf = rows["counters", "hbm_read_bytes", path]
        assert leaf.measured is None
        assert leaf.reason == f"not measured alone (a kernel spans {region})"
    time = rows["trace", "kernel_s", region]
    assert time.measured == 5e-6
    floors = [rows["trace", "kernel_s", path].predicted for path in inside]
    assert time.predicted == pytest.approx(sum(float(floor) for floor in floors if floor))


def test_a_recording_of_an_unknown_backend_is_refused_by_its_name() -> None:
    made = recording(DENSE, case(time=replace(run({"parameters": 1672}), backend="other")))
    with pytest.raises(InputError, match="backend='other': is not one of torch, fused"):
        rows_of(made)


def test_launches_are_those_of_the_recordings_backend() -> None:
    traced = run({"launches": 9}, {"launches": [1] * len(leaf_paths(DENSE))})
    for backend, of_rope in (("torch", 25), ("fused", 1)):
        rows = rows_of(recording(DENSE, case(trace=replace(traced, backend=backend))))
        assert rows["trace", "launches", "layers.0.attention.rope"].predicted == of_rope


def test_the_time_of_a_region_is_that_of_the_kernel_that_spans_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It takes as long as its longest part, the projection, in every layer.

    The sum over the leaves would be less in the first layer, whose norm has no residual to add, and
    more in the others: the projection's share of the kernel is a mean over all layers.
    """
    monkeypatch.setitem(BACKENDS, "fused", Spanning())
    regions = [f"layers.{layer}.{{attention_norm,attention.qkv}}" for layer in range(3)]
    inside = [path for region in regions for path in region_leaves(region)]
    paths = [path for path in leaf_paths(DENSE) if path not in inside] + regions
    traced = run(operators={"kernel_s": [1e-6] * len(paths)})
    batch = 2**15
    made = recording(
        DENSE, case(workload(batch=batch), trace=replace(traced, backend="fused")), paths=paths
    )
    rows = rows_of(made, Gpus(write(tmp_path / "h200.json")))
    times = [rows["trace", "kernel_s", region].predicted for region in regions]
    work = Workload(batch=batch, context=3, backend="fused")
    time = predict(DENSE, work, load_hardware("h200"), curves()).time
    assert isinstance(time, StepTime)
    first, others = (region.seconds for region in time.regions)
    assert first == others
    assert times == [first, others, others]
