"""Predicted numbers have the digits that the interval of their time allows, wherever they stand."""

import json
import re
from dataclasses import replace
from functools import cache

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import StepTime
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.show.told_times import digits_of, digits_within, row_digits, shown
from dashboard.pages.explore.data import answer
from tests.commands import output
from tests.told import told

TIME, FLOPS = STEP_QUANTITIES["time.predicted_s"], STEP_QUANTITIES["flops.total"]


@cache
def step(gpu: str, calibration: str, batch: int = 16) -> Prediction:
    workload = Workload(batch=batch, context=2048)
    curves = calibrated(gpu, calibration or None)
    return predict(load_model("olmoe-1b-7b"), workload, load_hardware(gpu), curves)


@pytest.mark.parametrize(
    ("ends_ms", "digits", "told"),
    [
        ((8.0, 9.2), 3, "8.6 ms"),  # 7 % either way; the third digit is a zero
        ((7.75, 9.45), 3, "8.6 ms"),  # 9.9 % either way
        ((7.7, 9.5), 2, "8.6 ms"),  # 10.5 %
        ((5.4, 17.0), 2, "8.6 ms"),
        (None, 3, "8.6 ms"),
    ],
)
def test_half_an_interval_above_a_tenth_takes_the_third_digit(
    ends_ms: tuple[float, float] | None, digits: int, told: str
) -> None:
    ends = None if ends_ms is None else [end * 1e-3 for end in ends_ms]
    assert digits_within(8.596e-3, ends) == digits
    assert shown(TIME, 8.596e-3, digits) == told
    assert shown(TIME, 8.647e-3, digits) == ("8.65 ms" if digits > 2 else "8.6 ms")
    assert shown(FLOPS, 8_647_123, digits) == "8.647 MFLOP"  # exact, whatever the time


def test_a_step_of_wide_interval_and_one_of_none() -> None:
    none, far = step("h200", "h200").time, step("b200", "").time
    assert isinstance(none, StepTime)
    wide, narrow = (
        replace(none, interval_s=(none.predicted_s * (1 - off), none.predicted_s * (1 + off)))
        for off in (0.16, 0.04)
    )
    for time, digits in ((wide, 2), (narrow, 3), (none, 3), (far, 2)):
        assert digits_of(time) == digits
    assert digits_of(none, wide) == 2
    flat = {"time.predicted_s": 1.0, "time.interval_low_s": 0.95, "time.interval_high_s": 1.05}
    assert row_digits(flat, "time.") == 3
    assert row_digits(flat | {"time.transferred_from": "h200"}, "time.") == 2
    assert row_digits({"predicted_s": 1.0, "interval_s": [0.5, 1.5]}) == 2


@pytest.mark.parametrize("batch", [1, 16, 64, 1024])
def test_commands_and_the_page_tell_a_time_with_its_digits_and_its_interval(batch: int) -> None:
    """The JSON keeps all digits."""
    asked = ("olmoe-1b-7b", "--batch", str(batch))
    time = json.loads(output("predict", *asked, "--json"))["time"]
    words = f"{told(time, 1e3 * time['predicted_s']):g} ms"
    for command in ("predict", "sweep"):
        assert re.search(rf"(?<![\d.]){re.escape(words)}\b", output(command, *asked)), command
    compared = output("compare", "olmoe-1b-7b", "mistral-7b", "--batch", str(batch))
    assert re.search(rf"{re.escape(words)} \([\d.]+ ms to [\d.]+ ms\)", compared)
    title = answer(step("h200", "h200.leaves", batch))
    assert re.search(rf" {re.escape(words)} predicted \([\d.]+ ms to [\d.]+ ms\), ", title)
