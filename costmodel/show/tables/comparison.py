"""Models side by side as people read them, with the findings in words."""

from typing import Any

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.questions.compare import Comparison, sentences
from costmodel.show.comparison_json import comparison_rows, times_unknown
from costmodel.show.tables.columns import cell, head
from costmodel.show.tables.notes import (
    calibration_note,
    routing_note,
    shipped_format_note,
    storage_notes,
    workload_words,
)
from costmodel.show.text import Table, capitalised

COMPULSORY = STEP_QUANTITIES["rows.compulsory_bytes"]
DOES_NOT_FIT = "*"
RATIO = "bytes_of_first_over_this"
COLUMNS = (
    *("weights_bytes", "table_rows_bytes", "kv_read_bytes", "routing_flops", "routing_bytes"),
    *("compulsory_bytes", RATIO, "floor_s"),
)


def comparison_table(comparison: Comparison) -> Table:
    """One line for each batch and model, and the findings in words."""
    first = comparison.predictions[0]
    timed = any(not isinstance(prediction.time, Unknown) for prediction in first)
    predicted = ("predicted_s",) if timed else ()
    unknown = times_unknown(comparison)
    workloads = [prediction.workload for prediction in first]
    fields = (*COLUMNS, *predicted, "bound_by")
    records = comparison_rows(comparison)
    models = len(first)
    return Table(
        title=" against ".join(prediction.model.name for prediction in first)
        + f": {workload_words(*workloads)}, on {first[0].hardware.name}",
        headers=(
            "batch",
            "model",
            *("ratio" if field == RATIO else head(f"rows.{field}") for field in fields),
        ),
        rows=tuple(
            (
                "" if place % models else f"{record['batch']:,}",
                record["model"] + ("" if record["fits"] else f" {DOES_NOT_FIT}"),
                *(_cell(record, field, is_first=not place % models) for field in fields),
            )
            for place, record in enumerate(records)
        ),
        text_columns=2,
        sections=frozenset(range(models - 1, len(records), models)),
        notes=(
            f"ratio: {COMPULSORY.label} of {first[0].model.name} over those of the model.",
            *_sizes(first),
            *_fits(comparison),
            *_within_l2(comparison),
            *sentences(comparison.advantages),
            *dict.fromkeys(note for prediction in first for note in routing_note(prediction)),
            *(
                [f"{STEP_QUANTITIES['rows.predicted_s'].label}: {units.NOT_KNOWN} ({unknown})."]
                if unknown
                else []
            ),
            *dict.fromkeys(note for prediction in first for note in calibration_note(prediction)),
            *(
                f"{prediction.model.name}: {note}"
                for prediction in first
                for note in (*storage_notes(prediction.workload), *shipped_format_note(prediction))
            ),
            *(
                f"Note on {prediction.model.name}: {note}"
                for prediction in first
                for note in prediction.model.notes
            ),
        ),
    )


def _cell(record: dict[str, Any], field: str, *, is_first: bool) -> str:
    if field == RATIO and is_first:
        return ""
    if field == "table_rows_bytes" and record[field] == 0:
        return "-"
    return cell(f"rows.{field}", record[field])


def _sizes(predictions: tuple[Prediction, ...]) -> list[str]:
    """Each model's total and active parameters."""
    names = ("total_without_embeddings", "active_without_embeddings")
    return [
        f"{prediction.model.name}: "
        + ", ".join(
            f"{cell(f'parameters.{name}', getattr(prediction.costs.parameters, name))}"
            f" {STEP_QUANTITIES[f'parameters.{name}'].label}"
            for name in names
        )
        + "."
        for prediction in predictions
    ]


def _within_l2(comparison: Comparison) -> list[str]:
    """Which steps the L2 cache could hold, so that their bounds are ones from a cold L2."""
    steps = [
        f"{prediction.model.name} at batch {batch:,}"
        for batch, row in zip(comparison.batches, comparison.predictions, strict=True)
        for prediction in row
        if prediction.fits_l2
    ]
    label = capitalised(STEP_QUANTITIES["time.fits_l2"].label)
    return [f"{label}, so their bounds hold from a cold L2 only: {', '.join(steps)}."] * bool(steps)


def _fits(comparison: Comparison) -> list[str]:
    """What the mark of a model that does not fit means, and each model's largest batch."""
    first = comparison.predictions[0]
    hardware = first[0].hardware
    notes = []
    if not all(prediction.memory.fits for row in comparison.predictions for prediction in row):
        notes.append(
            f"{DOES_NOT_FIT} does not fit the"
            f" {cell('memory.capacity_bytes', hardware.capacity_bytes)} of one {hardware.name}"
            " (CUDA context and allocator slack left out)."
        )
    label = capitalised(STEP_QUANTITIES["rows.max_batch"].label)
    return notes + [
        f"{label}: {prediction.model.name} {cell('rows.max_batch', prediction.memory.max_batch)}."
        for prediction in first
    ]
