"""Every number of a prediction that can be explained, by its JSON name or its path."""

from dataclasses import replace

from costmodel.costs.beyond_histogram import beyond, is_unknown
from costmodel.costs.columns import Value, step_values
from costmodel.costs.predict import Prediction, predict
from costmodel.costs.quantities.sizes import MAX_CONTEXT, PARAMETER_GROUPS
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.errors import InputError, shown
from costmodel.explain.explanation import Derivation, Explanation, explain_quantity
from costmodel.explain.memory import MEMORY
from costmodel.explain.mesh import MESH, ON_A_MESH
from costmodel.explain.operators import operator_explanation
from costmodel.explain.placement import PLACEMENT
from costmodel.explain.sizes import SIZES
from costmodel.explain.sums import Builder, Case
from costmodel.explain.times import TIMES
from costmodel.explain.totals import WORK
from costmodel.layers.mesh import ONE_GPU
from costmodel.layers.operator import Operator
from costmodel.layers.site import expanded_paths
from costmodel.questions.capacity import max_context
from costmodel.show.prediction_json import unknown_reasons

BUILDERS: dict[str, Builder] = {**TIMES, **WORK, **SIZES, **MEMORY, **PLACEMENT}
OF_THE_MODEL = ("parameters.", "kv_cache.bytes_per_token")  # as these names begin
STEP_NUMBERS = (*BUILDERS,)
"""The names of the numbers of a step: those of `predict --json`, and the largest context."""


def explained_numbers(prediction: Prediction) -> tuple[str, ...]:
    """The names of the numbers of this step; several GPUs have more."""
    return STEP_NUMBERS if prediction.gpus == 1 else (*STEP_NUMBERS, *MESH)


def explain_step(prediction: Prediction, number: str) -> Explanation:
    """The explanation of one of `STEP_NUMBERS`, or of one that only several GPUs have.

    Raises:
        InputError: It is of several GPUs, and this step has one.
    """
    if prediction.gpus == 1 and number in MESH:
        raise InputError(f"number={shown(number)}: is of several GPUs; give --gpus or --tp")
    if prediction.gpus > 1 and number.startswith(OF_THE_MODEL):  # the same on any mesh
        return explain_step(_on_one_gpu(prediction), number)
    quantity, value = STEP_QUANTITIES[number], _value(prediction, number)
    derivation = Derivation(equations=())
    if value is not None:
        builders = BUILDERS if prediction.gpus == 1 else BUILDERS | MESH | ON_A_MESH
        derivation = builders[number](Case(quantity=quantity, prediction=prediction, value=value))
    reason = "" if value is not None else unknown_reasons(prediction, {number: None})[number]
    return explain_quantity(quantity, value=value, reason=reason, derivation=derivation)


def explain_operator(prediction: Prediction, path: str) -> Explanation:
    """Explains the operator at a path, which must match exactly one."""
    (operator,) = operators_at(prediction, path)
    if prediction.gpus > 1:
        raise InputError(
            f"number={shown(path)}: operators are explained on one GPU alone, and this is a mesh of"
            f" {prediction.gpus}"
        )
    unknown = beyond(prediction.costs.operators, prediction.workload)
    if unknown is not None and is_unknown(operator.compulsory_bytes):
        raise InputError(f"number={shown(path)}: is not known ({unknown.reason})")
    number = operator.path if path == operator.leaf else path
    return operator_explanation(prediction, operator, number)


def operators_at(prediction: Prediction, path: str) -> tuple[Operator, ...]:
    """The operators of a path, of the path of a single layer, or of a leaf such as `moe.router`."""
    return tuple(
        operator
        for operator in prediction.costs.operators
        if path in (operator.path, operator.leaf) or path in expanded_paths(operator.path)
    )


def _on_one_gpu(prediction: Prediction) -> Prediction:
    """The same step on one GPU, whatever its memory."""
    workload = replace(prediction.workload, mesh=ONE_GPU)
    return predict(prediction.model, workload, prediction.hardware, prediction.calibration)


def _value(prediction: Prediction, number: str) -> Value:
    if number == MAX_CONTEXT.name:
        return max_context(prediction)
    if number in {quantity.name for quantity in PARAMETER_GROUPS}:
        return prediction.costs.parameters.by_group.get(number.rpartition(".")[2], 0)
    return step_values(prediction)[number]
