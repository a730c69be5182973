"""Every number of the JSON is explained: its equation and its terms give the number itself."""

import math
from dataclasses import replace
from typing import Any

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.explain.explanation import Equation, Explanation, Terms
from costmodel.explain.numbers import STEP_NUMBERS, explain_operator, explain_step
from costmodel.explain.working import worked
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import parse_dtype
from costmodel.layers.formats import Formats
from costmodel.layers.site import expanded_paths
from costmodel.show.prediction_json import prediction_json
from tests.strategies import PRESETS

DECODE = Workload(batch=64)
PREFILL = Workload(phase="prefill", batch=3, context=100, new_tokens=70)
FUSED = Workload(batch=64, backend="fused")
FP8 = Workload(formats=Formats(default=parse_dtype("fp8", field="dtype")))


def predicted(name: str, workload: Workload = DECODE, gpu: str = "h200") -> Prediction:
    return predict(PRESETS[name], workload, load_hardware(gpu), calibrated(gpu))


def flat(data: dict[str, Any], section: str = "") -> dict[str, Any]:
    """The numbers of a JSON document by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{section}{key}"
        if isinstance(value, dict):
            found |= flat(value, f"{name}.")
        elif not isinstance(value, list):
            found[name] = value
    return found


def close(a: object, b: object) -> bool:
    """Equal; of floats but for the rounding of a sum."""
    if isinstance(a, float) or isinstance(b, float):
        assert isinstance(a, int | float)
        assert isinstance(b, int | float)
        return math.isclose(a, b, rel_tol=1e-12)
    return a == b


def assert_reaches(equation: Equation) -> None:
    """A calculator that is given the values gets the result, to the digits that are shown."""
    if equation.letters:
        values = worked(equation.values, {}).result
        assert math.isclose(float(values), float(equation.result or 0), rel_tol=1e-3), equation


def assert_sums(terms: Terms | None) -> None:
    """The cells of each column that has a total sum to it."""
    for place, column in enumerate(() if terms is None else terms.columns):
        assert terms is not None
        cells = [row[place] for row in terms.rows]
        if column.total is not None:
            sums = math.fsum(float(cell or 0) for cell in cells)
            assert math.isclose(sums, float(column.total), rel_tol=1e-9), (terms.title, column)


def assert_explains(found: Explanation, value: object) -> None:
    """The explanation gives this value, by equations and terms that reach it."""
    assert found.sentence
    assert found.source
    assert close(found.value, value), found
    if value is None:
        assert found.reason
        assert not found.equations
        return
    assert not found.reason
    assert close(found.equations[0].result, value), found.equations[0]
    for equation in found.equations:
        assert_reaches(equation)
    assert_sums(found.terms)


@pytest.mark.parametrize(
    "workload", [DECODE, PREFILL, FP8, FUSED], ids=["decode", "prefill", "fp8", "fused"]
)
@pytest.mark.parametrize("name", PRESETS)
def test_every_number_of_a_prediction_is_explained(name: str, workload: Workload) -> None:
    prediction = predicted(name, workload)
    values = flat(prediction_json(prediction))
    sections = {number.partition(".")[0] for number in STEP_NUMBERS}
    numbers = {
        number
        for number, value in values.items()
        if number.partition(".")[0] in sections
        and number != "flops.attention_convention"
        and not number.endswith(
            ("interval_s", "interval_coverage", "transferred_from", "not_measured")
        )
    }
    groups = {number for number in STEP_NUMBERS if number.startswith("parameters.by_group.")}
    assert numbers | groups | {"memory.max_context"} == set(STEP_NUMBERS)
    for number in numbers:
        assert_explains(explain_step(prediction, number), values[number])
    for number in groups - numbers:
        assert explain_step(prediction, number).value == 0


@pytest.mark.parametrize(
    "workload", [DECODE, PREFILL, FP8, FUSED], ids=["decode", "prefill", "fp8", "fused"]
)
@pytest.mark.parametrize("name", PRESETS)
def test_every_operator_is_explained(name: str, workload: Workload) -> None:
    prediction = predicted(name, workload)
    for operator in prediction_json(prediction)["operators"]:
        path = operator["path"]
        found = explain_operator(prediction, path)
        assert_explains(found, operator["flops"])
        results = {equation.name.split(" (")[0]: equation.result for equation in found.equations}
        bytes_name = STEP_QUANTITIES["operators.compulsory_bytes"].label
        assert close(results[bytes_name], operator["compulsory_bytes"])
        assert close(results[STEP_QUANTITIES["operators.floor_s"].label], operator["floor_s"])
        if operator["predicted_s"] is not None:
            label = STEP_QUANTITIES["operators.predicted_s"].label
            assert close(results[label], operator["predicted_s"])
        assert all(letter.value is not None for e in found.equations for letter in e.letters)
        one = explain_operator(prediction, expanded_paths(path)[-1])
        assert replace(one, number=path) == found
