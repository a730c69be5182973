"""The sections of a report as HTML, Markdown and the page show them."""

from collections.abc import Iterator

from costmodel import units
from costmodel.show.text import Table
from dashboard.report.document import OperatorLine, Report
from dashboard.report.quantities import REPORTED, formatted
from dashboard.report.sections_beside import comparison_section, measured_section
from dashboard.report.words import Section, points, step_words, steps_at, workload_words

SUMS = (
    "Each row is the sum over the layers that its path lists. Predicted times are those of parts of"
    " a CUDA graph. The floors need not sum to the step's."
)


def sections(report: Report) -> tuple[Section, ...]:
    """The sections that the report holds, in their order, its inputs at last but for the method."""
    made = {
        "summary": _summary,
        "operators": _operators,
        "comparison": comparison_section,
        "measured": measured_section,
    }
    found = [make(report) for name, make in made.items() if name in report.contents]
    found.append(_inputs(report))
    if "method" in report.contents:
        found.append(_method(report))
    return tuple(found)


def _summary(report: Report) -> Section:
    tables = []
    for point in points(report):
        steps = steps_at(report, point)
        reasons = {
            f"n/a, {step.model}, {quantity.title}: {step.reasons[quantity.name]}"
            for step in steps
            for quantity in REPORTED
            if quantity.name in step.reasons
        }
        tables.append(
            Table(
                title=f"One step, {step_words(*point)}",
                headers=("quantity", *(step.model for step in steps)),
                rows=tuple(
                    (
                        quantity.title,
                        *(formatted(quantity.unit, step.values[quantity.name]) for step in steps),
                    )
                    for quantity in REPORTED
                ),
                notes=tuple(sorted(reasons)),
            )
        )
    return Section(
        name="summary", title="Summary", lead=tuple(answers(report)), tables=tuple(tables)
    )


def answers(report: Report) -> Iterator[str]:
    """One sentence for each step: time, tokens, memory."""
    for step in report.steps:
        values = step.values
        floor = formatted("s", values["time.floor_s"])
        predicted = values["time.predicted_s"]
        time = (
            f"no time is predicted, the floor is {floor}"
            if predicted is None
            else f"predicted {formatted('s', predicted)} a step (floor {floor})"
        )
        verdict = "fits" if values["memory.fits"] else "does NOT fit"
        yield (
            f"{step.model}, {step_words(step.batch, step.context)}: {time},"
            f" {formatted('bytes', values['hbm_bytes.compulsory'])} of HBM traffic at the least,"
            f" {formatted('flops', values['flops.total'])};"
            f" {formatted('capacity', values['memory.total_bytes'])} of memory {verdict}."
        )


def _operators(report: Report) -> Section:
    tables = tuple(
        Table(
            title=f"{step.model}, {step_words(step.batch, step.context)}",
            headers=(
                "operator",
                "kind",
                "layers",
                "FLOPs",
                "compulsory HBM bytes",
                "launches",
                "floor time",
                "predicted time",
                "bound by",
            ),
            rows=tuple(_operator_cells(line) for line in step.operators),
            text_columns=2,
        )
        for step in report.steps
    )
    return Section(
        name="operators",
        title="Operators",
        lead=(SUMS,),
        tables=tables[:1],
        folded=tables[1:],
    )


def _operator_cells(line: OperatorLine) -> tuple[str, ...]:
    count, predicted = line.count, line.predicted_s
    return (
        line.path,
        line.kind,
        f"{count:,}",
        units.flops(count * line.flops),
        units.traffic(count * line.compulsory_bytes),
        units.count(count * line.launches),
        units.seconds(count * line.floor_s),
        units.seconds(None if predicted is None else count * predicted),
        line.bound_by,
    )


def _inputs(report: Report) -> Section:
    given = report.inputs
    by, price = given.calibration, given.price_per_hour
    driver = "" if by is None or by.driver is None else f", driver {by.driver}"
    calibrated = (
        f"none: {given.no_calibration}"
        if by is None
        else f"{by.name}: {by.machine}{driver}, torch {by.torch}, measured {by.started}"
    )
    rows = [
        ("models", ", ".join(model.name for model in given.models)),
        ("workload", workload_words(report)),
        ("batches", ", ".join(f"{each:,}" for each in given.workload.batches)),
        ("contexts, cached tokens", ", ".join(f"{each:,}" for each in given.workload.contexts)),
        ("batches compared", ", ".join(f"{each:,}" for each in given.workload.compared_batches)),
        ("GPU", given.hardware.name),
        ("calibration", calibrated),
        ("price", "not given" if price is None else f"{units.significant(price)} USD an hour"),
        ("recordings", ", ".join(each.name for each in given.recordings) or "none"),
        ("made", f"{report.made} by sparsecost {report.sparsecost_version}"),
    ]
    table = Table(title="Given", headers=("input", "value"), rows=tuple(rows), text_columns=2)
    return Section(name="inputs", title="Inputs", tables=(table,))


def _method(report: Report) -> Section:
    table = Table(
        title="Formulas, conventions, sources",
        headers=("topic", "what", "how it is counted", "source"),
        rows=tuple((note.topic, note.what, note.text, note.source) for note in report.method),
        text_columns=4,
    )
    return Section(
        name="method",
        title="Method",
        lead=("What each number counts and leaves out, and where it comes from.",),
        tables=(table,),
    )
