"""Served requests: worked out by hand, and against one-by-one predictions."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED, StepTime, Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.errors import InputError
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.questions.generation import MAX_EVALUATED
from costmodel.questions.grid import Grid
from costmodel.questions.request import Estimate, Request, Served, serve
from costmodel.questions.sweep import sweep
from costmodel.routing.popularity import Zipf
from tests.costs.calibrations import EAGER_S, US, curves
from tests.steps import tiny_model
from tests.strategies import PRESETS

GPU = load_hardware("h200")
HAND = curves()
MODEL = "ultramemv2-227m-1.2b"
MODELS = ("ultramemv2-227m-1.2b", "olmoe-1b-7b", "gpt-oss-20b", "deepseek-v2-lite")
# Of the tiny model (tests/costs/test_latency.py), whatever the context below 200 and the batch:
STEP_S = 225 * US  # a decode step as a CUDA graph
LAUNCHES = 111  # of a step: 1 + 5 + 3 (1 + 25 + 1 + 1 + 2 + 3 + 1) + 2 + 1
PREFILL_S = LAUNCHES * EAGER_S  # the GPU would need 225 + 3 (5 - 2) us: the host is slower


def tiny(*, price: float | None = None, by: Curves | Unknown = HAND, **sizes: int) -> Served:
    request = Request(**({"prompt": 2, "output": 5, "batch": 3} | sizes), price_per_hour=price)
    return serve(tiny_model(), request, Workload(), GPU, by)


def served(
    name: str,
    prompt: int,
    output: int,
    batch: int = 1,
    workload: Workload = Workload(),  # noqa: B008
) -> Served:
    request = Request(prompt=prompt, output=output, batch=batch)
    return serve(PRESETS[name], request, workload, GPU, HAND)


def known(value: float | Unknown) -> float:
    assert not isinstance(value, Unknown), value
    return value


def times(prediction: Prediction) -> StepTime:
    assert isinstance(prediction.time, StepTime)
    return prediction.time


def near(values: Iterable[Any]) -> Any:  # noqa: ANN401 - what pytest compares with
    """Their sum, to 1e-9."""
    return pytest.approx(math.fsum(values), rel=1e-9, abs=0)


def test_times_by_hand() -> None:
    found = tiny()
    latency_s = PREFILL_S + 4 * STEP_S
    for estimate, seconds in (
        (found.ttft_s, PREFILL_S),
        (found.tpot_s, STEP_S),
        (found.latency_s, latency_s),
        (found.tokens_per_s, 3 * 5 / latency_s),
        (found.tokens_per_s_per_user, 5 / latency_s),
    ):
        assert known(estimate.predicted) == pytest.approx(seconds, rel=1e-9)


def test_memory_by_hand() -> None:
    """A token takes 3 layers x (key and value) x 4 x 2 bytes; the fifth is never cached."""
    found = tiny()
    assert found.end_step.memory.kv_bytes == 3 * (2 + 4) * 48
    assert found.prefill_step.memory.kv_bytes == 3 * 2 * 48
    assert found.end_step.workload.context == 2 + 5 - 2
    assert found.fits


def test_energy_by_hand() -> None:
    """Idle power over the time; a few kilobytes and FLOPs add next to nothing."""
    found = tiny()
    energy_j = 100 * (PREFILL_S + 4 * STEP_S)
    assert known(found.energy_j) == pytest.approx(energy_j, rel=1e-3)
    assert known(found.energy_j) > energy_j
    assert known(found.j_per_request) == pytest.approx(energy_j / 3, rel=1e-3)
    assert known(found.j_per_million_output_tokens) == pytest.approx(energy_j / 15 * 1e6, rel=1e-3)
    assert known(found.j_per_million_tokens) == pytest.approx(energy_j / 21 * 1e6, rel=1e-3)


def test_cost_by_hand() -> None:
    found = tiny(price=7200.0)  # 2 USD for a second
    usd = 2 * (PREFILL_S + 4 * STEP_S)
    for estimate, cost in (
        (found.usd, usd),
        (found.usd_per_request, usd / 3),
        (found.usd_per_million_output_tokens, usd / 15 * 1e6),
        (found.usd_per_million_tokens, usd / 21 * 1e6),
    ):
        assert known(estimate.predicted) == pytest.approx(cost, rel=1e-9)
    assert known(found.usd.floor) == pytest.approx(2 * known(found.latency_s.floor), rel=1e-12)
    assert tiny(price=0.0).usd == Estimate(floor=0.0, predicted=0.0)


def test_an_output_of_one_token_needs_no_decode() -> None:
    found = tiny(output=1, price=3600.0)
    assert (found.last_step, found.decode.steps) == (None, 0)
    assert isinstance(found.tpot_s.floor, Unknown)
    assert isinstance(found.tpot_s.predicted, Unknown)
    assert "output=1" in found.tpot_s.predicted.reason
    assert found.latency_s == found.ttft_s == found.usd
    assert found.hbm_bytes == found.prefill_step.costs.totals.compulsory_bytes
    assert found.end_step.memory.kv_bytes == 3 * 2 * 48


WORKLOADS = {
    "plain": Workload(),
    "zipf": Workload(routing=Zipf(1.0)),
    "its phase and sizes give way": Workload(phase="prefill", batch=9, context=4, new_tokens=7),
}


@pytest.mark.slow
@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("prompt", "output", "batch"), [(100, 2, 1), (97, 201, 5), (1, 40, 300)])
def test_sums_are_those_of_single_predictions(
    name: str, workload: Workload, prompt: int, output: int, batch: int
) -> None:
    found = served(name, prompt, output, batch, workload)
    usual = Workload(routing=workload.routing, backend=workload.backend, batch=batch)
    model = PRESETS[name]
    prefill = replace(usual, phase="prefill", context=0, new_tokens=prompt)
    first = predict(model, prefill, GPU, HAND)
    steps = [
        predict(model, replace(usual, context=context), GPU, HAND)
        for context in range(prompt, prompt + output - 1)
    ]
    for sums, each in ((found.prefill, [first]), (found.decode, steps)):
        assert (sums.steps, sums.evaluated, sums.error_bound) == (len(each), len(each), 0)
        assert sums.flops == sum(step.costs.totals.flops for step in each)
        assert sums.hbm_bytes == near(step.costs.totals.compulsory_bytes for step in each)
        assert sums.floor_s == near(step.floor_s for step in each)
        assert sums.predicted_s == near(times(step).predicted_s for step in each)
        assert sums.energy_j == near(times(step).energy_j for step in each)
    assert found.tpot_s.predicted == near(times(s).predicted_s / (output - 1) for s in steps)


@given(
    name=st.sampled_from(MODELS),
    prompt=st.integers(1, 4000),
    output=st.integers(1, 300),
    batch=st.integers(1, 200),
    more=st.integers(1, 500),
)
@settings(max_examples=40)
def test_more_of_anything_never_costs_less(
    name: str, prompt: int, output: int, batch: int, more: int
) -> None:
    less = served(name, prompt, output, batch)
    for greater in (
        served(name, prompt + more, output, batch),
        served(name, prompt, output + more, batch),
        served(name, prompt, output, batch + more),
    ):
        for a, b in ((less.ttft_s, greater.ttft_s), (less.latency_s, greater.latency_s)):
            assert known(a.floor) <= known(b.floor) * (1 + 1e-12)
            assert known(a.predicted) <= known(b.predicted) * (1 + 1e-12)
        assert less.flops < greater.flops
        assert less.hbm_bytes < greater.hbm_bytes
        assert known(less.energy_j) < known(greater.energy_j)
        assert less.max_batch >= greater.max_batch
        assert known(greater.latency_s.floor) <= known(greater.latency_s.predicted)


@pytest.mark.parametrize(("prompt", "output"), [(2048, 256), (1, 5000), (3000, 1)])
def test_the_largest_batch_fits_and_one_more_does_not(prompt: int, output: int) -> None:
    most = served(MODEL, prompt, output).max_batch
    assert served(MODEL, prompt, output, most).fits
    beyond = served(MODEL, prompt, output, most + 1)
    assert not beyond.fits
    assert beyond.max_batch == most


def test_a_prefill_may_not_fit_where_the_cache_would() -> None:
    batch = served(MODEL, 2048, 2).end_step.memory.max_batch
    found = served(MODEL, 2048, 2, int(batch))
    assert found.end_step.memory.fits
    assert not found.prefill_step.memory.fits
    assert not found.fits


UNKNOWN: dict[str, tuple[Workload, Curves | Unknown]] = {
    "no calibration is applied": (Workload(), NOT_ASKED),
    "the backend fused": (Workload(backend="fused"), HAND),
}


@pytest.mark.parametrize("reason", UNKNOWN)
@pytest.mark.parametrize("output", [1, 9])
def test_without_a_calibration_there_are_floors_only(reason: str, output: int) -> None:
    workload, by = UNKNOWN[reason]
    request = Request(prompt=7, output=output, batch=2, price_per_hour=1.0)
    found = serve(tiny_model(), request, workload, GPU, by)
    for estimate in (found.ttft_s, found.latency_s, found.usd_per_million_tokens):
        assert known(estimate.floor) > 0
        assert isinstance(estimate.predicted, Unknown)
        assert reason in estimate.predicted.reason
    assert isinstance(found.j_per_request, Unknown)
    assert reason in found.j_per_request.reason


def test_without_power_there_is_no_energy() -> None:
    found = tiny(by=curves(power=None))
    assert known(found.latency_s.predicted) == pytest.approx(PREFILL_S + 4 * STEP_S, rel=1e-9)
    assert isinstance(found.energy_j, Unknown)
    assert "no power" in found.energy_j.reason


def test_without_a_price_there_is_no_cost() -> None:
    no = Unknown(reason="no price given")
    assert tiny().usd == tiny(by=NOT_ASKED).usd_per_request == Estimate(floor=no, predicted=no)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": 0}, "prompt=0: must be a whole number from 1 to 16,777,216"),
        ({"output": 2**24 + 1}, "output=16777217: must be a whole number from 1 to 16,777,216"),
        ({"batch": -1}, "batch=-1: must be a whole number from 1 to 1,048,576"),
        ({"price_per_hour": -0.1}, "price_per_hour=-0.1: is a number from 0 to 1,000,000"),
        ({"price_per_hour": math.nan}, "price_per_hour=nan: is a number from 0 to 1,000,000"),
        ({"price_per_hour": math.inf}, "price_per_hour=inf: is a number from 0 to 1,000,000"),
    ],
)
def test_a_request_keeps_its_bounds(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Request(**({"prompt": 1, "output": 1, "batch": 1} | fields))
    assert str(caught.value) == message


@pytest.mark.parametrize("output", [2, 30, 1_000_000])
def test_an_answer_takes_two_predictions_and_one_bounded_sweep(
    output: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tokens are asked for; `make bench` says how long that takes."""
    steps: list[int] = []

    def predicted(*given: Any) -> Prediction:  # noqa: ANN401 - as of predict
        steps.append(1)
        return predict(*given)

    def swept(*given: Any, contexts: list[int], **axes: Any) -> Grid:  # noqa: ANN401 - as of sweep
        steps.append(len(contexts))
        return sweep(*given, contexts=contexts, **axes)

    monkeypatch.setattr("costmodel.questions.request.predict", predicted)
    monkeypatch.setattr("costmodel.questions.generation.sweep", swept)
    found = served("olmoe-1b-7b", 100, output)
    assert steps == [1, 1, min(output - 1, MAX_EVALUATED)]
    assert found.decode.evaluated == steps[-1]
