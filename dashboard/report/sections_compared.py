"""The sections that compare: models over batches, and predictions with recordings."""

from costmodel import units
from costmodel.costs.quantities.quantity import DIGITS_OF_TIMES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.show.tables.attribution import KINDS_NOTES, PART_NOTES, SUM_NOTES, parts_table
from costmodel.show.tables.columns import cell
from costmodel.show.text import Table
from costmodel.show.validation_json import WHOLE_STEP
from costmodel.validation.attribution import PARTS, Attribution
from costmodel.validation.counterparts import PREDICTED
from dashboard.report.document import AttributionLine, MeasuredLine, Report
from dashboard.report.words import Section, quantity_words, step_words

NOT_MEASURED = "-"
COMPARED = (  # fields of a line of the comparison
    *("compulsory_bytes", "bytes_of_first_over_this", "flops", "kv_read_bytes", "routing_bytes"),
    *("floor_s", "predicted_s", "memory_bytes", "fits"),
)
OF_A_MESH = ("gpus", "exchanges_s")


def comparison_section(report: Report) -> Section:
    """All models over the compared batches, the findings in words first."""
    assert report.comparison is not None
    tables = []
    meshed = any(line.gpus > 1 for line in report.comparison.lines)
    fields = (*COMPARED, *(OF_A_MESH if meshed else ()))
    for context in report.inputs.workload.contexts:
        rows = tuple(
            (
                f"{line.batch:,}",
                line.model,
                *(cell(f"rows.{field}", getattr(line, field)) for field in fields),
            )
            for line in report.comparison.lines
            if line.context == context
        )
        tables.append(
            Table(
                title=f"Over the batch, context {context:,}",
                headers=(
                    "batch",
                    "model",
                    *(STEP_QUANTITIES[f"rows.{field}"].label for field in fields),
                ),
                rows=rows,
                text_columns=2,
            )
        )
    return Section(
        name="comparison",
        title="Comparison over the batch",
        lead=tuple(
            f"Context {finding.context:,}: {finding.text}" for finding in report.comparison.findings
        ),
        tables=tuple(tables),
    )


def measured_section(report: Report) -> Section:
    """What recordings hold of the report's workload: the step, then leaf by leaf."""
    recordings = report.inputs.recordings
    lead = [
        f"{recording.name}: {recording.model} on {recording.machine}, measured from"
        f" {recording.started};"
        + (
            f" {recording.cases:,} of its cases are of this report's workload."
            if recording.cases
            else " none of its cases is of this report's workload, so nothing of it is shown."
        )
        for recording in recordings
    ]
    if not recordings:
        lead.append("No recording was given, so nothing measured is compared with the predictions.")
    tables: list[Table] = []
    folded: list[Table] = _kind_tables(report)
    steps = [line for line in report.attributions if not line.of]
    if steps:
        named = {_step_words(line): _parts(line) for line in steps}
        notes = [*PART_NOTES, *SUM_NOTES, *dict.fromkeys(n for s in steps for n in s.notes)]
        tables.append(parts_table("Where the measured time goes", "step", named, notes))
    for key, lines in _by_step(report).items():
        model, recording, batch, context = key
        backends = " and ".join(dict.fromkeys(line.backend for line in lines))
        heading = (
            f"{model}, {step_words(batch, context)}, recording {recording}, kernels of {backends}"
        )
        step = [line for line in lines if line.path == WHOLE_STEP]
        leaves = [line for line in lines if line.path != WHOLE_STEP]
        listed = tables if batch in report.inputs.workload.batches else folded
        listed.append(_measured_table(f"The step: {heading}", step))
        if leaves:
            folded.append(_measured_table(f"Leaf by leaf: {heading}", leaves))
    return Section(
        name="measured",
        title="Predicted beside measured",
        lead=tuple(lead),
        tables=tuple(tables),
        folded=tuple(folded),
    )


def _kind_tables(report: Report) -> list[Table]:
    """Of each attributed step the time of its kernels, by kind of operator."""
    by_step: dict[str, dict[str, Attribution]] = {}
    for line in report.attributions:
        if line.of:
            by_step.setdefault(_step_words(line), {})[line.of] = _parts(line)
    return [
        parts_table(f"Where the time of kernels goes: {step}", "kind", parts, KINDS_NOTES)
        for step, parts in by_step.items()
    ]


def _step_words(line: AttributionLine) -> str:
    step = step_words(line.batch, line.context)
    return f"{line.model}, {step}, recording {line.recording}, kernels of {line.backend}"


def _parts(line: AttributionLine) -> Attribution:
    return Attribution(
        measured_s=line.measured_s,
        notes=line.notes,
        **{name: getattr(line, name) for name in PARTS},
    )


def _by_step(report: Report) -> dict[tuple[str, str, int, int], list[MeasuredLine]]:
    """What was measured, by model, recording, batch and context."""
    by_step: dict[tuple[str, str, int, int], list[MeasuredLine]] = {}
    for line in report.measured:
        key = (line.model, line.recording, line.batch, line.context)
        by_step.setdefault(key, []).append(line)
    return by_step


def _measured_table(heading: str, lines: list[MeasuredLine]) -> Table:
    chooses = any(line.chooses for line in lines)
    notes = ["Measured: the median of repeats. Where a bound stands for a prediction, it says so."]
    if chooses:
        notes.append("Chooses: the leaf does nothing but choose experts or rows: it is routing.")
    return Table(
        title=heading,
        headers=(
            "step or leaf",
            *(["chooses"] * chooses),
            "quantity",
            "against",
            "source, or why there is none",
            "predicted",
            "measured",
            "quartiles",
            "measured / predicted",
        ),
        rows=tuple(
            (
                line.path,
                *(["yes" if line.chooses else ""] * chooses),
                quantity_words(line.quantity),
                line.basis,
                "; ".join(filter(None, (line.source, line.reason))),
                _amount(line, _as_predicted(line)),
                _amount(line, line.measured),
                "" if line.q1 is None else f"{_amount(line, line.q1)} to {_amount(line, line.q3)}",
                NOT_MEASURED if line.ratio is None else units.ratio(line.ratio),
            )
            for line in lines
        ),
        text_columns=4 + chooses,
        notes=tuple(notes),
    )


def _as_predicted(line: MeasuredLine) -> float | None:
    """The counterpart, with the digits of a prediction where a calibration made it."""
    if line.predicted is None or line.unit not in {"s", "j"} or line.basis != PREDICTED:
        return line.predicted
    return units.rounded(float(line.predicted), DIGITS_OF_TIMES)


def _amount(line: MeasuredLine, value: float | None) -> str:
    return NOT_MEASURED if value is None else units.formatted(value, line.unit)
