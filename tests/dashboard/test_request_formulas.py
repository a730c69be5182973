"""A working of served requests must give the number that its steps, costed one by one, sum to."""

import re
from dataclasses import dataclass

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction, predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.questions.request import Request, Served, serve
from dashboard.pages.explore.request_formulas import REQUEST
from tests.sentences import says

MODEL, BATCH, PROMPT, OUTPUT, PRICE = "ultramemv2-1b-7b", 4, 300, 6, 3.6
UNIT = re.compile(r"(?<=\d) (?:ktoken/s|token/s|USD|kJ|MJ|J|ms|us|s)\b")
SCALES = {"k": 1e3, "M": 1e6, "m": 1e-3, "u": 1e-6}
B200 = "no calibration for GPU 'b200'; `sparsecost calibrate` makes one"
NO_DECODE = "output=1: the only token comes from the prefill, no decode step runs"


def served(*, gpu: str = "h200", output: int = OUTPUT, price: float | None = PRICE) -> Served:
    request = Request(prompt=PROMPT, output=output, batch=BATCH, price_per_hour=price)
    return serve(load_model(MODEL), request, Workload(), load_hardware(gpu), calibrated(gpu))


def lines_of(name: str, found: Served) -> tuple[str, ...]:
    return REQUEST[name](found).lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Floors, predicted times and energies of the prefill and of the decode steps, one by one."""

    floors_s: list[float]
    predicted_s: list[float]
    energies_j: list[float]


@pytest.fixture(scope="module")
def steps() -> Sums:
    """Each step by `predict`, without the grid that the code sums over."""

    def step(workload: Workload) -> Prediction:
        return predict(load_model(MODEL), workload, load_hardware("h200"), calibrated("h200"))

    prefill = Workload(phase="prefill", batch=BATCH, context=0, new_tokens=PROMPT)
    contexts = [PROMPT + i for i in range(OUTPUT - 1)]
    found = [step(prefill), *(step(Workload(batch=BATCH, context=each)) for each in contexts)]
    times = [each.time for each in found]
    return Sums(
        floors_s=[each.floor_s for each in found],
        predicted_s=[float(each.predicted_s) for each in times if not isinstance(each, Unknown)],
        energies_j=[
            float(each.energy_j)
            for each in times
            if not isinstance(each, Unknown) and not isinstance(each.energy_j, Unknown)
        ],
    )


def calculated(line: str) -> tuple[float, float]:
    """What a calculator says of `NAME = VALUES = RESULT`, and the result in the unit of values."""
    *_, values, result = line.removeprefix("= ").split(" = ")
    sums = UNIT.sub("", values).replace(",", "").replace(" x ", " * ")
    assert re.fullmatch(r"[\d\s.+*/()e-]+", sums), sums
    number, unit = result.split(" ")
    scale = 1 if unit in ("s", "J", "USD", "token/s") else SCALES[unit[0]]
    return float(eval(sums)), float(number) * scale  # noqa: S307 - digits and signs only


def assert_reaches(line: str, expected: float) -> None:
    values, result = calculated(line)
    assert values == pytest.approx(expected, rel=1e-5)
    assert result == pytest.approx(expected, rel=6e-4)  # four digits


def test_each_working_reaches_what_the_steps_sum_to(steps: Sums) -> None:
    found = served()
    tokens, all_tokens = BATCH * OUTPUT, BATCH * (PROMPT + OUTPUT)
    for at, times in ((0, steps.predicted_s), (1, steps.floors_s)):
        prefill, latency = times[0], sum(times)
        usd = PRICE * latency / 3600
        tpot = sum(times[1:]) / (OUTPUT - 1)
        assert_reaches(lines_of("TPOT", found)[2 + at], tpot)
        assert_reaches(lines_of("Latency of a request", found)[1 + at], prefill + tpot * 5)
        assert_reaches(lines_of("Output speed", found)[1 + at], tokens / latency)
        assert_reaches(lines_of("Output speed", found)[5 + at], OUTPUT / latency)
        costs = lines_of("Cost per 1M output", found)
        assert_reaches(costs[1 + at], usd)
        assert_reaches(costs[5 + at], usd / BATCH)
        assert_reaches(costs[9 + at], usd / tokens * 1e6)
        assert_reaches(costs[13 + at], usd / all_tokens * 1e6)
    energies, joules = lines_of("Energy per 1M output", found), sum(steps.energies_j)
    assert_reaches(energies[1], joules)
    assert_reaches(energies[2], joules / BATCH)
    assert_reaches(energies[3], joules / tokens * 1e6)
    assert_reaches(energies[4], joules / all_tokens * 1e6)


def test_time_to_first_token_is_the_prefill_launched_one_by_one(steps: Sums) -> None:
    lines = lines_of("TTFT", served())
    assert says(lines[0], "TTFT", "prefill", 4, 300)
    assert calculated(f"x = 0 = {lines[-2].split(', ')[-1]}")[1] == pytest.approx(
        steps.predicted_s[0], rel=6e-4
    )
    found = re.search(r"max\((.*) B / (.*) B/s, (.*) FLOP / (.*) FLOP/s of bf16\)", lines[-1])
    assert found
    moved, bandwidth, flops, peak = (float(each.replace(",", "")) for each in found.groups())
    assert max(moved / bandwidth, flops / peak) == pytest.approx(steps.floors_s[0], rel=1e-4)
    assert (bandwidth, peak) == (4.8e12, 9.894e14)  # the H200's datasheet


def test_the_table_has_the_first_and_the_last_step_and_the_sum(steps: Sums) -> None:
    rows = REQUEST["TPOT"](served()).terms
    assert [(row["Step"], row["Tokens cached"]) for row in rows] == [
        ("prefill", "0"),
        ("first decode step", "300"),
        ("last decode step", "304"),
        ("sum of all decode steps, 5", "300 to 304"),
    ]
    for header, values, scale in (
        ("Floor, ms", steps.floors_s, 1e3),
        ("Predicted, ms", steps.predicted_s, 1e3),
        ("Energy, J", steps.energies_j, 1),
    ):
        expected = (values[0], values[1], values[-1], sum(values[1:]))
        assert [row[header] for row in rows] == pytest.approx([scale * each for each in expected])


def test_steps_that_are_not_all_costed_are_said_to_be_so() -> None:
    working = REQUEST["TPOT"](served(output=10_001))
    assert working.lines[1].startswith("O - 1 = 10,001 - 1 = 10,000 steps, 4,096 of them costed;")
    assert "trapezoid" in working.doc


def test_a_request_of_one_token_has_no_decode_step() -> None:
    found = served(output=1)
    assert lines_of("TPOT", found)[1:] == (
        "O - 1 = 1 - 1 = 0 steps",
        f"predicted: n/a ({NO_DECODE})",
        f"by the floor: n/a ({NO_DECODE})",
    )
    assert [row["Step"] for row in REQUEST["TPOT"](found).terms] == ["prefill"]
    ttft = lines_of("TTFT", found)[-2].split(", ")[-1]
    assert lines_of("Latency of a request", found)[1].endswith(f" s + 0 s = {ttft}")


def test_without_a_price_the_cost_says_so() -> None:
    assert lines_of("Cost per 1M output", served(price=None))[1:] == ("n/a: no price given",)
    free = lines_of("Cost per 1M output", served(price=0.0))
    assert all(line.endswith((":", " = 0 USD")) for line in free[1:] if line)


def test_without_a_calibration_floors_stand_beside_the_reason() -> None:
    found = served(gpu="b200")
    assert lines_of("TTFT", found)[1] == f"not predicted: {B200}"
    assert lines_of("Energy per 1M output", found)[1:] == (f"not predicted: {B200}",)
    for name, line in (("TPOT", 2), ("Latency of a request", 1), ("Output speed", 1)):
        predicted, floor = lines_of(name, found)[line : line + 2]
        assert predicted == f"predicted: n/a ({B200})"
        values, result = calculated(floor)
        assert values == pytest.approx(result, rel=6e-4)
    assert {"Floor, ms"} == set(REQUEST["TPOT"](found).terms[0]) - {"Step", "Tokens cached"}


@pytest.mark.parametrize("name", REQUEST)
def test_every_working_has_its_source_and_no_none(name: str) -> None:
    for found in (served(), served(output=1, price=None), served(gpu="b200")):
        working = REQUEST[name](found)
        assert working.source.startswith("costmodel/questions/request.py, Served.")
        assert working.doc
        assert not any("None" in line or "Unknown" in line for line in working.lines)


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    lines = lines_of("Largest batch of requests", served())
    most = int(lines[-1].split(" = ")[1].replace(",", ""))

    def fits(batch: int) -> bool:
        request = Request(prompt=PROMPT, output=OUTPUT, batch=batch)
        return serve(load_model(MODEL), request, Workload(), load_hardware("h200")).fits

    assert fits(most)
    assert not fits(most + 1)
    found = []
    for line in lines[2:4]:
        values, result = line.split(" = ")[1:]
        found.append(result)
        assert re.fullmatch(r"[\d\s,+/()-]+", values)
        assert int(eval(values.replace(",", ""))) == int(result.replace(",", ""))  # noqa: S307 - digits and signs only
    assert lines[4] == f"min({', '.join(found)}) = {most:,}"
