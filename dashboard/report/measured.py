"""Recordings of a report: their cases of its workload, joined with their predictions.

A recording belongs to a report if it measured one of the report's models:
`costmodel/validation/measured_model.py` says when. Of its cases those count that are of the same
phase, formats and routing, at a context and a batch of the report. The step is listed at every such
batch, leaves at the batches whose operators the report lists.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from costmodel.costs.operators import build_operators
from costmodel.errors import InputError, shown
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.parse import parse_routing
from costmodel.layers.mesh import ONE_GPU
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.quantities import QUANTITIES
from costmodel.recordings.recording import Case, Recording
from costmodel.show.text import printable
from costmodel.show.validation_json import WHOLE_STEP
from costmodel.validation.case_attribution import case_attribution
from costmodel.validation.join import join_case
from costmodel.validation.joined import JoinedCase, Row
from costmodel.validation.machines import backend_of, device_of
from costmodel.validation.measured_model import measured_alike
from costmodel.validation.utilisation import routing_paths

if TYPE_CHECKING:  # it builds on this file
    from dashboard.report.build import Asked

LEAF_QUANTITIES = ("kernel_s", "hbm_read_bytes")  # what tells where the time of a step goes
SCORES = "scores"  # a model's own routing, which no report asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """A recording and the model of the report that it measured."""

    name: str
    recording: Recording
    model: ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedLines:
    """A recording in a report, as JSON: `RecordingGiven`, `MeasuredLine`s, `AttributionLine`s."""

    given: dict[str, Any]
    lines: list[dict[str, Any]]
    attributions: list[dict[str, Any]]


def matching(models: tuple[ModelConfig, ...], name: str, recording: Recording) -> Matched:
    """The recording with the model that it measured.

    Raises:
        InputError: It measured none of them.
    """
    model = measured_model(models, recording)
    if model is None:
        raise InputError(
            f"recording={shown(name)}: is of {shown(recording.model.name)}, which is not a model of"
            " this report"
        )
    return Matched(name=name, recording=recording, model=model)


def measured_model(models: tuple[ModelConfig, ...], recording: Recording) -> ModelConfig | None:
    """The model, if any, that the recording measured."""
    return next((model for model in models if measured_alike(recording.model, model)), None)


def joined_lines(matched: Matched, asked: "Asked") -> JoinedLines:
    """The cases of the report's workload, joined with their predictions."""
    recording, lines, cases = matched.recording, [], 0
    attributions: list[dict[str, Any]] = []
    batches = {*asked.batches, *asked.compared_batches}
    for index, case in enumerate(recording.cases):
        work = case.workload
        if not _same(work, asked, matched.model) or work.batch not in batches:
            continue
        cases += 1
        leaves = work.batch in asked.batches
        routing_leaves = routing_paths(build_operators(recording.model, work.to_workload().step()))
        joined = join_case(recording, index, asked.gpus)
        lines += [
            _line(matched, work, row, chooses=row.path in routing_leaves)
            for column in joined.columns
            if column.of_step or (leaves and column.quantity in LEAF_QUANTITIES)
            for row in column.rows()
        ]
        if leaves:
            attributions += _attribution_lines(matched, case, joined)
    session = recording.sessions[0]
    machine = session.machine.name
    if recording.cases:
        machine = device_of(recording, recording.cases[0], "time")
    return JoinedLines(
        given={
            "name": printable(matched.name),
            "model": matched.model.name,
            "machine": machine,
            "started": session.started,
            "cases": cases,
        },
        lines=lines,
        attributions=attributions,
    )


def _same(work: CaseWorkload, asked: "Asked", model: ModelConfig) -> bool:
    """Whether a case ran the report's workload, at any batch."""
    workload = asked.workload.of_model(model)
    return (
        work.phase == workload.phase
        and workload.caches_as_run
        and workload.mesh == ONE_GPU
        and work.new_tokens == workload.new_tokens
        and work.context in asked.contexts
        and work.dtype == workload.dtype_label == workload.kv_dtype.label
        and work.places_tables_as(workload.placement)
        and work.routing != SCORES
        and parse_routing(work.routing, files=False).label == workload.routing.label
    )


def _attribution_lines(
    matched: Matched, case: Case, joined: JoinedCase
) -> Iterator[dict[str, Any]]:
    """Where the time of a step goes, and that of each kind of its kernels; none without a graph."""
    found, work = case_attribution(case, joined), case.workload
    if found.step is None:
        return
    for of, parts in {"": found.step, **found.by_kind}.items():
        yield {
            "model": matched.model.name,
            "recording": printable(matched.name),
            "batch": work.batch,
            "context": work.context,
            "backend": backend_of(case, "time"),
            "of": of,
            **asdict(parts),
            "notes": tuple(map(printable, parts.notes)),
        }


def _line(matched: Matched, work: CaseWorkload, row: Row, *, chooses: bool) -> dict[str, Any]:
    return {
        **row._asdict(),
        "model": matched.model.name,
        "recording": printable(matched.name),
        "batch": work.batch,
        "context": work.context,
        "unit": QUANTITIES[row.quantity].unit,
        "path": row.path or WHOLE_STEP,
        "chooses": chooses,
        "ratio": row.ratio,
        "reason": None if row.reason is None else printable(row.reason),
    }
