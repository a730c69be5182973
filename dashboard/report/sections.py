"""The sections of a report as HTML, Markdown and the page show them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from costmodel import units
from costmodel.show.parallel_json import OF_ALL
from costmodel.show.tables.columns import cell, head
from costmodel.show.tables.mesh import NOT_MEASURED
from costmodel.show.tables.prediction import operators_table
from costmodel.show.text import Table
from costmodel.show.told_times import interval_words, shown
from dashboard.report.document import Report, StepCosts
from dashboard.report.inputs import Inputs
from dashboard.report.quantities import EXCHANGE_FIELDS, OF_A_MESH, REPORTED
from dashboard.report.sections_compared import comparison_section, measured_section
from dashboard.report.words import (
    Section,
    mesh_words,
    points,
    step_digits,
    step_words,
    steps_at,
    workload_words,
)

SUMS = "Each row is the sum over the layers that its path lists."


def sections(report: Report) -> tuple[Section, ...]:
    """The sections that the report holds, in their order, its inputs at last but for the method."""
    made = {
        "summary": _summary,
        "operators": _operators,
        "comparison": comparison_section,
        "measured": measured_section,
    }
    listed = [make(report) for name, make in made.items() if name in report.contents]
    listed.append(_inputs(report))
    if "method" in report.contents:
        listed.append(_method(report))
    return tuple(listed)


def _summary(report: Report) -> Section:
    tables = []
    for point in points(report):
        steps = steps_at(report, point)
        tables.append(
            Table(
                title=f"One step, {step_words(*point)}",
                headers=("quantity", *(step.model for step in steps)),
                rows=tuple(
                    (
                        quantity.label,
                        *(_shown(step, name) for step in steps),
                    )
                    for name, quantity in REPORTED.items()
                    if name not in OF_A_MESH or any(name in step.values for step in steps)
                ),
                notes=(
                    *_not_known(steps),
                    *(f"{one.model}: {one.transferred}" for one in steps if one.transferred),
                ),
            )
        )
        tables += [_exchanges(step) for step in steps if step.exchanges]
    return Section(
        name="summary", title="Summary", lead=tuple(answers(report)), tables=tuple(tables)
    )


def _not_known(steps: list[StepCosts]) -> tuple[str, ...]:
    """Each reason once for a model, with all quantities that are missing for it."""
    labels: dict[tuple[str, str], list[str]] = defaultdict(list)
    for step in steps:
        for name in REPORTED:
            if name in step.reasons:
                labels[step.model, step.reasons[name]].append(REPORTED[name].label)
    return tuple(
        f"{units.NOT_KNOWN}, {model}, {', '.join(missing)}: {reason}"
        for (model, reason), missing in sorted(labels.items())
    )


def _exchanges(step: StepCosts) -> Table:
    """What the GPUs of a step exchange."""
    of = "parallel.exchanges"
    return Table(
        title=f"Exchanges of {step.model}, {step_words(step.batch, step.context)}: {step.mesh}",
        headers=("path", *(head(f"{of}.{name}") for name in EXCHANGE_FIELDS)),
        rows=tuple(
            (line.path, *(cell(f"{of}.{name}", getattr(line, name)) for name in EXCHANGE_FIELDS))
            for line in step.exchanges
        ),
        notes=(NOT_MEASURED,),
    )


def answers(report: Report) -> Iterator[str]:
    """One sentence for each step: time, tokens, memory."""
    for step in report.steps:
        bound = f"{REPORTED['time.floor_s'].label} {_shown(step, 'time.floor_s')}"
        time = (
            f"no time is predicted, {bound}"
            if step.values.get("time.predicted_s") is None
            else f"predicted {_shown(step, 'time.predicted_s')} a step ({_told(step)}{bound})"
        )
        verdict = "fits" if step.values["memory.fits"] else "does NOT fit"
        yield (
            f"{step.model}, {step_words(step.batch, step.context)}{mesh_words(step.mesh)}: {time},"
            f" {_shown(step, 'hbm_bytes.compulsory')} of HBM traffic at the least,"
            f" {_shown(step, 'flops.total')};"
            f" {_shown(step, 'memory.total_bytes')} of memory {verdict}."
        )


def _told(step: StepCosts) -> str:
    """Interval and, of a transferred time, label; empty without both."""
    if step.transferred is not None:
        return f"{step.transferred}; "
    return "" if step.interval_s is None else f"{interval_words(step.interval_s)}; "


def _shown(step: StepCosts, name: str) -> str:
    return shown(REPORTED[name], step.values.get(name), step_digits(step))


def _operators(report: Report) -> Section:
    tables = tuple(
        operators_table(
            f"{step.model}, {step_words(step.batch, step.context)}",
            [asdict(line) for line in step.operators],
            report.inputs.workload.backend,
        )
        for step in report.steps
    )
    meshed = any(step.exchanges for step in report.steps)
    return Section(
        name="operators",
        title="Operators",
        lead=(SUMS, *([f"On several GPUs numbers are of {OF_ALL}."] if meshed else [])),
        tables=tables[:1],
        folded=tables[1:],
    )


def _inputs(report: Report) -> Section:
    given = report.inputs
    price = given.price_per_hour
    rows = [
        ("models", ", ".join(model.name for model in given.models)),
        ("workload", workload_words(report)),
        ("batches", _numbers(given.workload.batches)),
        ("contexts, cached tokens", _numbers(given.workload.contexts)),
        ("batches compared", _numbers(given.workload.compared_batches)),
        ("GPU", given.hardware.name),
        ("calibration", _calibration_words(given)),
        ("price", "not given" if price is None else f"{units.formatted(price, 'usd')} an hour"),
        ("recordings", ", ".join(recording.name for recording in given.recordings) or "none"),
        ("made", f"{report.made} by sparsecost {report.sparsecost_version}"),
    ]
    table = Table(title="Given", headers=("input", "value"), rows=tuple(rows), text_columns=2)
    return Section(name="inputs", title="Inputs", tables=(table,))


def _calibration_words(given: Inputs) -> str:
    made = given.calibration
    if made is None:
        return f"none: {given.no_calibration}"
    driver = "" if made.driver is None else f", driver {made.driver}"
    return f"{made.name}: {made.machine}{driver}, torch {made.torch}, measured {made.started}"


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(f"{value:,}" for value in values)


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
        folded=(table,),
    )
