"""Models side by side as people read them, with the findings in words."""

from collections.abc import Sequence
from typing import Any

from costmodel import units
from costmodel.costs.intervals import COVERAGE
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.questions.compare import Comparison
from costmodel.questions.compare_mesh import batches_words
from costmodel.show.comparison_json import comparison_rows, prediction_rows, times_unknown
from costmodel.show.tables.columns import cell, head
from costmodel.show.tables.mesh import NOT_MEASURED
from costmodel.show.tables.notes import (
    MOVES_NOTHING,
    calibration_note,
    placement_note,
    routing_note,
    shipped_format_note,
    storage_notes,
    workload_words,
)
from costmodel.show.text import Table, capitalised
from costmodel.show.told_times import MARK, interval_words, row_digits, shown

COMPULSORY = STEP_QUANTITIES["rows.compulsory_bytes"]
PREDICTED = STEP_QUANTITIES["rows.predicted_s"]
DOES_NOT_FIT = "*"
RATIO = "bytes_of_first_over_this"
COLUMNS = (
    *("weights_bytes", "table_rows_bytes", "kv_read_bytes", "flops", "routing_flops"),
    *("routing_bytes", "compulsory_bytes", RATIO, "floor_s"),
)
OFTEN_NONE = ("table_rows_bytes", "host_read_bytes", "disk_read_bytes", "predicted_exposed_s")
MESH_COLUMNS = ("gpus", "memory_per_gpu_bytes", "exchanges_s")
FAR_COLUMNS = ("host_read_bytes", "disk_read_bytes", "predicted_exposed_s")
KEPT = ("total_without_embeddings", "active_without_embeddings", "stored_weights_bytes")
KEPT_FAR = ("host_table_bytes", "disk_table_bytes")
LEFT = ("kv_bytes_per_token", "kv_room_bytes", "kv_room_tokens", "max_batch")


def comparison_tables(comparison: Comparison) -> list[Table]:
    """The steps of all models, then what each model keeps and where."""
    return [comparison_table(comparison), kept_table(comparison.predictions[0])]


def kept_table(predictions: Sequence[Prediction]) -> Table:
    """One line for each model: parameters, what stands where, and room for the KV cache.

    No batch changes these numbers. A place outside HBM is told where some model has a table there.
    """
    first = predictions
    records = prediction_rows(predictions)
    far = tuple(field for field in KEPT_FAR if any(record[field] for record in records))
    fields = (*KEPT, *far, *LEFT)
    return Table(
        title=f"What each model keeps: {first[0].hardware.name}, "
        + cell("memory.capacity_bytes", first[0].hardware.capacity_bytes),
        headers=("model", *(head(f"rows.{field}") for field in fields)),
        rows=tuple(
            (record["model"], *(_cell(record, field, is_first=False) for field in fields))
            for record in records
        ),
        notes=(*_placement_notes(first), *_kept_on(first)),
    )


def _kept_on(predictions: Sequence[Prediction]) -> list[str]:
    """Of several GPUs, on which mesh each model is kept."""
    if all(prediction.gpus == 1 for prediction in predictions):
        return []
    meshes = "; ".join(f"{one.model.name}, {one.workload.mesh.label}" for one in predictions)
    return [f"Of all GPUs together at batch {predictions[0].workload.batch:,}: {meshes}."]


def comparison_table(comparison: Comparison) -> Table:
    """One line for each batch and model, and the findings in words."""
    first = comparison.predictions[0]
    records = comparison_rows(comparison)
    timed = any(not isinstance(prediction.time, Unknown) for prediction in first)
    far = [field for field in FAR_COLUMNS if any(record[field] for record in records)]
    energies = any(record["predicted_j"] is not None for record in records)
    predicted = ("predicted_s", *["predicted_j"] * energies) if timed else ()
    unknown = times_unknown(comparison)
    workloads = [prediction.workload for prediction in first]
    meshed = MESH_COLUMNS if comparison.is_meshed else ()
    fields = (*COLUMNS, *predicted, *meshed, *far, "bound_by")
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
            *_fits(comparison),
            *_within_l2(comparison),
            *comparison.findings(),
            *_intervals(records),
            *_meshes(comparison),
            *dict.fromkeys(note for prediction in first for note in routing_note(prediction)),
            *(
                [f"{STEP_QUANTITIES['rows.predicted_s'].label}: {units.NOT_KNOWN} ({unknown})."]
                if unknown
                else []
            ),
            *dict.fromkeys(
                note
                for prediction in first
                for note in calibration_note(prediction, interval=False)
            ),
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


def _intervals(records: Sequence[dict[str, Any]]) -> list[str]:
    """What stands in brackets beside predicted times; nothing without measured leaves."""
    known = any(record.get("interval_low_s") is not None for record in records)
    return [f"In brackets: the interval of {COVERAGE:.0%} about a predicted time."] * known


def _placement_notes(predictions: Sequence[Prediction]) -> list[str]:
    """What placed tables rest on, told once, and which models have none."""
    notes = {note: one.model.name for one in predictions for note in placement_note(one)}
    return [f"{name}: {note}" if note == MOVES_NOTHING else note for note, name in notes.items()]


def _cell(record: dict[str, Any], field: str, *, is_first: bool) -> str:
    if field == RATIO and is_first:
        return ""
    if field in (*OFTEN_NONE, *KEPT_FAR) and not record[field]:
        return "-"
    if field == "predicted_s" and record.get("interval_low_s") is not None:
        ends = interval_words((record["interval_low_s"], record["interval_high_s"]))
        mark = MARK * (record.get("transferred_from") is not None)
        return f"{mark}{shown(PREDICTED, record[field], row_digits(record))} ({ends})"
    return shown(STEP_QUANTITIES[f"rows.{field}"], record[field], row_digits(record))


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


def _meshes(comparison: Comparison) -> list[str]:
    """The mesh of each model by batch, and that nothing of it was measured; none on one GPU."""
    if not comparison.is_meshed:
        return []
    notes = []
    for column in zip(*comparison.predictions, strict=True):
        by_mesh: dict[str, list[int]] = {}
        for prediction in column:
            by_mesh.setdefault(prediction.workload.mesh.label, []).append(prediction.workload.batch)
        meshes = "; ".join(
            f"{mesh} at {batches_words(comparison.batches, batches)}"
            for mesh, batches in by_mesh.items()
        )
        notes.append(f"{column[0].model.name}: {meshes}.")
    return [*notes, NOT_MEASURED]


def _fits(comparison: Comparison) -> list[str]:
    """What the mark of a model that does not fit means."""
    first = comparison.predictions[0]
    hardware = first[0].hardware
    notes = []
    if not all(prediction.memory.fits for row in comparison.predictions for prediction in row):
        notes.append(
            f"{DOES_NOT_FIT} does not fit the"
            f" {cell('memory.capacity_bytes', hardware.capacity_bytes)} of one {hardware.name}"
            f"{', or of one of those asked for' * comparison.is_meshed}"
            " (CUDA context and allocator slack left out)."
        )
    return notes
