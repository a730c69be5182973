"""What else is made of a model: each view is drawn, and holds the numbers of the prediction."""

import json
import math
from collections.abc import Callable
from random import Random
from typing import TypeAlias

import numpy as np

from costmodel.costs.calibrations import calibrated
from costmodel.costs.columns import step_values
from costmodel.costs.predict import Prediction, predict
from costmodel.explain.explanation_json import explanation_json
from costmodel.explain.numbers import STEP_NUMBERS, explain_operator, explain_step
from costmodel.explain.tables import explanation_tables
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import MAX_BATCH, MAX_CONTEXT, Workload
from costmodel.questions.compare import compare
from costmodel.questions.request import Request, serve
from costmodel.questions.sweep import sweep
from costmodel.show.comparison_json import comparison_json
from costmodel.show.request_json import request_json
from costmodel.show.tables.comparison import comparison_table
from costmodel.show.tables.prediction import prediction_tables
from costmodel.show.tables.request import request_tables
from costmodel.show.text import markdown
from tests.fuzz.relations import H200, some_workload

View: TypeAlias = Callable[[ModelConfig, Workload, Random], None]
TINY_EXPECTED = 1e-6  # relative, of the terms of an explanation beside the number


def check_view(model: ModelConfig, rng: Random) -> None:
    """One view of the model, at some workload."""
    rng.choice(VIEWS)(model, some_workload(rng), rng)


def predicted(model: ModelConfig, workload: Workload) -> Prediction:
    return predict(model, workload, H200, calibrated("h200"))


def tables(model: ModelConfig, workload: Workload, _: Random) -> None:
    """The tables of `predict`."""
    assert markdown(prediction_tables(predicted(model, workload)))


def a_number(model: ModelConfig, workload: Workload, rng: Random) -> None:
    """An explanation, whose first equation gives the number."""
    prediction = predicted(model, workload)
    explanation = explain_step(prediction, rng.choice(STEP_NUMBERS))
    assert markdown(explanation_tables(explanation, prediction))
    json.dumps(explanation_json(explanation, prediction), allow_nan=False)
    value = explanation.value
    if explanation.equations and isinstance(value, int | float):
        result = explanation.equations[0].result
        assert isinstance(result, int | float), result
        assert math.isclose(result, value, rel_tol=TINY_EXPECTED), (
            explanation.number,
            result,
            value,
        )


def an_operator(model: ModelConfig, workload: Workload, rng: Random) -> None:
    """The explanation of an operator, whose formula gives its FLOPs exactly."""
    prediction = predicted(model, workload)
    operator = rng.choice(prediction.costs.operators)
    explanation = explain_operator(prediction, operator.path)
    assert markdown(explanation_tables(explanation, prediction))
    (flops,) = [equation for equation in explanation.equations if equation.name == "model FLOPs"]
    assert flops.result == operator.total("flops"), (operator.path, flops)


def a_grid(model: ModelConfig, workload: Workload, rng: Random) -> None:
    """A sweep, whose points are single predictions to the bit; predicted times but for rounding."""
    batches = (workload.batch, min(MAX_BATCH, workload.batch + rng.choice((1, workload.batch))))
    contexts = (workload.context, min(MAX_CONTEXT, workload.context + 2**20))
    grid = sweep(
        model,
        workload,
        batches=batches,
        contexts=contexts,
        routings=[workload.routing],
        hardwares=[H200],
        calibrations=[calibrated("h200")],
    )
    point = next(grid.records())
    for name, value in step_values(predicted(model, workload)).items():
        if name not in point:
            continue
        of_grid = point[name]
        equal = of_grid == value or (
            isinstance(value, float) and np.isclose(of_grid, value, rtol=1e-9, atol=0)
        )
        assert equal, f"{name}={value}, in a sweep {of_grid}"


def requests(model: ModelConfig, workload: Workload, rng: Random) -> None:
    """Served requests."""
    request = Request(
        prompt=rng.choice((1, 128, 2**20)),
        output=rng.choice((1, 2, 100, 2**20)),
        batch=workload.batch,
        price_per_hour=rng.choice((None, 0.0, 2.5)),
    )
    served = serve(model, request, Workload(context=0), H200, calibrated("h200"))
    json.dumps(request_json(served), allow_nan=False)
    assert markdown(request_tables(served))


def compared(model: ModelConfig, workload: Workload, _: Random) -> None:
    """A comparison of the model with itself: no advantage, and equal rows."""
    found = compare([model, model], workload, H200, batches=(1, 64), calibration=calibrated("h200"))
    document = comparison_json(found)
    json.dumps(document, allow_nan=False)
    assert markdown([comparison_table(found)])
    assert not any(advantage["batches"] for advantage in document["advantages"])
    assert document["rows"][0] == document["rows"][1]


VIEWS: tuple[View, ...] = (
    tables,
    a_number,
    a_number,
    an_operator,
    a_grid,
    a_grid,
    requests,
    compared,
)
