"""Numbers of served requests must give what their steps, costed one by one, sum to."""

from dataclasses import dataclass

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.quantities.meshes import OF_REQUESTS
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.explain.explanation import Explanation
from costmodel.explain.request import REQUEST_BUILDERS, explain_request
from costmodel.explain.working import worked
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import ONE_GPU, Mesh
from costmodel.questions.request import Request, Served, serve
from costmodel.show.request_json import numbers

MODEL, BATCH, PROMPT, OUTPUT, PRICE = "ultramemv2-1b-7b", 4, 300, 6, 3.6


def served(
    *,
    gpu: str = "h200",
    output: int = OUTPUT,
    price: float | None = PRICE,
    mesh: Mesh = ONE_GPU,
) -> Served:
    request = Request(prompt=PROMPT, output=output, batch=BATCH, price_per_hour=price)
    workload = Workload(mesh=mesh)
    return serve(load_model(MODEL), request, workload, load_hardware(gpu), calibrated(gpu))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Bounds, predicted times and energies of the prefill and of the decode steps, one by one."""

    floors_s: list[float]
    predicted_s: list[float]
    energies_j: list[float]


@pytest.fixture(scope="module")
def steps() -> Sums:
    """Each step by `predict`, without the grid that the code sums over."""

    def step(workload: Workload) -> Prediction:
        return predict(load_model(MODEL), workload, load_hardware("h200"), calibrated("h200"))

    prefill = Workload(phase="prefill", batch=BATCH, context=0, new_tokens=PROMPT)
    contexts = [PROMPT + place for place in range(OUTPUT - 1)]
    every = [step(prefill), *(step(Workload(batch=BATCH, context=size)) for size in contexts)]
    times = [one.time for one in every]
    return Sums(
        floors_s=[one.floor_s for one in every],
        predicted_s=[float(time.predicted_s) for time in times if not isinstance(time, Unknown)],
        energies_j=[
            float(time.energy_j)
            for time in times
            if not isinstance(time, Unknown) and not isinstance(time.energy_j, Unknown)
        ],
    )


def assert_reaches(number: str, expected: float) -> None:
    """The value, the result of the equation, and what a calculator says, are as expected."""
    found = explain_request(served(), number)
    (equation, *_) = found.equations
    for value in (found.value, equation.result):
        assert value == pytest.approx(expected, rel=1e-9), number
    assert worked(equation.values, {}).result == pytest.approx(expected, rel=1e-4), number


@pytest.mark.parametrize("basis", ["predicted", "floor"])
def test_what_follows_from_times_is_what_the_steps_sum_to(steps: Sums, basis: str) -> None:
    times = steps.predicted_s if basis == "predicted" else steps.floors_s
    latency = sum(times)
    usd = PRICE * latency / 3600
    for number, expected in {
        f"ttft.{basis}_s": times[0],
        f"tpot.{basis}_s": sum(times[1:]) / (OUTPUT - 1),
        f"latency.{basis}_s": latency,
        f"throughput.{basis}_tokens_per_s": BATCH * OUTPUT / latency,
        f"throughput.{basis}_tokens_per_s_per_user": OUTPUT / latency,
        f"cost.{basis}_usd": usd,
        f"cost.{basis}_usd_per_request": usd / BATCH,
        f"cost.{basis}_usd_per_million_output_tokens": usd / (BATCH * OUTPUT) * 1e6,
        f"cost.{basis}_usd_per_million_tokens": usd / (BATCH * (PROMPT + OUTPUT)) * 1e6,
    }.items():
        assert_reaches(number, expected)


def test_energies_are_what_the_steps_sum_to(steps: Sums) -> None:
    joules = sum(steps.energies_j)
    assert_reaches("energy.prefill_j", steps.energies_j[0])
    assert_reaches("energy.total_j", joules)
    assert_reaches("energy.j_per_request", joules / BATCH)
    assert_reaches("energy.j_per_million_output_tokens", joules / (BATCH * OUTPUT) * 1e6)
    assert_reaches("energy.j_per_million_tokens", joules / (BATCH * (PROMPT + OUTPUT)) * 1e6)


def rows(found: Explanation) -> list[tuple[object, ...]]:
    assert found.terms is not None
    return list(found.terms.rows)


def test_the_table_has_the_first_and_the_last_step_and_the_sum(steps: Sums) -> None:
    table = rows(explain_request(served(), "tpot.predicted_s"))
    assert [row[:2] for row in table] == [
        ("prefill", "0"),
        ("first decode step", "300"),
        ("last decode step", "304"),
        ("all decode steps (5)", "300 to 304"),
    ]
    for place, values in ((2, steps.floors_s), (3, steps.predicted_s), (4, steps.energies_j)):
        expected = (values[0], values[1], values[-1], sum(values[1:]))
        assert [row[place] for row in table] == pytest.approx(expected)


def test_every_number_of_a_request_is_explained_or_says_why_it_is_not_known() -> None:
    assert set(REQUEST_BUILDERS) == set(REQUEST_QUANTITIES)
    of_a_mesh = {quantity.name for quantity in OF_REQUESTS}
    requests = (served(), served(output=1, price=None), served(gpu="b200"), served(mesh=Mesh(dp=4)))
    for found_served in requests:
        values = numbers(found_served)
        lacking = of_a_mesh if found_served.gpus == 1 else set()
        assert set(REQUEST_BUILDERS) - set(values) == lacking
        for number, value in values.items():
            found = explain_request(found_served, number)
            assert found.source.startswith("costmodel.")
            if isinstance(value, Unknown):
                assert (found.value, found.reason) == (None, value.reason)
                assert not found.equations
            else:
                assert found.value == value
                result = found.equations[0].result
                approx = isinstance(value, float)
                assert result == (pytest.approx(value, rel=1e-12) if approx else value), number


def test_steps_that_are_not_all_costed_are_said_to_be_so() -> None:
    many = served(output=10_001)
    words = explain_request(many, "flops.decode").equations[0].formula
    assert "10,000 steps of the decode" in words
    assert "4,096 of them costed" in words
    assert explain_request(many, "decode.evaluated").equations[0].values == "min(10001 - 1, 4096)"


def test_a_request_of_one_token_has_no_decode_step(steps: Sums) -> None:
    one = served(output=1)
    assert explain_request(one, "tpot.predicted_s").reason.startswith("output=1: ")
    latency = explain_request(one, "latency.predicted_s")
    assert latency.value == pytest.approx(steps.predicted_s[0])
    assert [row[0] for row in rows(latency)] == ["prefill"]


def test_the_largest_batch_of_requests_fits_and_one_more_does_not() -> None:
    found = explain_request(served(), "memory.max_batch")
    assert isinstance(found.value, int)

    def fits(batch: int) -> bool:
        request = Request(prompt=PROMPT, output=OUTPUT, batch=batch)
        return serve(load_model(MODEL), request, Workload(), load_hardware("h200")).fits

    assert fits(found.value)
    assert not fits(found.value + 1)
    least, prefill, last = found.equations
    assert least.result == min(int(prefill.result or 0), int(last.result or 0))
