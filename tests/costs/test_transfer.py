"""Times of GPUs and formats that were not measured: scaled by datasheets, labelled, and wide."""

from dataclasses import replace
from math import log

import numpy as np
import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.intervals import NORMAL
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import StepTime, Unknown
from costmodel.costs.leaf_times import LeafTimes
from costmodel.costs.predict import predict
from costmodel.costs.transfer import (
    OTHER_FORMAT,
    OTHER_VENDOR,
    SAME_VENDOR,
    for_step,
    multiplied_flops_per_s,
)
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import Hardware, hardware_names, load_hardware
from costmodel.inputs.parse import parse_workload
from costmodel.inputs.workload import Workload
from costmodel.layers.placement import Placement
from costmodel.questions.designs.evaluate import evaluate
from costmodel.questions.sweep import sweep
from costmodel.routing.popularity import Uniform

H200 = load_hardware("h200")
MODEL = load_model("olmoe-227m-1.2b")
FORMATS = ("bf16", "fp8:tensor", "int8:tensor", "int4:128", "mxfp4", "nvfp4")


def work(dtype: str = "bf16", batch: int = 4) -> Workload:
    return parse_workload(
        phase="decode",
        batch=batch,
        context=2048,
        dtype=dtype,
        kv_dtype="bf16",
        routing=Uniform(),
    )


def time_on(hardware: Hardware, curves: Curves | Unknown, workload: Workload) -> StepTime:
    time = predict(MODEL, workload, hardware, curves).time
    assert isinstance(time, StepTime)
    return time


def foreign() -> Curves:
    curves = calibrated("b200")
    assert isinstance(curves, Curves)
    assert curves.foreign
    return curves


def with_parameters(*, seconds: float, rates: float) -> Curves:
    """The same calibration without corrections: all its fixed costs and rates times a factor."""
    curves = foreign()
    of = curves.leaves["torch"]
    parameters = {
        name: value * (rates if name.endswith("_per_s") else seconds if name.endswith("_s") else 1)
        for name, value in of.parameters.items()
    }
    leaves = LeafTimes(parameters=parameters, keeps=False, spreads={"": 0.1})
    return replace(curves, leaves={"torch": leaves})


def test_at_half_the_bandwidth_streamed_bytes_take_twice_as_long() -> None:
    half = replace(H200, hbm_bytes_per_s=H200.hbm_bytes_per_s / 2)
    curves = with_parameters(seconds=0, rates=1)
    endless = ("flops_per_s", "elements_per_s", "l2_bytes_per_s")  # what no bandwidth changes
    parameters = {
        name: 1e40 if name.endswith(endless) else value
        for name, value in curves.leaves["torch"].parameters.items()
    }
    leaves = LeafTimes(parameters=parameters, keeps=False, spreads={"": 0.1})
    curves = replace(curves, leaves={"torch": leaves})
    whole, halved = (time_on(gpu, curves, work()).graph_s for gpu in (H200, half))
    assert halved == pytest.approx(2 * whole, rel=1e-9)


def test_launches_and_latencies_take_as_long_on_every_gpu() -> None:
    curves = with_parameters(seconds=1, rates=1e30)
    fast, faster = (replace(H200, hbm_bytes_per_s=rate) for rate in (1e15, 4e15))
    assert time_on(faster, curves, work()).graph_s == time_on(fast, curves, work()).graph_s


def test_on_the_measured_gpu_itself_a_transfer_changes_nothing_but_the_interval() -> None:
    own = time_on(H200, calibrated("h200", "h200.leaves"), work())
    moved = time_on(H200, foreign(), work())
    assert moved.graph_s == own.graph_s
    assert own.transfer is None
    assert moved.transfer is not None
    assert own.interval_s is not None
    assert moved.interval_s is not None
    assert moved.interval_s[1] > own.interval_s[1]
    spread = log(own.interval_s[1] / own.predicted_s) / NORMAL
    wider = log(moved.interval_s[1] / moved.predicted_s) / NORMAL
    assert wider == pytest.approx((spread**2 + SAME_VENDOR**2) ** 0.5)


@pytest.mark.parametrize(
    ("gpu", "dtype", "peak"),
    [  # dense peaks of the datasheets, TFLOP/s
        ("a100-80gb", "fp8", 312),  # no fp8 units: widened to bf16
        ("a100-80gb", "int8", 624),
        ("h200", "fp8", 1978.9),
        ("h200", "int4", 989.4),  # widened to bf16, though a bound takes 8-bit units
        ("h200", "nvfp4", 989.4),
        ("b200", "mxfp4", 9000),
        ("b200", "int4", 2250),
    ],
)
def test_formats_are_multiplied_at_the_rate_of_their_units(
    gpu: str, dtype: str, peak: float
) -> None:
    assert multiplied_flops_per_s(load_hardware(gpu), dtype) == peak * 1e12


def test_rates_scale_by_datasheet_ratios_and_formats_have_their_own() -> None:
    b200 = load_hardware("b200")
    curves = for_step(foreign(), b200, work("bf16,experts=fp8:tensor"))
    assert isinstance(curves, Curves)
    before, after = foreign().leaves["torch"].parameters, curves.leaves["torch"]
    ratios = {
        "gemm.hbm_bytes_per_s": 7.7 / 4.8,
        "rows.bytes_per_s": 7.7 / 4.8,
        "gemm.flops_per_s": 2250 / 989.4,
        "l2_bytes": 132_644_864 / 62_914_560,
        "l2_bytes_per_s": 1,
        "gemm.launch_s": 1,
        "multiprocessors": 1,
    }
    for name, ratio in ratios.items():
        assert after.parameters[name] == pytest.approx(ratio * before[name])
    grouped = "grouped.flops_per_s"
    assert after.formats["fp8"][grouped] == pytest.approx(4500 / 989.4 * before[grouped])


@pytest.mark.parametrize("gpu", hardware_names())
@pytest.mark.parametrize("dtype", FORMATS)
def test_every_gpu_has_a_time_in_every_format(gpu: str, dtype: str) -> None:
    hardware, workload = load_hardware(gpu), work(dtype)
    prediction = predict(MODEL, workload, hardware, calibrated(gpu))
    time = prediction.time
    assert isinstance(time, StepTime)
    assert time.predicted_s >= prediction.floor_s
    if (gpu, dtype) == ("h200", "bf16"):
        assert time.transfer is None
        return
    assert time.transfer is not None
    assert time.transfer.source == "h200"
    assert time.transfer.gpu == (gpu != "h200")
    assert time.transfer.formats == (dtype != "bf16")
    assert ("on this GPU" in time.transfer.label) == time.transfer.gpu
    assert ("in these formats" in time.transfer.label) == time.transfer.formats
    assert isinstance(time.energy_j, Unknown)
    assert "measured on h200 in bf16" in time.energy_j.reason
    assert time.interval_s is not None
    low, high = time.interval_s
    assert prediction.floor_s <= low < time.predicted_s < high
    vendor = 0 if gpu == "h200" else OTHER_VENDOR if gpu.startswith("mi") else SAME_VENDOR
    least = (vendor**2 + (OTHER_FORMAT * (dtype != "bf16")) ** 2) ** 0.5
    assert high / time.predicted_s > np.exp(NORMAL * least)


def test_a_gpu_of_ones_own_has_a_time_and_without_a_vendor_the_wider_interval() -> None:
    mine = replace(H200, name="My GPU")
    time = time_on(mine, calibrated("mine.toml"), work())
    assert time.transfer is not None
    assert time.transfer.spread == OTHER_VENDOR


@pytest.mark.parametrize("why", ["none", "transfer"])
def test_no_time_where_none_is_asked_for(why: str) -> None:
    curves = calibrated("b200", "none") if why == "none" else calibrated("b200", transfer=False)
    assert isinstance(curves, Unknown)
    assert predict(MODEL, work(), load_hardware("b200"), curves).time is curves


def test_rows_in_host_memory_have_no_time_on_another_gpu() -> None:
    workload = replace(work(), placement=Placement(tables="host"))
    model = load_model("ultramemv2-227m-1.2b")
    time = predict(model, workload, load_hardware("h100-sxm"), calibrated("h100-sxm")).time
    assert isinstance(time, Unknown)
    assert "host memory" in time.reason


def test_a_grid_has_the_times_of_predict_and_says_which_are_transferred() -> None:
    names = ("h200", "b200", "mi300x")
    gpus = [load_hardware(name) for name in names]
    curves = [calibrated("h200", "h200.leaves"), *(calibrated(name) for name in names[1:])]
    batches, contexts = [1, 64], [128, 4096]
    grid = sweep(
        MODEL,
        work(),
        batches=batches,
        contexts=contexts,
        routings=[Uniform()],
        hardwares=gpus,
        calibrations=curves,
    )
    sources = grid.column("time.transferred_from")
    assert sources is not None
    assert sources[0, :, 0, 0].tolist() == [None, "h200", "h200"]
    for record in grid.records():
        place = [gpu.name for gpu in gpus].index(record["hardware"])
        alone = replace(work(), batch=record["batch"], context=record["context"])
        time = time_on(gpus[place], curves[place], alone)
        assert record["time.predicted_s"] == pytest.approx(time.predicted_s, rel=1e-12)
        ends = (record["time.interval_low_s"], record["time.interval_high_s"])
        assert ends == pytest.approx(time.interval_s, rel=1e-12)


def test_many_designs_have_the_times_of_predict() -> None:
    gpu, curves = load_hardware("b200"), calibrated("b200")
    found = evaluate([MODEL], work(), gpu, curves, batches=[1, 64], contexts=[2048])
    assert found.transfer is not None
    for place, batch in enumerate([1, 64]):
        time = time_on(gpu, curves, work(batch=batch))
        predicted = found.columns["time.predicted_s"][0, place, 0]
        assert predicted == pytest.approx(time.predicted_s, rel=1e-9)
