"""Joins with what another backend than plain PyTorch measured: regions, launches, names."""

from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.backends import BACKENDS, kernels_of
from costmodel.backends.step_kernels import region_paths
from costmodel.costs.latency import StepTime
from costmodel.costs.operators import build_operators
from costmodel.costs.predict import predict
from costmodel.errors import InputError
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.attention import Attention
from costmodel.layers.moe import MoeFfn
from costmodel.layers.site import expanded_paths, region_leaves
from costmodel.recordings.measured import SpreadColumn
from costmodel.recordings.recording import Recording
from costmodel.show.tables.validation import validation_tables
from costmodel.show.validation_json import validation_json
from costmodel.validation.bounds import violations
from costmodel.validation.machines import Gpus
from costmodel.validation.validate import validate
from tests.backends.test_base import Spanning
from tests.costs.calibrations import curves, write
from tests.recording_values import H200, case, leaf_paths, recording, run, workload
from tests.validation.tiny import BOUNDS_ONLY, DENSE, rows_of


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
    traced = run({"launches": 9}, {"launches": [1] * len(leaf_paths(FUSED))})
    for backend, of_rope in (("torch", 25), ("fused", 1)):
        rows = rows_of(recording(FUSED, case(trace=replace(traced, backend=backend))))
        assert rows["trace", "launches", "layers.0.attention.rope"].predicted == of_rope


def test_a_step_that_the_backend_refuses_has_no_predicted_launches() -> None:
    rows = rows_of(recording(DENSE, case(trace=replace(run({"launches": 9}), backend="fused"))))
    row = rows["trace", "launches", None]
    assert (row.predicted, row.measured) == (None, 9)
    assert row.reason == (
        "not predicted (the backend fused needs a head_dim that is a power of two from 16, not 4)"
    )


FUSED = ModelConfig(
    name="fused", source="made up", hidden_size=64, vocab_size=96, num_hidden_layers=2,
    attention=Attention(num_attention_heads=4, num_key_value_heads=2, head_dim=16),
    ffn=MoeFfn(num_experts=64, num_experts_per_tok=2, moe_intermediate_size=64),
)  # fmt: skip
ONE = ("layers.1.{attention_norm,attention.qkv}", "layers.1.{ffn_norm,moe.router}")
MANY = ("layers.1.{ffn_norm,moe.router}",)
ENDS = "{final_norm,lm_head}"


def fused_recording(*batches: int) -> Recording:
    """A recording whose traces hold 3 us at each region and leaf that its step has."""
    operators = build_operators(FUSED, Workload().step())
    paths = [*leaf_paths(FUSED), *region_paths(operators, BACKENDS["fused"])]
    cases = []
    for batch in batches:
        step = Workload(batch=batch, backend="fused").step()
        kernels = kernels_of("fused", build_operators(FUSED, step), step)
        ran = {
            path: kernels.region_launches(region)
            for region in kernels.regions(build_operators(FUSED, step))
            for path in expanded_paths(region.path)
        }
        seconds = [3e-6 if path in ran else None for path in paths]
        launches = [ran.get(path) for path in paths]
        traced = run({"launches": 17}, {"kernel_s": seconds, "launches": launches})  # type: ignore[dict-item]
        routers = [4 if path.endswith(".moe.router") else None for path in paths]
        cases.append(
            case(
                workload(batch=batch),
                time=replace(run({"graph_s": 1e-4}, {"distinct": routers}), backend="fused"),
                trace=replace(traced, backend="fused"),
            )
        )
    return recording(FUSED, *cases, paths=paths)


@pytest.mark.parametrize(("batch", "present"), [(1, ONE), (4, ()), (100, MANY)])
def test_a_step_has_the_regions_that_it_ran_and_no_other(
    batch: int, present: tuple[str, ...]
) -> None:
    """A recording names the regions of all its cases; which a step has depends on its tokens."""
    rows = rows_of(fused_recording(batch))
    regions = {path for _, _, path in rows if path and path.startswith("layers.1.{")}
    assert regions == set(present)
    assert (("trace", "kernel_s", ENDS) in rows) == (batch == 1)
    for path in present:
        row = rows["trace", "launches", path]
        assert row.predicted == row.measured == (2 if batch == 100 else 1)
        assert row.kind == "region"
        for leaf in region_leaves(path):
            assert rows["trace", "kernel_s", leaf].reason == (
                f"not measured alone (a kernel spans {path})"
            )
    core = rows["trace", "launches", "layers.1.attention.core"]
    assert core.predicted == core.measured == 1


def test_a_run_that_measures_leaves_has_no_rows_of_regions() -> None:
    rows = rows_of(fused_recording(1))
    of_time = {path for run_name, _, path in rows if run_name == "time" and path}
    assert not any("{" in path for path in of_time)
    router = rows["time", "distinct", "layers.1.moe.router"]
    assert router.measured == 4
    assert router.predicted == pytest.approx(2)  # of one token
    # a run that is absent shows what is predicted, regions too
    assert rows["counters", "hbm_read_bytes", ENDS].predicted is not None


def test_fused_times_stand_beside_the_bound_until_a_calibration_has_them(tmp_path: Path) -> None:
    rows = rows_of(fused_recording(1), Gpus(write(tmp_path / "h200.json")))
    assert rows["time", "graph_s", None].basis == "floor"
    energy = rows["energy", "energy_j", None]
    assert energy.predicted is None
    assert "no calibration holds times of the kernels of the backend fused" in str(energy.reason)


def test_both_backends_of_a_model_have_lines_and_names_of_their_own() -> None:
    plain = recording(
        FUSED, case(time=run({"graph_s": 2e-4, "parameters": 1})), paths=leaf_paths(FUSED)
    )
    validation = validate([("plain", plain), ("fused", fused_recording(1, 4))], BOUNDS_ONLY)
    compared = {
        (line.backend, line.level): line.compared
        for line in validation.errors
        if line.quantity == "graph_s"
    }
    assert compared == {("torch", "step"): 1, ("fused", "step"): 2}
    text = "\n".join(
        "\n".join([table.title, *map(" ".join, table.rows)])
        for table in validation_tables(validation)
    )
    apart = text.index("Measured over predicted, kernels of fused, 2 cases of 1 recording")
    assert text.index("Measured over predicted, 1 case of 1 recording") < apart
    assert "time as a CUDA graph / bound decode 2" in text[apart:]
    assert "fused 4 x 3, fused" in text
    (lines,) = {
        row["backend"] for row in validation_json(validation, 1)["rows"] if row["measured"] == 17
    }
    assert lines == "fused"


def test_a_region_is_bounded_by_the_sum_of_its_leaves() -> None:
    """Of `ENDS`: the norm's 64 weights and the head's 96 x 64, none of them in L2."""
    made = fused_recording(1)
    traced = made.cases[0].runs["trace"]
    place = made.paths.index(ENDS)
    column = traced.operators["kernel_s"]
    assert isinstance(column, SpreadColumn)
    fast = tuple(1e-15 if at == place else value for at, value in enumerate(column.median))
    small = replace(column, median=fast, q1=fast, q3=fast)
    runs = {**made.cases[0].runs, "trace": replace(traced, operators={"kernel_s": small})}
    machine = replace(H200, l2_bytes=1)
    session = replace(made.sessions[0], machine=machine)
    made = replace(made, cases=(replace(made.cases[0], runs=runs),), sessions=(session,))
    below = {each.path: each.bound for each in violations(made, BOUNDS_ONLY)}
    moved = 2 * 64 + 2 * 96 * 64 + 96 * 2 - 1  # weights, logits written, less what L2 may hold
    assert below[ENDS] == pytest.approx(moved / 4.8e12, rel=1e-9)


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
