"""One operator explained: the formula of its layer kind, its bytes, its bound, part by part."""

import inspect
from typing import Any

from costmodel.backends import BACKENDS
from costmodel.costs.latency import OperatorTime, Unknown
from costmodel.costs.predict import Prediction
from costmodel.explain.explanation import Column, Equation, Explanation, Terms, Value
from costmodel.explain.letters import clauses, operator_letters, used
from costmodel.explain.rows import share_equation
from costmodel.explain.shapes import shape_words
from costmodel.explain.sums import byte_letters
from costmodel.explain.times import label, operator_bound
from costmodel.explain.working import FormulaError
from costmodel.layers.letters import Letter
from costmodel.layers.operator import Operator, Part
from costmodel.units import Unit

PART_BYTES = (  # of the columns of a part: its fields, and the head
    ("weight_bytes", "weights"),
    ("kv_bytes", "KV cache"),
    ("state_bytes", "state"),
    ("row_bytes", "rows"),
    ("host_bytes", "rows of host memory"),
    ("disk_bytes", "rows of disk"),
    ("index_bytes", "indices"),
    ("io_bytes", "step's input, output"),
)


def operator_explanation(prediction: Prediction, operator: Operator, number: str) -> Explanation:
    """The explanation of one layer of an operator, under the path that was asked for."""
    flops = operator.total("flops")
    kind = operator.layer_kind
    alike = "" if operator.count == 1 else f"; in one of {operator.count} layers that are alike"
    return Explanation(
        number=number,
        label=operator.leaf,
        sentence=f"{operator.summary or operator.leaf}{alike}",
        leaves_out="",
        value=flops,
        unit="flops",
        reason="",
        equations=_equations(prediction, operator),
        terms=_parts(prediction, operator),
        source=operator.source,
        doc="" if kind is None else inspect.getdoc(type(kind)) or "",
        calibrated=True,  # its parts have predicted times
    )


def _equations(prediction: Prediction, operator: Operator) -> tuple[Equation, ...]:
    model, step = prediction.model, prediction.workload.step()
    formulas, letters = clauses(operator.formula), operator_letters(model, step, operator)
    flops, moved = operator.total("flops"), operator.compulsory_bytes
    equations = [
        _computed(label("operators.flops"), formulas["flops"], letters, flops, "flops"),
    ]
    if "compares" in formulas:
        equations.append(
            _computed(
                label("operators.compares"),
                formulas["compares"],
                letters,
                operator.total("compares"),
                "count",
            )
        )
    sentence = f" ({formulas['bytes']})" if "bytes" in formulas else ""
    name = f"{label('operators.compulsory_bytes')}{sentence}"
    equations += [
        Equation.sum_of(name, byte_letters(operator.total), "bytes"),
        operator_bound(prediction, operator),
    ]
    shared = share_equation(prediction.costs.operators, operator)
    if shared is not None:
        equations.append(shared)
    if operator.touched is not None:
        touched = operator.touched
        equations.append(
            Equation(
                name=f"distinct {touched.kind}",
                formula=f"expected of {touched.population:,} that {touched.chosen_by} chooses from,"
                f" {prediction.workload.routing.label} routing",
                values="",
                result=touched.distinct,
                unit="count",
            )
        )
    predicted = _predicted(prediction, operator)
    if predicted is not None:
        equations.append(predicted)
    if operator.count > 1:
        layers = Letter("L", operator.count, "layers that are alike")
        all_flops, all_bytes = (
            f"{label(name)} of all its layers" for name in ("flops.total", "hbm_bytes.compulsory")
        )
        of_one = Letter("FLOPs", flops, "of one layer"), Letter("bytes", moved, "of one layer")
        equations += [
            Equation.of(all_flops, "L FLOPs", (layers, *of_one), "flops"),
            Equation.of(all_bytes, "L bytes", (layers, *of_one), "bytes"),
        ]
    return tuple(equations)


def _computed(
    name: str, formula: str, letters: tuple[Letter, ...], result: Value, unit: Unit
) -> Equation:
    """The formula with its values; without them where a layer kind leaves a letter unvalued."""
    try:
        return Equation.of(name, formula, letters, unit)
    except FormulaError:
        return Equation(
            name=name,
            formula=formula,
            values="",
            result=result,
            unit=unit,
            letters=used(formula, letters),
        )


def _time(prediction: Prediction, operator: Operator) -> OperatorTime | None:
    """The predicted time of one layer, where there is one."""
    if isinstance(prediction.time, Unknown):
        return None
    operators = prediction.costs.operators
    return prediction.time.operators[operators.index(operator)]


def _predicted(prediction: Prediction, operator: Operator) -> Equation | None:
    """The predicted time of one layer; of an operator in a region, its share of the region's."""
    time = _time(prediction, operator)
    if time is None:
        return None
    shares = any(
        operator in region.operators and len(region.operators) > 1
        for region in prediction.kernels.regions(prediction.costs.operators)
    )
    name = label("operators.predicted_s")
    if shares:
        words = "share of the kernels that it is in with other operators"
        return Equation(name=name, formula=words, values="", result=float(time.seconds), unit="s")
    letters = (
        Letter("parts", float(sum(time.parts_s)), "seconds of its parts and their launches"),
        Letter("bound", prediction.operator_floor_s(operator), "its roofline bound, in seconds"),
    )
    return Equation.of(name, "max(parts, bound)", letters, "s")


def _parts(prediction: Prediction, operator: Operator) -> Terms:
    """The parts of one layer; columns in which nothing stands are left out."""
    time = _time(prediction, operator)
    kernels = {name: prediction.costs.kernels(name) for name in BACKENDS}
    columns = [
        Column(header="part", unit="text"),
        Column(header="kind", unit="text"),
        Column(header="chooses", unit="text"),
        Column(header="FLOPs", unit="count", total=operator.total("flops")),
        Column(header="compares", unit="count", total=operator.total("compares")),
        *(
            Column(header=head, unit="bytes", total=_part_bytes(operator, field))
            for field, head in PART_BYTES
        ),
        *(
            Column(header=f"launches, {name}", unit="count", total=of.operator_launches(operator))
            for name, of in kernels.items()
        ),
        Column(header="to operators", unit="bytes", total=operator.total("activation_bytes")),
        Column(header="to parts", unit="bytes", total=operator.total("intermediate_bytes")),
        Column(header="priced as", unit="text"),
    ]
    rows: list[tuple[Value, ...]] = [
        (
            part.name,
            part.kind,
            "yes" if part.routing else "",
            part.flops,
            part.compares,
            *(_bytes(part, field) for field, _ in PART_BYTES),
            *(of.launches(operator, part) for of in kernels.values()),
            part.activation_bytes,
            part.intermediate_bytes,
            shape_words(part.shape),
        )
        for part in operator.parts
    ]
    if time is not None:
        columns.append(Column(header="predicted", unit="s", total=float(sum(time.parts_s))))
        rows = [(*row, float(seconds)) for row, seconds in zip(rows, time.parts_s, strict=True)]
    kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    return Terms(
        title="the parts of one layer, and what each sums to",
        columns=tuple(columns[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in rows),
    )


def _bytes(part: Part, field: str) -> Any:  # noqa: ANN401 - a number
    if field == "kv_bytes":
        return part.kv_read_bytes + part.kv_written_bytes
    return getattr(part, field)


def _part_bytes(operator: Operator, field: str) -> Any:  # noqa: ANN401 - a number
    if field == "kv_bytes":
        return operator.total("kv_read_bytes") + operator.total("kv_written_bytes")
    return operator.total(field)
