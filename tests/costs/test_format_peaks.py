"""Compute peaks follow the format: each operator's FLOPs over the peak of what it multiplies."""

from dataclasses import replace
from typing import Any

import pytest

from costmodel.costs.latency import NOT_ASKED
from costmodel.costs.predict import Prediction, predict
from costmodel.errors import InputError
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import OfCheckpoint, Workload
from costmodel.layers.dtype import DTYPES, parse_dtype
from costmodel.layers.formats import Formats, LeafFormat, parse_formats
from costmodel.questions.compare import advantage
from costmodel.questions.designs.evaluate import evaluate
from costmodel.questions.sweep import sweep
from costmodel.routing.popularity import Uniform
from tests.strategies import PRESETS


def floor_by_hand(prediction: Prediction, peaks: dict[str, float]) -> float:
    """The compute term: FLOPs of each operator at the peak named for its kind or leaf."""
    seconds = 0.0
    for operator in prediction.costs.operators:
        name = "attention" if operator.kind == "attention" else operator.leaf
        peak = peaks.get(name, peaks[""])
        seconds += operator.count * float(operator.total("flops")) / peak
    return seconds


def prefill(
    model: ModelConfig,
    gpu: str = "h200",
    **fields: Any,  # noqa: ANN401 - of a workload
) -> Prediction:
    work = Workload(phase="prefill", batch=4, context=0, new_tokens=4096, **fields)
    return predict(model, work, load_hardware(gpu))


BF16_PEAK, FP8_PEAK = 989.4e12, 1978.9e12  # of an H200


@pytest.mark.parametrize(
    ("dtype", "kv", "peaks"),
    [
        ("bf16", "fp8", {"": BF16_PEAK, "attention": FP8_PEAK}),  # products with an fp8 cache
        ("fp8", "bf16", {"": FP8_PEAK, "attention": BF16_PEAK}),
        ("fp8", "fp8:tensor", {"": FP8_PEAK}),
        ("experts=mxfp4", "bf16", {"": BF16_PEAK}),  # no fp4 units: widened to bf16
        ("experts=fp8", "bf16", {"": BF16_PEAK, "moe.experts": FP8_PEAK}),
        ("fp8,experts=mxfp4", "fp8", {"": FP8_PEAK, "moe.experts": BF16_PEAK}),
    ],
)
def test_each_operator_is_priced_at_the_peak_of_its_format(
    dtype: str, kv: str, peaks: dict[str, float]
) -> None:
    found = prefill(
        PRESETS["gpt-oss-20b"],
        formats=parse_formats(dtype, field="dtype"),
        kv_dtype=parse_dtype(kv, field="kv_dtype"),
    )
    assert found.bound_by == "compute"
    assert found.floor_s == pytest.approx(floor_by_hand(found, peaks), rel=1e-12)
    for operator in found.costs.operators:
        peak = peaks.get(operator.leaf if operator.kind != "attention" else "attention", peaks[""])
        moved = float(operator.compulsory_bytes) / 4.8e12
        by_hand = max(moved, float(operator.total("flops")) / peak)
        assert found.operator_floor_s(operator) == pytest.approx(by_hand, rel=1e-12)


def test_a_b200_multiplies_mxfp4_in_its_fp4_units() -> None:
    found = prefill(
        PRESETS["gpt-oss-20b"], "b200", formats=parse_formats("experts=mxfp4", field="dtype")
    )
    by_hand = floor_by_hand(found, {"": 2250e12, "moe.experts": 9000e12})
    assert found.floor_s == pytest.approx(by_hand, rel=1e-12)


def test_fp32_may_be_multiplied_as_tf32() -> None:
    fp32: dict[str, Any] = {"formats": Formats(default=DTYPES["fp32"]), "kv_dtype": DTYPES["fp32"]}
    model = PRESETS["llama-3.1-8b"]
    full, rounded = prefill(model, **fp32), prefill(model, **fp32, fp32_math="tf32")
    assert rounded.ceilings.peak_name == "tf32"
    assert full.floor_s / rounded.floor_s == pytest.approx(494.7 / 66.9, rel=1e-12)
    with pytest.raises(InputError, match=r"dense_peak_flops_per_s\.tf32"):
        prefill(model, "mi300x", **fp32, fp32_math="tf32")


MIXED = Workload(
    formats=Formats(
        default=DTYPES["fp8"],
        groups=(("experts", DTYPES["mxfp4"]), ("memory_values", DTYPES["int8"])),
        leaves=(LeafFormat(leaf="ffn.down", layers=(0, 2), dtype=DTYPES["bf16"]),),
    ),
    kv_dtype=DTYPES["bf16"],
)
PREFILL = replace(MIXED, phase="prefill", context=0, new_tokens=3000)


@pytest.mark.parametrize("workload", [MIXED, PREFILL], ids=["decode", "prefill"])
@pytest.mark.parametrize("name", ["gpt-oss-20b", "deepseek-v3", "ultramemv2-227m-1.2b"])
def test_a_grid_and_many_designs_have_the_bounds_of_single_steps(
    name: str, workload: Workload
) -> None:
    model, gpus = PRESETS[name], [load_hardware(gpu) for gpu in ("h200", "b200", "a100-80gb")]
    batches, contexts = (1, 700), (0, 900)
    grid = sweep(
        model,
        workload,
        batches=batches,
        contexts=contexts,
        routings=[Uniform()],
        hardwares=gpus,
    )
    designs = evaluate(
        [model, model], workload, gpus[0], NOT_ASKED, batches=batches, contexts=contexts
    )
    table = grid.table()
    for g, gpu in enumerate(gpus):
        for b, batch in enumerate(batches):
            for c, context in enumerate(contexts):
                one = predict(model, replace(workload, batch=batch, context=context), gpu)
                assert table["time.floor_s"][0, g, b, c] == pytest.approx(one.floor_s, rel=1e-12)
                assert table["time.bound_by"][0, g, b, c] == one.bound_by
                if not g:
                    for column in (designs.columns["time.floor_s"][i, b, c] for i in (0, 1)):
                        assert column == pytest.approx(one.floor_s, rel=1e-12)


def test_an_advantage_is_of_the_formats_of_each_model() -> None:
    model = PRESETS["gpt-oss-20b"]
    stored = model.storage
    assert stored is not None
    shipped = replace(model, storage=replace(stored, by_default=True))
    asked = Workload(of_checkpoint=OfCheckpoint(required=False, kv_dtype=None))
    gpu = load_hardware("h200")
    assert advantage(shipped, model, asked, gpu, "hbm_bytes.compulsory") == ((1, None),)
    assert advantage(model, shipped, asked, gpu, "hbm_bytes.compulsory") == ()
