"""Energy from steady loops: known coefficients are found again, and a step by hand."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.energy import executed_flops, fitted_energy_j
from costmodel.costs.energy_fit import EnergyCoefficients, fitted, nonnegative, of_card
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import StepTime
from costmodel.costs.predict import predict
from costmodel.costs.step import step_costs
from costmodel.errors import InputError
from costmodel.explain.numbers import explain_step
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.recordings.energy_loop import EnergyLoop
from costmodel.recordings.machine import Conditions
from costmodel.recordings.measured import Missing, Spread
from costmodel.show.prediction_json import prediction_json

AWAKE_W, READ, WRITTEN, CHIP, FLOP = 140.0, 60e-12, 90e-12, 9e-12, 0.5e-12
LOADS = {  # of a round: seconds, bytes read, written, within L2, FLOPs
    "512 kernels that do nothing": (4e-4, 0, 0, 0, 0),
    "copy": (5e-4, 10**9, 10**9, 0, 0),
    "sum": (2.5e-4, 10**9, 0, 0, 0),
    "fill": (2.6e-4, 0, 10**9, 0, 0),
    "elementwise within L2": (2e-4, 0, 0, 10**9, 0),
    "4 products of 1 rows with weights": (1.3e-4, 5 * 10**8, 0, 0, 4 * 10**9),
    "product of 4096, then 160 kernels that do nothing": (4e-4, 7 * 10**7, 3 * 10**7, 0, 10**11),
}


def loop(name: str, work: Sequence[float], *, joules: float, cap: bool = False) -> EnergyLoop:
    def spread(value: float) -> Spread:
        return Spread(median=value, q1=value, q3=value, repeats=5, source="nvml")

    seconds, read, written, chip, flops = work
    return EnergyLoop(
        name=name,
        round_s=seconds,
        bytes_read=read,
        bytes_written=written,
        l2_bytes=chip,
        flops=flops,
        energy_j=spread(joules),
        power_w=spread(joules / seconds),
        conditions=Conditions(
            started="2026-01-02T03:04:05Z", warm_up=1, event_reasons=("power cap",) if cap else ()
        ),
    )


def joules(work: Sequence[float], *, awake: float = 1, data: float = 1, flop: float = 1) -> float:
    seconds, read, written, chip, flops = work
    moved = READ * read + WRITTEN * written + CHIP * chip
    return awake * AWAKE_W * seconds + data * moved + flop * FLOP * flops


def loops(**scales: float) -> list[EnergyLoop]:
    return [loop(name, work, joules=joules(work, **scales)) for name, work in LOADS.items()]


def test_known_coefficients_are_found_again() -> None:
    found = fitted(loops())
    assert found.numbers == pytest.approx([AWAKE_W, READ, WRITTEN, CHIP, FLOP], rel=1e-6)
    assert not found.anchored


def test_a_loop_at_the_power_limit_says_nothing() -> None:
    capped = loop("product of 8192", (1e-3, 0, 0, 0, 10**12), joules=0.7, cap=True)
    assert fitted([*loops(), capped]) == fitted(loops())


def test_noise_of_two_per_cent_moves_no_coefficient_far() -> None:
    generator = np.random.default_rng(3)
    noisy = [
        loop(each.name, LOADS[each.name], joules=joules(LOADS[each.name]) * factor)
        for _ in range(3)
        for each, factor in zip(loops(), generator.normal(1, 0.02, len(LOADS)), strict=True)
    ]
    found = fitted(noisy)
    assert found.numbers == pytest.approx([AWAKE_W, READ, WRITTEN, CHIP, FLOP], rel=0.15)
    assert 0.01 < found.error < 0.1


def test_least_squares_never_turn_negative() -> None:
    """Of y = 2 x0 - x1 the best without a negative x is 1.5 x0 on these two rows: by hand."""
    a, b = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([2.0, 1.0])
    assert nonnegative(a, b) == pytest.approx([1.5, 0.0])
    assert nonnegative(a, np.array([1.0, 3.0])) == pytest.approx([1.0, 2.0])
    assert nonnegative(a, np.array([-1.0, -1.0])) == pytest.approx([0.0, 0.0])


def test_a_card_of_its_own_scales_its_coefficients() -> None:
    """A card that draws 8 % more at rest, 5 % more for bytes and 12 % more for FLOPs."""
    scales = {"awake": 1.08, "data": 1.05, "flop": 1.12}
    anchors = [each for each in loops(**scales) if each.name.startswith(("512", "copy", "product"))]
    found = of_card(fitted(loops()), anchors)
    scaled = [1.08 * AWAKE_W, 1.05 * READ, 1.05 * WRITTEN, 1.05 * CHIP, 1.12 * FLOP]
    assert found.numbers == pytest.approx(scaled, rel=1e-6)
    assert found.anchored


def test_the_interval_holds_the_spread_between_cards_unless_they_are_anchored() -> None:
    """Root of 0.03^2 + 0.1^2 + 0.04^2 by hand: 0.1118; anchored, 0.05."""
    other = EnergyCoefficients(
        awake_w=140,
        read_j_per_byte=0,
        written_j_per_byte=0,
        on_chip_j_per_byte=0,
        j_per_flop=0,
        error=0.03,
    )
    assert other.interval_j(10.0, (1.0, 0.96, 1.04)) == pytest.approx((8.882, 11.118), abs=1e-3)
    assert replace(other, anchored=True).interval_j(10.0, (1.0, 0.96, 1.04)) == (9.5, 10.5)


def test_loops_that_do_not_tell_loads_apart_are_refused() -> None:
    with pytest.raises(InputError, match="loops: 4 are below the power limit"):
        fitted(loops()[:4])
    alike = [each for each in loops() if "product" not in each.name]
    with pytest.raises(InputError, match="do not tell time, bytes and FLOPs apart"):
        fitted(alike)
    with pytest.raises(InputError, match="none is called 'copy'"):
        of_card(fitted(loops()), loops()[:1])
    lacking = replace(loops()[0], energy_j=Missing(reason="no counter"))
    with pytest.raises(InputError, match="has no energy"):
        fitted([*loops()[1:], lacking])


def test_a_step_by_hand() -> None:
    """1 ms, 2 GB read, 1 GB written, 0.5 GB on the chip, 1 TFLOP: 0.14 + 0.12 + 0.09 + ..."""
    found = fitted(loops())
    work = {
        "seconds": 1e-3,
        "read_bytes": 2e9,
        "written_bytes": 1e9,
        "on_chip_bytes": 5e8,
        "flops": 1e12,
    }
    by_hand = 0.14 + 0.12 + 0.09 + 0.0045 + 0.5
    assert fitted_energy_j(found, None, **work) == pytest.approx(by_hand, rel=1e-6)
    assert fitted_energy_j(found, 700.0, **work) == pytest.approx(0.7)


def test_one_row_executes_eight_times_the_flops_of_a_product() -> None:
    """As counted on an H200: 8 times at one row, 1.6 times at 5, none more at 64."""
    model = load_model("llama-3.1-8b")

    def ratio(batch: int) -> float:
        costs = step_costs(model, Workload(batch=batch, context=0).step())
        products = sum(
            op.count * part.flops
            for op in costs.operators
            for part in op.parts
            if part.kind == "matmul"
        )
        attention = costs.flops_by_kind["attention"]
        executed = executed_flops(costs.operators, costs.kernels("torch"))
        return float((executed - attention) / products)

    assert [ratio(batch) for batch in (1, 5, 64)] == pytest.approx([8, 1.6, 1])


def test_a_calibration_with_loops_predicts_by_them_and_explains_it() -> None:
    """J = awake watts x time + read, written, on-chip bytes and FLOPs at the loops' prices."""
    found = calibrated("h200")
    assert isinstance(found, Curves)
    curves = Curves.of(replace(found.calibration, loops=tuple(loops())))
    model, hardware = load_model("olmoe-1b-7b"), load_hardware("h200")
    prediction = predict(model, Workload(batch=5, context=300), hardware, curves)
    assert isinstance(prediction.time, StepTime)
    sums = prediction.costs.totals
    flops = executed_flops(prediction.costs.operators, prediction.kernels)
    by_hand = (
        AWAKE_W * prediction.time.predicted_s
        + READ * sums.read_bytes
        + WRITTEN * sums.written_bytes
        + CHIP * (sums.activation_bytes + sums.intermediate_bytes)
        + FLOP * flops
    )
    assert prediction.time.energy_j == pytest.approx(by_hand, rel=1e-6)
    explained = explain_step(prediction, "energy.predicted_j")
    assert explained.value == prediction.time.energy_j
    (equation,) = explained.equations
    assert equation.result == pytest.approx(by_hand, rel=1e-6)
    energy = prediction_json(prediction)["energy"]  # the loops are exact: 10 % between cards
    assert energy["interval_j"] == pytest.approx([0.9 * by_hand, 1.1 * by_hand], rel=1e-6)
    assert energy["interval_coverage"] == 0.9
