"""The floor: bytes over bandwidth or FLOPs over peak, whichever is longer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.costs.predict import predict
from costmodel.costs.roofline import bound_by, floor_s
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import parse_dtype
from costmodel.layers.formats import Formats
from tests.steps import tiny_model


@pytest.mark.parametrize(
    ("moved", "flops", "seconds", "bound"),
    [
        (10, 0, 2.0, "memory"),
        (0, 300, 3.0, "compute"),
        (10, 300, 3.0, "compute"),
        (20, 300, 4.0, "memory"),
        (15, 300, 3.0, "memory"),  # a tie
        (0, 0, 0.0, "memory"),
    ],
)
def test_the_longer_term_by_hand(moved: int, flops: int, seconds: float, bound: str) -> None:
    # 5 bytes/s, 100 FLOP/s
    assert floor_s(moved, flops, 5.0, 100.0) == seconds
    assert bound_by(moved, flops, 5.0, 100.0) == bound


@given(*[st.integers(0, 10**18)] * 2, *[st.floats(1e9, 1e17)] * 2)
def test_the_floor_is_one_of_its_terms_and_below_none(
    moved: int, flops: int, bandwidth: float, peak: float
) -> None:
    floor = floor_s(moved, flops, bandwidth, peak)
    memory, compute = moved / bandwidth, flops / peak
    assert floor >= memory
    assert floor >= compute
    assert floor == (memory if bound_by(moved, flops, bandwidth, peak) == "memory" else compute)


def test_arrays_equal_single_values() -> None:
    moved, flops = np.array([10, 20, 15]), np.array([300, 300, 300])
    seconds, bounds = floor_s(moved, flops, 5.0, 100.0), bound_by(moved, flops, 5.0, 100.0)
    assert isinstance(seconds, np.ndarray)
    assert isinstance(bounds, np.ndarray)
    assert seconds.tolist() == [3.0, 4.0, 3.0]
    assert bounds.tolist() == ["compute", "memory", "memory"]


GPU = load_hardware("h200")
PEAKS = GPU.dense_peak_flops_per_s


@pytest.mark.parametrize(
    ("dtype", "peak"), [("bf16", "bf16"), ("int4", "int8"), ("fp8", "fp8"), ("fp32", "fp32")]
)
@pytest.mark.parametrize(("cached", "bound"), [(100, "memory"), (0, "compute")])
def test_a_step_takes_its_totals_at_the_datasheets_rates(
    dtype: str, peak: str, cached: int, bound: str
) -> None:
    # decode: each cached byte serves two FLOPs or so; a long prefill: thousands
    new, stored = 1 if cached else 2**20, parse_dtype(dtype, field="dtype")
    workload = Workload(
        phase="decode" if cached else "prefill",
        batch=3, context=cached, new_tokens=new, formats=Formats(default=stored), kv_dtype=stored,
    )  # fmt: skip
    prediction = predict(tiny_model(), workload, GPU)
    sums = prediction.costs.totals
    memory = sums.compulsory_bytes / 4.8e12  # datasheet
    compute = sums.flops / getattr(PEAKS, peak)
    assert prediction.floor_s == pytest.approx(max(memory, compute), rel=1e-12)
    assert prediction.bound_by == bound
    assert prediction.ceilings.peak_name == peak


def test_a_long_prefill_is_bound_by_compute_and_its_gathers_by_memory() -> None:
    model = tiny_model(hidden_size=2**14, vocab_size=2)
    workload = Workload(phase="prefill", batch=1, context=0, new_tokens=2**13)
    prediction = predict(model, workload, GPU)
    assert prediction.bound_by == "compute"
    by_path = {op.path: op for op in prediction.costs.operators}
    qkv, embed = by_path["layers.{0-2}.attention.qkv"], by_path["embed"]
    assert prediction.operator_bound_by(qkv) == "compute"
    # one of the three layers: 2 N D (H + 2 K) d
    alone = 2 * 2**13 * 2**14 * 16 / PEAKS.bf16
    assert prediction.operator_floor_s(qkv) == pytest.approx(alone, rel=1e-12)
    assert prediction.operator_bound_by(embed) == "memory"
    assert prediction.operator_floor_s(embed) == embed.compulsory_bytes / 4.8e12
