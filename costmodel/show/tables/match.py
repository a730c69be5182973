"""A match as people read it: its sizes, the matched numbers, and how the others differ."""

from collections.abc import Sequence
from typing import Any

from costmodel import units
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import Unknown, not_timed
from costmodel.costs.quantities.matches import MATCH_QUANTITIES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.costs.transfer import for_step
from costmodel.inputs.hardware import Hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import ONE_GPU
from costmodel.questions.match import Match
from costmodel.questions.match_differences import Difference
from costmodel.show.match_json import MATCHED, match_records
from costmodel.show.tables.columns import cell
from costmodel.show.tables.mesh import NOT_MEASURED, mesh_words
from costmodel.show.tables.notes import priced_by, workload_words
from costmodel.show.text import Table, capitalised

NONE = "-"
CANDIDATES = capitalised(MATCH_QUANTITIES["candidates"].label)


def match_tables(
    answer: Match,
    lines: Sequence[Difference],
    hardware: Hardware,
    calibration: Curves | Unknown,
    formats: Workload,
) -> list[Table]:
    """Sizes, then the two numbers that were matched, then everything else that both models have."""
    records = match_records(answer, lines)
    others = [record for record in records[MATCHED:] if record["target"] or record["matched"]]
    last = {record["batch"]: index for index, record in enumerate(others)}  # of each batch
    workloads = [formats.of_model(model) for model in (answer.target, answer.model)]
    priced = [for_step(calibration, hardware, work) for work in workloads]
    unknown = [
        one
        for curves, work in zip(priced, workloads, strict=True)
        if (one := not_timed(curves, work))
    ][:1]
    backbone = answer.template if answer.keep_backbone else answer.target
    return [
        Table(
            title=answer.model.name,
            headers=("size", "template", "matched", "in steps of"),
            rows=tuple(
                (name, f"{before:,}", f"{after:,}", f"{answer.steps[name]:,}")
                for name, (before, after) in answer.fields.items()
            ),
            notes=(
                f"Backbone (hidden size, layers, attention, vocabulary): {backbone.name}.",
                f"All else: {answer.template.name}. {CANDIDATES}: {answer.candidates:,}.",
            ),
        ),
        Table(
            title=f"Matched: one decode step, batch {answer.batch:,}, context {answer.context:,}",
            headers=("quantity", answer.target.name, "matched", "difference", "%"),
            rows=tuple(map(_to_the_unit, records[:MATCHED])),
        ),
        Table(
            title=f"What differs then: {workload_words(*workloads)}, on {hardware.name}"
            f"{mesh_words(formats)}",
            headers=("batch", "quantity", answer.target.name, "matched", "ratio"),
            rows=tuple(map(_rounded, others)),
            text_columns=2,
            sections=frozenset(last.values()),
            notes=(
                f"ratio: {answer.model.name} over {answer.target.name}.",
                *([] if formats.mesh == ONE_GPU else [NOT_MEASURED]),
                *(f"Time and energy not predicted: {one.reason}." for one in unknown),
                *(dict.fromkeys(map(priced_by, priced)) if not unknown else ()),
            ),
        ),
    ]


def _to_the_unit(record: dict[str, Any]) -> tuple[str, ...]:
    """One of the two matched numbers, to the unit; bytes are an expectation."""
    return (
        STEP_QUANTITIES[record["quantity"]].label,
        units.count(round(record["target"])),
        units.count(round(record["matched"])),
        f"{round(record['difference']):+,}",
        units.formatted(record["difference_percent"], "percent"),
    )


def _rounded(record: dict[str, Any]) -> tuple[str, ...]:
    """Any other number, in its unit, and its ratio."""
    name, batch = record["quantity"], record["batch"]
    target, matched = record["target"], record["matched"]
    return (
        "any" if batch is None else f"{batch:,}",
        STEP_QUANTITIES[name].label,
        cell(name, target) if target else NONE,
        cell(name, matched) if matched else NONE,
        units.ratio(matched / target) if target else NONE,
    )
