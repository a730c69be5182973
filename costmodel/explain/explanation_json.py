"""An explanation as plain dicts, lists, numbers, strings and None."""

from typing import Any

import costmodel
from costmodel.costs.predict import Prediction
from costmodel.explain.explanation import Equation, Explanation, Terms
from costmodel.questions.request import Served
from costmodel.show.inputs_json import calibration_json, workload_json

SCHEMA_VERSION = 1


def explanation_json(explanation: Explanation, of: Prediction | Served) -> dict[str, Any]:
    """The explanation, with the model, the workload and the GPU that its values are of."""
    step = of if isinstance(of, Prediction) else of.prefill_step
    request = None
    if not isinstance(of, Prediction):
        request = {"prompt": of.request.prompt, "output": of.request.output}
    return {
        "schema_version": SCHEMA_VERSION,
        "sparsecost_version": costmodel.__version__,
        "model": step.model.name,
        "notes": list(step.model.notes),
        "workload": workload_json(step.workload),
        "request": request,
        "hardware": step.hardware.name,
        "calibration": calibration_json(step.calibration),
        "backend": step.workload.backend,
        "number": explanation.number,
        "label": explanation.label,
        "sentence": explanation.sentence,
        "leaves_out": explanation.leaves_out,
        "value": explanation.value,
        "unit": explanation.unit,
        "reason": explanation.reason,
        "equations": [_equation(equation) for equation in explanation.equations],
        "terms": None if explanation.terms is None else _terms(explanation.terms),
        "source": explanation.source,
        "doc": explanation.doc,
    }


def _equation(equation: Equation) -> dict[str, Any]:
    return {
        "name": equation.name,
        "formula": equation.formula,
        "values": equation.values,
        "result": equation.result,
        "unit": equation.unit,
        "letters": [
            {"name": letter.name, "value": letter.value, "meaning": letter.meaning}
            for letter in equation.letters
        ],
    }


def _terms(terms: Terms) -> dict[str, Any]:
    return {
        "title": terms.title,
        "columns": [
            {"header": column.header, "unit": column.unit, "total": column.total}
            for column in terms.columns
        ],
        "rows": [list(row) for row in terms.rows],
    }
