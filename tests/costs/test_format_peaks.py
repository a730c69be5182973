"""Compute peaks follow the format: each operator's FLOPs over the peak of what it multiplies."""

from typing import Any

import pytest

from costmodel.costs.predict import Prediction, predict
from costmodel.errors import InputError
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import DTYPES, parse_dtype
from costmodel.layers.formats import Formats, parse_formats
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
