"""Models side by side as people read them, with the findings in words."""

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.questions.compare import Comparison, sentences
from costmodel.show.tables.prediction import calibration_note, workload_words
from costmodel.show.text import Table

DOES_NOT_FIT = "*"


def comparison_table(comparison: Comparison) -> Table:
    """One line for each batch and model, and the findings in words."""
    first = comparison.predictions[0]
    rows: list[tuple[str, ...]] = []
    sections = set()
    for batch, line in zip(comparison.batches, comparison.predictions, strict=True):
        for index, prediction in enumerate(line):
            rows.append(_comparison_row(batch, prediction, line[0] if index else None))
        sections.add(len(rows) - 1)
    hardware = first[0].hardware
    notes = [f"ratio: bytes of {first[0].model.name} over bytes of the model."]
    notes += [
        f"{prediction.model.name}, without embeddings:"
        f" {units.parameters(prediction.costs.parameters.total_without_embeddings)} parameters,"
        f" {units.parameters(prediction.costs.parameters.active_without_embeddings)} active."
        for prediction in first
    ]
    if any(not prediction.memory.fits for line in comparison.predictions for prediction in line):
        notes.append(
            f"{DOES_NOT_FIT} does not fit the {units.capacity(hardware.capacity_bytes)}"
            f" of one {hardware.name} (CUDA context and allocator slack left out)."
        )
    notes += [
        f"Largest batch of this context that fits: {prediction.model.name}"
        f" {units.count(prediction.memory.max_batch)}."
        for prediction in first
    ]
    notes += sentences(comparison.advantages)
    notes += calibration_note(first[0])
    notes += [
        f"Note on {prediction.model.name}: {note}"
        for prediction in first
        for note in prediction.model.notes
    ]
    return Table(
        title=" against ".join(prediction.model.name for prediction in first)
        + f": {workload_words(first[0].workload)}, on {hardware.name}",
        headers=(
            "batch",
            "model",
            "weights",
            "table\nrows",
            "KV\nread",
            "routing\nFLOPs",
            "routing\nbytes",
            "HBM\ncompulsory",
            "ratio",
            "floor\ntime",
            *([] if isinstance(first[0].time, Unknown) else ["predicted\ntime"]),
            "bound",
        ),
        rows=tuple(rows),
        text_columns=2,
        sections=frozenset(sections),
        notes=tuple(notes),
    )


def _comparison_row(
    batch: int, prediction: Prediction, reference: Prediction | None
) -> tuple[str, ...]:
    sums, routing, time = prediction.costs.totals, prediction.costs.routing, prediction.time
    mark = "" if prediction.memory.fits else f" {DOES_NOT_FIT}"
    ratio = (
        None
        if reference is None
        else float(reference.costs.totals.compulsory_bytes) / float(sums.compulsory_bytes)
    )
    return (
        "" if reference is not None else f"{batch:,}",
        prediction.model.name + mark,
        units.traffic(sums.weight_bytes),
        units.traffic(sums.row_bytes) if sums.row_bytes else "-",
        units.traffic(sums.kv_read_bytes),
        units.flops(routing.flops),
        units.traffic(routing.compulsory_bytes),
        units.traffic(sums.compulsory_bytes),
        "" if ratio is None else units.ratio(ratio),
        units.seconds(prediction.floor_s),
        *([] if isinstance(time, Unknown) else [units.seconds(float(time.predicted_s))]),
        prediction.bound_by,
    )
