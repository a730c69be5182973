"""One prediction as people read it: summary, operators, routing cost part by part."""

from collections.abc import Mapping, Sequence
from typing import Any

from costmodel import units
from costmodel.backends import BACKENDS
from costmodel.costs.columns import Value, step_values
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.places import FAR_NAMES
from costmodel.costs.quantities.quantity import Quantity
from costmodel.costs.quantities.step import STEP_QUANTITIES, STEP_SECTIONS
from costmodel.questions.sparse_attention import logits_note, payoff_sentences
from costmodel.show.prediction_json import operators_json, unknown_reasons
from costmodel.show.tables.columns import cell, head
from costmodel.show.tables.mesh import mesh_tables, mesh_words, of_one_gpu
from costmodel.show.tables.notes import (
    cache_note,
    calibration_note,
    cold_l2_note,
    model_notes,
    placement_note,
    routing_note,
    shipped_format_note,
    storage_notes,
    workload_words,
)
from costmodel.show.text import Table, capitalised
from costmodel.show.told_times import digits_of, shown

OPERATOR_COLUMNS = ("flops", "compulsory_bytes", "launches", "floor_s")
PART_COLUMNS = ("flops", "compares", "bytes", "activation_bytes", "intermediate_bytes")


def prediction_tables(prediction: Prediction) -> list[Table]:
    """Summary, operators, and the routing cost part by part."""
    model, workload = prediction.model, prediction.workload
    title = (
        f"{model.name}: {workload_words(workload)}, batch {workload.batch:,},"
        f" on {prediction.hardware.name}{mesh_words(workload)}"
    )
    operators = operators_json(prediction)
    predicted = () if isinstance(prediction.time, Unknown) else ("predicted_s",)
    tables = [
        _summary(prediction, title),
        *mesh_tables(prediction),
        operators_table(
            f"Operators{of_one_gpu(prediction)} (sums over the layers that a path lists)",
            operators,
            workload.backend,
        ),
    ]
    routing = _routing_parts(prediction, operators, predicted)
    if routing.rows:
        tables.append(routing)
    return tables


def _summary(prediction: Prediction, title: str) -> Table:
    """Every number of the step, section by section; what is zero or not known is named below."""
    values, digits = step_values(prediction), digits_of(prediction.time)
    rows: list[tuple[str, str, str]] = []
    ends = set()
    zeros: list[str] = []
    moved = prediction.workload.placement.moves
    for section in STEP_SECTIONS:
        told = [q for q in section if moved or q.name not in FAR_NAMES]
        filled = [quantity for quantity in told if not _is_empty(quantity, values[quantity.name])]
        rows += [
            (
                quantity.label,
                shown(quantity, values[quantity.name], digits),
                quantity.counts,
            )
            for quantity in filled
            if values[quantity.name] is not None
        ]
        zeros += [quantity.label for quantity in told if quantity not in filled]
        ends.add(len(rows) - 1)
    labels: dict[str, list[str]] = {}
    for name, reason in unknown_reasons(prediction, values).items():
        if not moved and name in FAR_NAMES:
            continue
        labels.setdefault(reason, []).append(STEP_QUANTITIES[name].label)
    return Table(
        title=title,
        headers=("quantity", "value", "what it counts"),
        rows=tuple(rows),
        ends_in_text=True,
        sections=frozenset(ends),
        notes=(
            *([f"Zero: {', '.join(zeros)}."] if zeros else []),
            *(
                f"{', '.join(names)}: {units.NOT_KNOWN} ({reason})."
                for reason, names in labels.items()
            ),
            *([] if prediction.memory.fits else [_too_large(prediction)]),
            *shipped_format_note(prediction),
            *placement_note(prediction),
            *cold_l2_note(prediction),
            *payoff_sentences(prediction),
            *logits_note(prediction),
            *routing_note(prediction),
            *calibration_note(prediction),
            *cache_note(prediction),
            *storage_notes(prediction.workload),
            *model_notes(prediction.model),
        ),
    )


def _too_large(prediction: Prediction) -> str:
    """That a step does not fit, and which option finds the GPUs that it needs."""
    if prediction.gpus > 1:
        return f"This step does NOT fit the memory of {prediction.gpus} GPUs."
    return "This step does NOT fit the GPU's memory (--gpus auto takes the fewest GPUs that fit)."


def _is_empty(quantity: Quantity, value: Value) -> bool:
    """Whether there are no bytes or FLOPs of this sort; other zeros are answers."""
    return quantity.unit in {"bytes", "capacity", "flops"} and value is not None and not value


def operators_table(title: str, operators: Sequence[Mapping[str, Any]], backend: str) -> Table:
    """Operators by the fields of their JSON, each as the sum over its layers."""
    known = any(operator["predicted_s"] is not None for operator in operators)
    fields = (*OPERATOR_COLUMNS, *["predicted_s"] * known, "bound_by")
    return Table(
        title=title,
        headers=(
            *("path", "kind", head("operators.count")),
            *(head(f"operators.{field}") for field in fields),
        ),
        rows=tuple(
            (
                operator["path"],
                operator["kind"],
                cell("operators.count", operator["count"]),
                *(
                    cell(f"operators.{field}", _of_all_layers(operator["count"], operator[field]))
                    for field in fields
                ),
            )
            for operator in operators
        ),
        text_columns=2,
        notes=(
            f"Launches of the {backend} backend. The roofline bounds need not sum to the step's.",
        ),
    )


def _of_all_layers(count: int, value: Any) -> Any:  # noqa: ANN401 - a number, None or a word
    return value if isinstance(value, str | None) else count * value


def _routing_parts(
    prediction: Prediction, operators: Sequence[dict[str, Any]], predicted: Sequence[str]
) -> Table:
    """The parts that choose; launches of the backends that can run the step."""
    of_part = "operators.parts"
    refusals = {name: prediction.costs.kernels(name).refusal for name in BACKENDS}
    backends = [name for name, refusal in refusals.items() if refusal is None]
    rows = []
    for operator in operators:
        count = operator["count"]
        rows += [
            (
                operator["path"],
                part["name"],
                *(
                    cell(f"{of_part}.{field}", _of_all_layers(count, part[field]))
                    for field in PART_COLUMNS
                ),
                *(
                    cell(f"{of_part}.launches", count * part["launches_by_backend"][backend])
                    for backend in backends
                ),
                *(cell(f"{of_part}.{field}", count * part[field]) for field in predicted),
            )
            for part in operator["parts"]
            if part["routing"]
        ]
    return Table(
        title=f"Routing cost{of_one_gpu(prediction)}, part by part"
        " (sums over the layers that a path lists)",
        headers=(
            "operator",
            "part",
            *(head(f"{of_part}.{field}") for field in PART_COLUMNS),
            *(f"{head(f'{of_part}.launches')}\n{backend}" for backend in backends),
            *(head(f"{of_part}.{field}") for field in predicted),
        ),
        rows=tuple(rows),
        text_columns=2,
        notes=tuple(
            capitalised(f"{refusal}: no launches of it are predicted.")
            for refusal in refusals.values()
            if refusal is not None
        ),
    )
