"""Every number of a prediction that can be explained, by its JSON name or its path."""

from costmodel.costs.beyond_histogram import beyond, is_unknown
from costmodel.costs.columns import Value, step_values
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.sizes import MAX_CONTEXT, PARAMETER_GROUPS
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.errors import InputError, shown
from costmodel.explain.explanation import Derivation, Explanation, explain_quantity
from costmodel.explain.memory import MEMORY
from costmodel.explain.operators import operator_explanation
from costmodel.explain.placement import PLACEMENT
from costmodel.explain.sizes import SIZES
from costmodel.explain.sums import Builder, Case
from costmodel.explain.times import TIMES
from costmodel.explain.totals import WORK
from costmodel.layers.operator import Operator
from costmodel.layers.site import expanded_paths
from costmodel.questions.capacity import max_context
from costmodel.show.prediction_json import unknown_reasons

BUILDERS: dict[str, Builder] = {**TIMES, **WORK, **SIZES, **MEMORY, **PLACEMENT}
NOT_PREDICTED = ("hbm_bytes.read", "hbm_bytes.written")
STEP_NUMBERS = (*BUILDERS, *NOT_PREDICTED)
"""The names of the numbers of a step: those of `predict --json`, and the largest context."""


def explain_step(prediction: Prediction, number: str) -> Explanation:
    """The explanation of one of `STEP_NUMBERS`."""
    quantity, value = STEP_QUANTITIES[number], _value(prediction, number)
    derivation = Derivation(equations=())
    if value is not None:
        derivation = BUILDERS[number](Case(quantity=quantity, prediction=prediction, value=value))
    reason = "" if value is not None else unknown_reasons(prediction, {number: None})[number]
    return explain_quantity(quantity, value=value, reason=reason, derivation=derivation)


def explain_operator(prediction: Prediction, path: str) -> Explanation:
    """Explains the operator at a path, which must match exactly one."""
    (operator,) = operators_at(prediction, path)
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


def _value(prediction: Prediction, number: str) -> Value:
    if number == MAX_CONTEXT.name:
        return max_context(prediction)
    if number in {quantity.name for quantity in PARAMETER_GROUPS}:
        return prediction.costs.parameters.by_group.get(number.rpartition(".")[2], 0)
    return step_values(prediction)[number]
