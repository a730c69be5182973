"""Predicted time and energy: launches, fused parts, floors, graph and eager, worked out by hand."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.backends.base import Backend
from costmodel.backends.step_kernels import Region
from costmodel.backends.torch import Torch
from costmodel.costs.energy import energy_j
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import (
    NOT_ASKED,
    OperatorTime,
    StepTime,
    Unknown,
    region_time,
    step_time,
)
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.roofline import Ceilings
from costmodel.costs.totals import totals
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.formats import Formats
from costmodel.layers.kernel_shape import Gemm
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part
from costmodel.layers.site import layer_pattern
from costmodel.routing.popularity import Zipf
from tests.backends.kernels import kernels
from tests.costs.calibrations import calibration, curves, fast
from tests.steps import tiny_model
from tests.strategies import PRESETS

GPU = load_hardware("h200")
HAND, FAST = curves(), fast()
NEVER = 1e30  # bytes/s and FLOP/s of a GPU whose floors are 0
GEMM = Gemm(m=1, n=10, k=100)  # 1 us


def ceilings(per_s: float) -> Ceilings:
    """The same of bytes and of FLOPs."""
    return Ceilings(hbm_bytes_per_s=per_s, peak_flops_per_s=per_s)


class Told(Backend):
    """Launches by the name of the part, as a test states them."""

    def __init__(self, launches: dict[str, int], *, saves: bool) -> None:
        self.name, self.launches_of, self.saves_intermediates = "told", launches, saves

    def launches(self, operator: Operator, part: Part, tokens: Number) -> int:
        del operator, tokens
        return self.launches_of.get(part.name, 0)


def part(name: str = "a", **fields: Any) -> Part:  # noqa: ANN401 - any field of a part
    return Part(name=name, kind="elementwise", **fields)


def timed(
    *parts: Part, launches: dict[str, int], saves: bool = False, floors: float = NEVER
) -> OperatorTime:
    operator = Operator(
        path="x", leaf="x", count=3, kind="matmul", parts=parts, formula="f", source="s"
    )
    region = Region(operators=(operator,), layers=())
    seconds, (time,) = region_time(
        HAND, region, kernels(Told(launches, saves=saves)), ceilings(floors)
    )
    assert time.seconds is seconds
    return time


def us(time: OperatorTime) -> tuple[object, list[object], object]:
    """Operator, parts and routing in microseconds, to rounding."""
    near = (pytest.approx(part_s * 1e6, rel=1e-9) for part_s in time.parts_s)
    return (
        pytest.approx(time.seconds * 1e6, rel=1e-9),
        list(near),
        pytest.approx(time.routing_s * 1e6, rel=1e-9, abs=1e-9),
    )


def test_a_part_takes_its_curve_and_its_launches() -> None:
    assert us(timed(part(shape=GEMM), launches={"a": 3})) == (4, [4], 0)
    assert us(timed(part(shape=GEMM), launches={"a": 2})) == (3, [3], 0)


def test_an_elementwise_part_moves_all_its_bytes_in_as_many_kernels() -> None:
    quarter = 250_000  # in each of two kernels 500,000: 10 us / sqrt(2)
    moves = part(
        weight_bytes=quarter, kv_read_bytes=quarter // 2, io_read_bytes=quarter // 2,
        input_bytes=quarter, inner_input_bytes=quarter // 2, inner_output_bytes=quarter // 2,
    )  # fmt: skip
    seconds, _, _ = us(timed(moves, launches={"a": 2}))
    assert seconds == 2 * 10 / 2**0.5 + 2
    fused, _, _ = us(timed(moves, launches={"a": 1}, saves=True))  # 750,000 in one
    assert fused == 10 * 0.75**0.5 + 1


def test_a_part_within_another_launch_costs_what_it_adds() -> None:
    hidden = part("hidden", output_bytes=10**4)  # 1 us: as long as the product
    longer = part("longer", input_bytes=9 * 10**4, routing=True)  # together 10^5: sqrt(10)
    first, launches = part("first", shape=GEMM), {"first": 1}
    assert us(timed(first, hidden, launches=launches)) == (2, [2, 0], 0)
    adds = 10**0.5 - 1
    assert us(timed(first, hidden, longer, launches=launches)) == (2 + adds, [2, 0, adds], adds)


def test_a_new_launch_begins_with_each_part_that_has_one() -> None:
    first = part("first", input_bytes=10**6)  # 10 + 1
    second = part("second", output_bytes=10**4, routing=True)  # 1 + 1
    inside = part("inside", input_bytes=3 * 10**4)  # 4 10^4 in the second: 2
    launches = {"first": 1, "second": 1}
    assert us(timed(first, second, inside, launches=launches)) == (14, [11, 2, 1], 2)


def test_parts_before_the_first_launch_run_inside_it() -> None:
    add = part("add", input_bytes=10**4)  # 1, as a launch of its own + 1
    norm = part("norm", output_bytes=3 * 10**4)  # sqrt(3)
    seconds, _, _ = us(timed(add, norm, launches={"add": 1, "norm": 1}))
    assert seconds == 1 + 1 + 3**0.5 + 1
    assert us(timed(add, norm, launches={"norm": 1})) == (
        3,
        [1, 2],
        0,
    )  # 4 10^4 bytes in one: 2 + 1


def test_a_kernel_over_several_operators_takes_as_long_as_its_longest_part() -> None:
    """Norm and product of one kernel, and a second kernel: the times of the operators by share."""
    norm = Operator(
        path="layers.{0-1}.norm", leaf="norm", layers=(0, 1), count=2, kind="norm",
        parts=(part("norm", input_bytes=10**4),), formula="f", source="s",
    )  # fmt: skip
    product = Operator(
        path="layers.{0-1}.up", leaf="up", layers=(0, 1), count=2, kind="matmul",
        parts=(part("gemm", shape=GEMM), part("act", output_bytes=10**6, routing=True)),
        formula="f", source="s",
    )  # fmt: skip
    region = Region(operators=(norm, product), layers=(0, 1))
    told = kernels(Told({"norm": 1, "act": 1}, saves=True))
    seconds, (first, second) = region_time(HAND, region, told, ceilings(NEVER))
    assert seconds == pytest.approx(1e-6 * (1 + 1 + 1 + 10), rel=1e-9)  # 1 us, both; 10 us
    assert us(first) == (2, [2], 0)
    assert us(second) == (11, [0, 11], 11)
    _, (first, second) = region_time(
        HAND, region, told, ceilings(1.0)
    )  # a bound of 0 bytes, 0 FLOPs
    assert us(second) == (11, [0, 11], 11)


def test_an_operator_in_several_regions_takes_the_mean_of_its_layers() -> None:
    """The norm of layer 0 is an operator of its own, so `up` stands in two regions: 1 and 2 layers.

    With layer 0's norm the kernel is as long as the norm, and `up` adds nothing; in the others the
    norm takes 1 us and `up` makes the kernel 9 us longer.
    """

    class Spanning(Told):
        spans = (("norm", "up"),)

    def norm(layers: tuple[int, ...], moved_bytes: int) -> Operator:
        return Operator(
            path=f"layers.{layer_pattern(layers)}.norm", leaf="norm", layers=layers,
            count=len(layers), kind="norm", parts=(part("norm", input_bytes=moved_bytes),),
            formula="f", source="s",
        )  # fmt: skip

    big = Part(name="up", kind="matmul", shape=Gemm(m=1, n=100, k=100))  # 10 us, as 10^6 bytes
    up = Operator(
        path="layers.{0-2}.up", leaf="up", layers=(0, 1, 2), count=3, kind="matmul",
        parts=(big,), formula="f", source="s",
    )  # fmt: skip
    spanning = Spanning({"norm": 1}, saves=True)
    operators = (norm((0,), 10**6), norm((1, 2), 10**4), up)
    time = step_time(
        HAND, Workload(), operators, totals(operators), ceilings(NEVER), kernels=kernels(spanning)
    )
    assert isinstance(time, StepTime)
    first, _, mean = (operator.seconds * 1e6 for operator in time.operators)
    alone = HAND.shape_s(big.shape) * 1e6 if big.shape else 0
    others = alone - 1  # beyond the norm of 1 us in the same kernel
    assert first == pytest.approx(10 + 1, rel=1e-9)
    assert mean == pytest.approx((max(alone - 10, 0) + 2 * others) / 3, rel=1e-9)
    assert time.graph_s * 1e6 == pytest.approx(max(10, alone) + 1 + 2 * (alone + 1), rel=1e-9)


def test_an_operator_takes_no_less_than_its_floor() -> None:
    time = timed(part(weight_bytes=10**6), launches={"a": 1}, floors=1e6)
    assert time.seconds == 1
    assert time.parts_s[0] == pytest.approx(11e-6)
    computing = timed(part(flops=10**6), launches={"a": 1}, floors=1e5)
    assert computing.seconds == 10


def predicted(
    model: Any = None,  # noqa: ANN401 - a model, or the tiny one
    workload: Workload = Workload(batch=3, context=5),  # noqa: B008 - frozen
    by: Curves = HAND,
) -> tuple[Prediction, StepTime]:
    prediction = predict(model or tiny_model(), workload, GPU, by)
    assert isinstance(prediction.time, StepTime)
    return prediction, prediction.time


def test_a_step_by_hand() -> None:
    """Three layers of D = 8 at batch 3: every shape is below the smallest point of its curve."""
    prediction, time = predicted()
    # 1 us for each kernel of elementwise work or product, 2 for attention; and its launch.
    layer_us = {
        "embed": 2,
        "attention_norm": 2,  # the first has no residual to add; the others do
        "qkv": 2, "output": 2, "gate_up": 2 + 4, "down": 2,  # SiLU and the product with its gate
        "rope": 2 * (22 + 3),
        "core": 3,
        "ffn_norm": 4, "final_norm": 4, "lm_head": 2,
    }  # fmt: skip
    total = 0
    for operator, layer in zip(prediction.costs.operators, time.operators, strict=True):
        leaf = operator.path.rpartition(".")[2]
        expected = 4 if operator.path == "layers.{1-2}.attention_norm" else layer_us[leaf]
        assert layer.seconds * 1e6 == pytest.approx(expected, rel=1e-9), operator.path
        total += operator.count * expected
    assert total == 2 + 2 + 2 * 4 + 3 * (2 + 50 + 3 + 2 + 4 + 6 + 2) + 4 + 2
    assert time.graph_s * 1e6 == pytest.approx(total, rel=1e-9)
    launches = kernels().launches_of(prediction.costs.operators)
    assert launches is not None
    assert time.eager_s == pytest.approx(launches * 5e-6, rel=1e-12)  # the host is the slower one
    assert launches * 5 > total
    assert time.predicted_s == time.graph_s


def test_decode_runs_as_a_graph_and_prefill_eagerly() -> None:
    for phase, kind in (("decode", "graph_s"), ("prefill", "eager_s")):
        _, time = predicted(workload=Workload(phase=phase, batch=3, context=5))  # type: ignore[arg-type]
        assert time.eager_s > time.graph_s
        assert time.predicted_s == getattr(time, kind)


def test_eagerly_the_longer_of_host_and_gpu_counts() -> None:
    work = Workload(phase="prefill", batch=64, context=0, new_tokens=4096)
    prediction, time = predicted(PRESETS["olmoe-1b-7b"], work)
    launches = kernels().launches_of(prediction.costs.operators)
    assert launches is not None
    assert time.eager_s == time.graph_s > launches * 5e-6


def test_fused_kernels_have_no_time_until_a_calibration_has_theirs() -> None:
    work = Workload(batch=64, context=2048, backend="fused")
    time = predict(PRESETS["olmoe-1b-7b"], work, GPU, HAND).time
    assert time == Unknown(reason="no calibration holds times of the kernels of the backend fused")
    refused = predict(PRESETS["peer-12l-1m"], work, GPU, HAND).time
    reason = (
        "the backend fused has no kernels for an ungated feed-forward layer with activation=gelu"
    )
    assert refused == Unknown(reason=reason)


def test_a_backend_that_saves_intermediates_does_not_pay_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Workload(batch=64, context=2048)
    _, torch = predicted(PRESETS["olmoe-1b-7b"], work)
    monkeypatch.setattr(Torch, "saves_intermediates", True)
    _, saved = predicted(PRESETS["olmoe-1b-7b"], work)
    assert saved.graph_s < torch.graph_s


def test_energy_by_hand() -> None:
    power = calibration().power  # 100 W idle, 1e-10 J a byte, 1e-12 J a FLOP
    assert power is not None
    numbers = {"seconds": 0.5, "moved_bytes": 3 * 10**11, "flops": 2 * 10**13}
    assert energy_j(power, None, **numbers) == pytest.approx(0.5 * 100 + 30 + 20, rel=1e-12)
    assert energy_j(power, 201.0, **numbers) == pytest.approx(100, rel=1e-12)
    assert energy_j(power, 160.0, **numbers) == 80  # the limit, all the time


def test_energy_of_a_step_is_that_of_its_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Workload(batch=3, context=5)
    prediction, time = predicted(workload=work)
    sums = prediction.costs.totals
    moved = sums.compulsory_bytes + sums.activation_bytes + sums.intermediate_bytes
    expected = 100 * time.graph_s + moved * 1e-10 + sums.flops * 1e-12
    assert time.energy_j == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(Torch, "saves_intermediates", True)
    _, saved = predicted(workload=work)
    expected = 100 * saved.graph_s + (moved - sums.intermediate_bytes) * 1e-10 + sums.flops * 1e-12
    assert saved.energy_j == pytest.approx(expected, rel=1e-12)


def test_power_has_a_limit() -> None:
    _, time = predicted(PRESETS["llama-3.1-8b"], Workload(batch=64), FAST)
    assert time.energy_j == 700.0 * time.predicted_s


def test_without_power_there_is_no_energy() -> None:
    _, time = predicted(by=curves(power=None))
    assert time.energy_j == Unknown(reason="the calibration measured no power")


@pytest.mark.parametrize(
    ("dtype", "kv_dtype"), [("fp8", "bf16"), ("bf16", "fp8"), ("fp32", "fp32"), ("fp16", "fp16")]
)
def test_without_leaves_to_transfer_another_format_has_no_time(
    dtype: str, kv_dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("costmodel.costs.transfer.shipped_leaves", lambda: None)
    work = Workload(formats=Formats(default=DTYPES[dtype]), kv_dtype=DTYPES[kv_dtype])
    prediction = predict(tiny_model(), work, GPU, curves())
    reason = f"calibrations are measured in bf16; this is dtype={dtype}, kv_dtype={kv_dtype}"
    assert prediction.time == Unknown(reason=reason)


def test_without_a_calibration_there_is_no_time() -> None:
    assert predict(tiny_model(), Workload(), GPU).time is NOT_ASKED


workloads = st.builds(
    Workload,
    phase=st.just("prefill"),
    batch=st.integers(1, 2000),
    context=st.integers(0, 10**5),
    new_tokens=st.integers(1, 5000),
    routing=st.sampled_from([Workload().routing, Zipf(1.0)]),
    mla=st.sampled_from([None, "absorbed", "expanded"]),
    window_cache=st.sampled_from(["window", "whole"]),
    logits=st.sampled_from(["last", "all"]),
)
workloads |= workloads.map(lambda work: replace(work, mla=None, mla_cache="expanded"))
decodes = workloads.map(lambda work: replace(work, phase="decode", new_tokens=1))


@settings(max_examples=100)
@given(st.sampled_from(sorted(PRESETS)), workloads | decodes, st.sampled_from([HAND, FAST]))
def test_laws_of_every_preset(name: str, work: Workload, by: Curves) -> None:
    prediction, time = predicted(PRESETS[name], work, by)
    total = routing = 0.0
    for operator, layer in zip(prediction.costs.operators, time.operators, strict=True):
        assert layer.seconds >= prediction.operator_floor_s(operator)
        assert all(part_s >= 0 for part_s in layer.parts_s)
        assert sum(layer.parts_s) <= layer.seconds * (1 + 1e-9)
        chooses = [s for s, p in zip(layer.parts_s, operator.parts, strict=True) if p.routing]
        assert layer.routing_s == pytest.approx(sum(chooses), rel=1e-9)
        total += operator.count * float(layer.seconds)
        routing += operator.count * float(layer.routing_s)
    assert time.graph_s == pytest.approx(total, rel=1e-12)
    assert time.routing_s == pytest.approx(routing, rel=1e-12)
    assert prediction.floor_s <= time.graph_s <= time.eager_s
    assert 0 <= time.routing_s / time.graph_s <= 1
    assert isinstance(time.energy_j, float)
    assert 0 < time.energy_j <= 700 * time.predicted_s


def test_a_fast_gpu_is_at_its_floors() -> None:
    prediction, time = predicted(PRESETS["llama-3.1-8b"], Workload(batch=16), FAST)
    floors = [prediction.operator_floor_s(operator) for operator in prediction.costs.operators]
    at_floor = [
        floor for floor, its in zip(floors, time.operators, strict=True) if its.seconds == floor
    ]
    assert len(at_floor) > len(floors) / 2


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(PRESETS)),
    workloads | decodes,
    st.sampled_from(["batch", "context"]),
    st.integers(1, 1000),
)
def test_more_work_takes_no_less_time(name: str, work: Workload, axis: str, more: int) -> None:
    _, before = predicted(PRESETS[name], work)
    _, after = predicted(PRESETS[name], replace(work, **{axis: getattr(work, axis) + more}))
    for field in ("graph_s", "eager_s", "energy_j"):
        assert getattr(before, field) <= getattr(after, field) * (1 + 1e-9)
