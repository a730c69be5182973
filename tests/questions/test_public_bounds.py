"""No roofline bound exceeds what others measured; how a row becomes a workload, by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.parse import parse_workload
from costmodel.layers.mesh import ONE_GPU, Mesh
from costmodel.questions.published.alike import Alike
from costmodel.questions.published.public_bounds import (
    PublicBounds,
    RowBound,
    as_point,
    public_bounds,
)
from costmodel.questions.published.public_rows import PublicRow, Source, public_rows
from costmodel.routing.popularity import Uniform

CONFIGS = Path(__file__).parents[1] / "data" / "hf"
BESIDE_PRESETS = {
    "Qwen/Qwen3-8B": "qwen3-8b",
    "google/gemma-3-27b-it": "gemma-3-27b",
}
ROW = PublicRow(
    id="one",
    model="llama-3.1-70b",
    source_model="its name",
    gpu="h100-sxm",
    gpus=4,
    tp=4,
    ep=1,
    dp=1,
    engine="an engine",
    engine_version="1",
    weights="fp16",
    kv="fp16",
    batch=1,
    running=1.9,
    isl=1000,
    osl=2000,
    context=2000,
    ttft_s=None,
    measured_s=1.0,
    timed="tpot",
    prompts="random tokens",
    source=Source(key="a", address="b", origin="c", context_rule="d", licence="e"),
    place="line 1",
)
MIXTRAL = replace(ROW, model="mixtral-8x7b", gpu="a100", gpus=1, tp=1, running=8, context=128)


@pytest.fixture(scope="module")
def found() -> PublicBounds:
    models = {name: load_model(str(CONFIGS / f"{f}.json")) for name, f in BESIDE_PRESETS.items()}
    return public_bounds(public_rows(), models)


def one(row: PublicRow) -> RowBound:
    (bound,) = public_bounds([row]).bounds
    return bound


def test_no_bound_exceeds_a_public_row(found: PublicBounds) -> None:
    broken = {bound.row.id: bound.share for bound in found.bounds if bound.share > 1}
    assert not broken
    assert sum(bound.row.gpus == 1 for bound in found.bounds) > 700
    assert sum(bound.row.gpus > 1 for bound in found.bounds) > 1600


def test_each_row_has_a_bound_or_a_reason(found: PublicBounds) -> None:
    ids = [bound.row.id for bound in found.bounds]
    assert ids == [row.id for row in public_rows() if row.id in set(ids)]
    assert set(ids).isdisjoint(found.skipped)
    assert len(ids) + len(found.skipped) == len(public_rows())
    assert sum(found.reasons.values()) == len(found.skipped)
    assert sum(found.layouts.values()) == len(ids)
    assert max(bound.share for bound in found.bounds) > 0.5  # else they would bound nothing


def test_the_bound_of_a_mesh_is_no_less_than_that_of_any_layout(found: PublicBounds) -> None:
    rows = [
        bound.row
        for bound in found.bounds
        if bound.point.setting.layout == "mesh" and bound.row.dp == 1
    ][::5]
    of_mesh = {bound.row.id: bound.bound_s for bound in found.bounds}
    models = {name: load_model(str(CONFIGS / f"{f}.json")) for name, f in BESIDE_PRESETS.items()}
    of_any = public_bounds([replace(row, tp=1, ep=1, dp=1) for row in rows], models).bounds
    assert {bound.point.setting.layout for bound in of_any} == {"any layout"}
    assert len(of_any) > 200
    for bound in of_any:
        assert bound.bound_s <= of_mesh[bound.row.id], bound.row.id


def test_bounds_are_those_of_predictions_one_by_one(found: PublicBounds) -> None:
    of_presets = [bound for bound in found.bounds if bound.row.model not in BESIDE_PRESETS]
    for bound in of_presets[::97]:
        setting = bound.point.setting
        workload = parse_workload(
            phase="decode",
            batch=bound.point.batch,
            context=bound.point.context,
            dtype=setting.dtype,
            kv_dtype=setting.kv_dtype,
            routing=Alike() if setting.experts == "the same" else Uniform(),
            mesh=setting.mesh,
        )
        floor_s = predict(load_model(setting.model), workload, load_hardware(setting.gpu)).floor_s
        gpus = setting.gpus if setting.layout == "any layout" else 1
        assert bound.bound_s == floor_s / gpus, bound.row.id


def test_a_dense_model_over_four_gpus_by_hand() -> None:
    """Llama-3.1-70B, fp16: weights and KV heads divided by 4, norms in each GPU."""
    bound = one(ROW)
    layer = 2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672
    kv = 2000 * 2 * 8 * 128 * 80
    divided = 80 * layer + 128256 * 8192 + kv
    seconds = 2 * (divided / 4 + 161 * 8192) / 3.35e12
    assert bound.bound_s == pytest.approx(seconds, rel=1e-5)
    assert bound.point.setting.mesh == Mesh(tp=4)
    assert bound.share == bound.bound_s


@pytest.mark.parametrize(
    ("prompts", "experts", "distinct"),
    [
        ("random tokens", "uniform", 8 * (1 - (3 / 4) ** 8)),
        ("not stated", "the same", 2),
        ("one prompt repeated", "the same", 2),
    ],
)
def test_experts_by_hand(prompts: str, experts: str, distinct: float) -> None:
    """Mixtral, 8 sequences: 2 of 8 experts a token, on the A100 of 80 GB and 2.039 TB/s."""
    bound = one(replace(MIXTRAL, prompts=prompts))  # type: ignore[arg-type]
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 8 * 4096 + distinct * 3 * 4096 * 14336
    kv = 8 * 128 * 2 * 8 * 128 * 32
    seconds = 2 * (32 * layer + 32000 * 4096 + kv) / 2.039e12
    assert bound.point.setting.experts == experts
    assert bound.bound_s == pytest.approx(seconds, rel=2e-4)  # norms are left out


@pytest.mark.parametrize(
    ("changes", "layout", "batch", "mesh"),
    [
        ({"gpus": 1, "tp": 1, "running": 7.9}, "one GPU", 7, ONE_GPU),
        ({"running": 0.9}, "mesh", 1, Mesh(tp=4)),  # the sequence is there while it decodes
        ({"tp": 1, "dp": 4, "running": 10.5}, "mesh", 8, Mesh(dp=4)),
        ({"tp": 1, "dp": 4, "running": 3.5}, "any layout", 3, ONE_GPU),  # a group has none
        ({"tp": 1, "ep": 4}, "any layout", 1, ONE_GPU),  # of attention nothing is said
        ({"tp": 4, "ep": 3}, "any layout", 1, ONE_GPU),  # no whole sets of experts
        ({"gpus": 3, "tp": 3}, "any layout", 1, ONE_GPU),  # 8 KV heads over 3 GPUs
    ],
)
def test_layouts(changes: dict[str, float], layout: str, batch: int, mesh: Mesh) -> None:
    point = one(replace(ROW, **changes)).point  # type: ignore[arg-type]
    assert (point.setting.layout, point.batch, point.setting.mesh) == (layout, batch, mesh)


def test_any_layout_has_an_equal_share_of_one_gpu() -> None:
    alone = one(replace(ROW, gpus=1, tp=1))
    assert one(replace(ROW, tp=1)).bound_s == alone.bound_s / 4


@pytest.mark.parametrize(
    ("weights", "kv", "dtype", "kv_dtype"),
    [
        ("bf16", "not stated", "bf16", "bf16"),
        ("fp8", "not stated", "fp8:tensor", "fp8:tensor"),
        ("fp8-block", "bf16", "fp8:128x128", "bf16"),
        ("awq-int4", "not stated", "int4:128", "fp8:tensor"),
        ("q4_k_m", "fp16", "int4:128", "fp16"),
        ("mxfp4", "fp8", "checkpoint", "fp8:tensor"),
        ("nvfp4", "int8", "nvfp4", "int8:tensor"),
    ],
)
def test_formats(weights: str, kv: str, dtype: str, kv_dtype: str) -> None:
    setting = as_point(replace(ROW, weights=weights, kv=kv), load_model(ROW.model)).setting
    assert (setting.dtype, setting.kv_dtype) == (dtype, kv_dtype)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "a/b", "gpu": "mi250"}, "no preset of the model a/b"),
        ({"gpu": "rtx-3090"}, "no preset of the GPU rtx-3090"),
        ({"weights": "not stated"}, "the format of the weights is not stated"),
        ({"weights": "int3"}, "the format of the weights int3 is not known"),
    ],
)
def test_what_is_skipped_says_why(changes: dict[str, str], reason: str) -> None:
    row = replace(ROW, **changes)  # type: ignore[arg-type]
    assert public_bounds([row]) == PublicBounds(bounds=(), skipped={"one": reason})


def test_a_row_faster_than_its_bound_is_found() -> None:
    """Four GPUs read the 35 GB of each in 10 ms; 9 ms would be impossible."""
    assert one(replace(ROW, measured_s=9e-3)).share > 1 > one(replace(ROW, measured_s=11e-3)).share


def test_a_prediction_stands_beside_the_bound_where_the_gpu_is_calibrated() -> None:
    """What `predict` gives of the same step; a bound that takes experts alike has none."""
    dense = replace(ROW, model="llama-3.1-8b", gpu="h200", gpus=1, tp=1, weights="bf16", kv="bf16")
    bound = one(replace(dense, running=16, context=2048))
    workload = parse_workload(
        phase="decode", batch=16, context=2048, dtype="bf16", kv_dtype=None, routing=Uniform()
    )
    asked = predict(load_model("llama-3.1-8b"), workload, load_hardware("h200"), calibrated("h200"))
    assert not isinstance(asked.time, Unknown)
    assert bound.predicted_s == pytest.approx(float(asked.time.predicted_s), rel=1e-12)
    assert not isinstance(asked.time.energy_j, Unknown)
    assert bound.predicted_j == pytest.approx(float(asked.time.energy_j), rel=1e-12)
    assert bound.bound_s < (bound.predicted_s or 0)
    assert bound.reason is None
    for changes, words in (
        ({"weights": "fp8"}, "calibrations are measured in bf16"),
        ({"gpu": "b200"}, "no calibration for GPU 'b200'"),
        ({"model": "mixtral-8x7b", "prompts": "not stated"}, "how experts are chosen"),
        ({"gpus": 4}, "none that can be said as a mesh"),
    ):
        other = one(replace(dense, **changes))
        assert other.predicted_s is None
        assert words in (other.reason or "")


def test_llama_cpps_files_keep_all_but_experts_in_8_bits() -> None:
    """ggml-org's gpt-oss: attention, embedding and LM head in Q8_0, experts in MXFP4."""
    row = replace(MIXTRAL, model="gpt-oss-20b", weights="mxfp4", kv="fp16", prompts="one sequence")
    theirs, ours = one(replace(row, engine="llama.cpp")), one(row)
    assert theirs.point.setting.dtype == "int8:32,experts=mxfp4"
    head = 201088 * 2880  # the largest of what differs
    assert ours.bound_s - theirs.bound_s > head * (16 - 8.5) / 8 / 2.039e12
