"""Every number of a step on several GPUs is explained: equations and terms give it."""

from dataclasses import replace

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.columns import step_values
from costmodel.costs.predict import Prediction, predict
from costmodel.errors import InputError
from costmodel.explain.mesh import MESH
from costmodel.explain.numbers import (
    STEP_NUMBERS,
    explain_operator,
    explain_step,
    explained_numbers,
)
from costmodel.explain.request import REQUEST_BUILDERS, explain_request
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh
from costmodel.questions.request import Request, serve
from costmodel.show.request_json import numbers
from tests.explain.test_numbers import assert_explains

STEPS = {
    "a latent cache that all GPUs have": ("deepseek-v3", Mesh(tp=8, ep=8), Workload(batch=64)),
    "experts on 64 GPUs": ("deepseek-v3", Mesh(dp=64, ep=64), Workload(batch=256)),
    "stages": ("qwen3-30b-a3b", Mesh(tp=8, ep=4, pp=2), Workload(batch=64)),
    "states": ("granite-4.0-h-small", Mesh(tp=4, ep=4), Workload(batch=8)),
    "tables": ("ultramemv2-2.5b-120b", Mesh(tp=2, dp=4), Workload(batch=64)),
    "tables by rows": (
        "ultramemv2-2.5b-120b",
        Mesh(tp=2, dp=4, tables="rows"),
        Workload(batch=64),
    ),
    "a prefill": (
        "mixtral-8x7b",
        Mesh(tp=2, dp=4, ep=4),
        Workload(phase="prefill", batch=4, context=100, new_tokens=64),
    ),
}


def predicted(name: str, mesh: Mesh, workload: Workload) -> Prediction:
    on_mesh = replace(workload, mesh=mesh)
    return predict(load_model(name), on_mesh, load_hardware("h200"), calibrated("h200"))


@pytest.mark.parametrize("of", STEPS.values(), ids=STEPS)
def test_every_number_is_explained(of: tuple[str, Mesh, Workload]) -> None:
    prediction = predicted(*of)
    values = step_values(prediction)
    assert {name for name in values if name.startswith("parallel.")} == set(MESH)
    assert set(explained_numbers(prediction)) == {*STEP_NUMBERS, *MESH}
    for number in explained_numbers(prediction):
        found = explain_step(prediction, number)
        assert_explains(found, values.get(number, found.value))


def test_a_bound_by_exchanges_is_explained() -> None:
    """A prompt of a small model, whose layers are divided over two nodes, waits for the network."""
    workload = Workload(phase="prefill", batch=1, context=0, new_tokens=4096)
    prediction = predicted("llama-3.1-8b", Mesh(tp=16), workload)
    assert prediction.bound_by == "exchange"
    for number in ("time.floor_s", "time.bound_by"):
        found = explain_step(prediction, number)
        assert_explains(found, step_values(prediction)[number])
        assert any("exchanges" in equation.formula for equation in found.equations)


def test_every_number_of_a_request_is_explained() -> None:
    workload = Workload(mesh=Mesh(tp=2, dp=4))
    request = Request(prompt=64, output=8, batch=8, price_per_hour=2.0)
    served = serve(
        load_model("mixtral-8x7b"), request, workload, load_hardware("h200"), calibrated("h200")
    )
    assert set(numbers(served)) == set(REQUEST_BUILDERS)
    for number, value in numbers(served).items():
        assert_explains(explain_request(served, number), value)


def test_operators_are_explained_on_one_gpu() -> None:
    prediction = predicted("mixtral-8x7b", Mesh(tp=2), Workload())
    with pytest.raises(InputError, match="mesh of 2"):
        explain_operator(prediction, "lm_head")
