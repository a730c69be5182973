"""Corrections near measured leaves, and the interval of a step, worked out by hand."""

from dataclasses import replace
from math import exp, log, sqrt
from typing import NamedTuple, cast

import numpy as np
import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.intervals import NORMAL
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import StepTime
from costmodel.costs.leaf_times import EAGER, OF_STEP, LeafTimes, step_spread
from costmodel.costs.predict import predict
from costmodel.costs.residuals import FAR, NEAR, Nodes
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Operator, Part

H200 = load_hardware("h200")
CURVES = calibrated("h200", "h200.leaves")
NODES = Nodes(features=np.array([[0.0] * 4, [3.0, 4.0, 0.0, 0.0]]), errors=np.array([0.1, 0.4]))


def test_a_correction_is_a_mean_by_inverse_squares_with_a_node_of_none() -> None:
    near, five = 1 / NEAR**2, 1 / (25 + NEAR**2)
    expected = (0.1 * near + 0.4 * five) / (near + five + 1 / FAR**2)
    correction, distance = NODES.correction((0.0, 0.0, 0.0, 0.0))
    assert correction == pytest.approx(expected)
    assert distance == 0
    correction, distance = NODES.correction((0.0, 0.0, 1000.0, 0.0))
    assert correction == pytest.approx(0, abs=1e-4)
    assert distance == pytest.approx(1000)


def test_corrections_of_arrays_are_those_of_numbers() -> None:
    tokens = np.array([[0.0], [2.0]])
    moved = np.array([[0.5, 4.0, 9.0]])
    correction, distance = NODES.correction((tokens, moved, 1.0, 0.0))
    for i, j in np.ndindex(2, 3):
        at = NODES.correction((float(tokens[i, 0]), float(moved[0, j]), 1.0, 0.0))
        assert (correction[i, j], distance[i, j]) == pytest.approx(at)  # type: ignore[index]


class Toy(NamedTuple):
    """As much of an operator as a correction reads; each of its quantities is one byte or FLOP."""

    leaf: str
    compulsory_bytes: int = 1
    parts: tuple[Part, ...] = ()


def one_node(error: float) -> Nodes:
    return Nodes(features=np.zeros((1, 4)), errors=np.array([error]))


def test_a_number_of_kernels_has_its_own_spread_or_that_of_the_leaf() -> None:
    """At the node itself: the error times 4 / (4 + 1 / 9), by inverse squares of 1/2 and 3."""
    times = LeafTimes(
        parameters={},
        keeps=False,
        nodes={"a": one_node(0.2)},
        spreads={"": 0.3, "a": 0.5, "a in 1": 0.02},
    )
    share = 4 / (4 + 1 / 9)
    expected = {1: 0.02, 2: 0.5, 8: 0.5}
    toy = cast("Operator", Toy("a"))
    counts = np.array([1, 2, 8, 1])
    ((factors, spreads),) = times.corrections([toy], [counts], np.ones(4))
    for place, count in enumerate(counts.tolist()):
        ((factor, spread),) = times.corrections([toy], [count], 1)
        assert factor == pytest.approx(exp(0.2 * share))
        assert spread == expected[count]
        assert factor == np.asarray(factors)[place]
        assert spread == np.asarray(spreads)[place]


def test_layers_of_a_leaf_are_one_error_and_leaves_are_independent() -> None:
    """Twice 3 s of one leaf off by 10 %, 2 s of another off by 20 %, of 8 s."""
    found = step_spread([("a", 3.0, 0.1), ("a", 3.0, 0.1), ("b", 2.0, 0.2)], 8.0)
    of_step = sum(share**2 for share in OF_STEP.values())
    assert found == pytest.approx(sqrt((0.6**2 + 0.4**2) / 64 + of_step))
    half = step_spread([("a", 6.0, 0.1), ("b", 2.0, 0.2)], 8.0, share=0.5)
    assert half == pytest.approx(sqrt((0.6**2 + 0.4**2) / 4 / 64 + of_step))


def test_scaling_changes_rates_and_keeps_launches() -> None:
    parameters = {"a.hbm_bytes_per_s": 4.0, "b.bytes_per_s": 2.0, "c.flops_per_s": 8.0, "d_s": 1.0}
    scaled = LeafTimes(parameters=parameters, keeps=False).scaled(bandwidth=0.5, flops=0.25)
    assert scaled.parameters == {
        "a.hbm_bytes_per_s": 2.0,
        "b.bytes_per_s": 1.0,
        "c.flops_per_s": 2.0,
        "d_s": 1.0,
    }


@pytest.mark.parametrize("backend", ["torch", "fused"])
@pytest.mark.parametrize("batch", [1, 24, 700])
def test_a_step_lies_in_its_interval_and_above_its_bound(backend: str, batch: int) -> None:
    for name in ("olmoe-1b-7b", "ultramemv2-1b-7b", "deepseek-v2-lite"):
        work = Workload(batch=batch, context=3000, backend=backend)  # type: ignore[arg-type]
        prediction = predict(load_model(name), work, H200, CURVES)
        time = prediction.time
        assert isinstance(time, StepTime)
        assert time.interval_s is not None
        low, high = time.interval_s
        assert prediction.floor_s <= low <= time.predicted_s < high
        layers = zip(prediction.costs.operators, time.operators, strict=True)
        for operator, one in layers:
            assert one.seconds >= prediction.operator_floor_s(operator) * (1 - 1e-12)


def test_an_eager_step_has_the_spread_of_the_host() -> None:
    work = Workload(phase="prefill", new_tokens=64)
    time = predict(load_model("olmoe-1b-7b"), work, H200, CURVES).time
    assert isinstance(time, StepTime)
    assert time.interval_s is not None
    assert time.eager_s > time.graph_s
    assert time.interval_s[1] / time.predicted_s == pytest.approx(exp(NORMAL * EAGER))
    assert log(time.predicted_s / time.interval_s[0]) == pytest.approx(NORMAL * EAGER)


def test_without_leaves_there_is_no_interval() -> None:
    assert isinstance(CURVES, Curves)
    time = predict(load_model("olmoe-1b-7b"), Workload(), H200, replace(CURVES, leaves={})).time
    assert isinstance(time, StepTime)
    assert time.interval_s is None
