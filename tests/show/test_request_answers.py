"""The answers of served requests: those of the JSON, with their bounds and their reasons."""

from functools import cache

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import Unknown
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.questions.request import Request, Served, serve
from costmodel.show.request_answers import answers, reasons
from costmodel.show.request_json import request_json


@cache
def served(*, output: int = 4, price: float | None = 3.6, gpu: str = "h200") -> Served:
    request = Request(prompt=100, output=output, batch=2, price_per_hour=price)
    model = load_model("ultramemv2-227m-1.2b")
    return serve(model, request, Workload(), load_hardware(gpu), calibrated(gpu))


def test_answers_are_the_numbers_of_the_json() -> None:
    data = request_json(served())
    for name, answer in answers(served()).items():
        section, last = name.split(".")
        assert answer.predicted == data[section][last]
        assert answer.bound == data[section].get(last.replace("predicted_", "floor_", 1)) or (
            answer.bound is None and section == "energy"
        )
    assert reasons(served()) == []


def test_a_price_of_an_hour_is_shared_by_seconds() -> None:
    """3.6 USD an hour are 0.001 USD a second, of two requests."""
    found = answers(served())
    latency, cost = found["latency.predicted_s"], found["cost.predicted_usd_per_request"]
    assert cost.predicted == pytest.approx(0.001 * float(str(latency.predicted)) / 2)
    assert cost.predicted_words.endswith(" USD")
    assert found["energy.j_per_request"].bound_words is None


def test_what_is_not_known_says_why_once() -> None:
    lacking = served(output=1, price=None, gpu="b200")
    found = answers(lacking)
    assert isinstance(found["tpot.predicted_s"].bound, Unknown)
    assert found["tpot.predicted_s"].bound_words == "n/a"
    assert found["ttft.predicted_s"].bound_words not in (None, "n/a")
    said = reasons(lacking)
    assert len(said) == len(set(said)) == 3
    assert "no price given" in said
    assert any(reason.startswith("output=1") for reason in said)
