"""The charts of a report, drawn from the numbers of its tables, each with its text alternative.

Plotly reads tags and entities in the names it draws, so that every text of a user is escaped.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product

import plotly.graph_objects as go

from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.show.axis import Axis
from costmodel.show.text import capitalised
from costmodel.show.validation_json import WHOLE_STEP
from dashboard.app import figures
from dashboard.app.figures import PALETTE, PREDICTED, SYMBOLS, colour, framed, measured_marks
from dashboard.report.document import ComparedLine, MeasuredLine, Report
from dashboard.report.quantities import COMPULSORY_PARTS
from dashboard.report.words import points, quantity_words, step_words, steps_at

HATCHES = ("", "/", "|", "x", ".", "+")  # of the parts of a step's compulsory bytes
COMPULSORY = Axis(quantity=STEP_QUANTITIES["hbm_bytes.compulsory"], prefix="G")
BAR_HEIGHT, LEAST_HEIGHT = 24, 240  # pixels of a bar, and of a chart
RATIOS = ("graph_s", "eager_s", "kernel_s", "hbm_read_bytes", "energy_j", "peak_memory_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure, the content that it belongs to, its title, and what it shows in words."""

    section: str
    title: str
    alt: str
    figure: go.Figure


def charts(report: Report, section: str | None = None) -> tuple[Chart, ...]:
    """The charts of the sections that the report holds, or those of one section."""
    made: dict[str, Callable[[], Iterable[Chart]]] = {
        "summary": lambda: (_bytes(report, point) for point in points(report)),
        "operators": lambda: (_operators(report, index) for index in range(len(report.steps))),
        "comparison": lambda: _of_comparison(report),
        "measured": lambda: _of_measured(report),
    }
    return tuple(
        chart
        for name in report.contents
        if name in made and section in (None, name)
        for chart in made[name]()
    )


def _of_comparison(report: Report) -> Iterator[Chart]:
    assert report.comparison is not None
    for context in report.inputs.workload.contexts:
        lines = [line for line in report.comparison.lines if line.context == context]
        if lines:
            yield _over_batch(report, lines, "bytes")
            yield _over_batch(report, lines, "time")


def _of_measured(report: Report) -> Iterator[Chart]:
    compared = [
        line
        for line in report.measured
        if line.path == WHOLE_STEP and line.quantity in RATIOS and line.ratio
    ]
    if compared:
        yield _ratios(report, compared)


def plain(text: str) -> str:
    """A user's text as Plotly draws it: the same characters, none of them a tag or an entity."""
    return escape(text, quote=False)


def _bytes(report: Report, point: tuple[int, int]) -> Chart:
    """Compulsory bytes of each model's step, stacked by category."""
    steps = steps_at(report, point)
    figure = go.Figure(
        [
            go.Bar(
                name=STEP_QUANTITIES[name].label,
                orientation="h",
                y=[plain(step.model) for step in steps],
                x=[_giga(step.values.get(name) or 0) for step in steps],
                marker={"color": PALETTE[index], "pattern": {"shape": HATCHES[index]}},
            )
            for index, name in enumerate(COMPULSORY_PARTS)
            if any(step.values.get(name) for step in steps)
        ]
    )
    figure.update_layout(barmode="stack", yaxis={"autorange": "reversed"})
    heading = f"{capitalised(COMPULSORY.quantity.label)} of one step, {step_words(*point)}"
    drawn = framed(
        figure,
        x_title=COMPULSORY.title,
        y_title="",
        height=LEAST_HEIGHT + 2 * BAR_HEIGHT * len(steps),
    )
    drawn.update_layout(legend_traceorder="normal")
    return Chart(
        section="summary",
        title=heading,
        alt=f"{heading}: stacked bars in {COMPULSORY.unit}, by what is moved. "
        + " ".join(
            f"{step.model}: {_giga(step.values[COMPULSORY.quantity.name]):.4g} {COMPULSORY.unit}."
            for step in steps
        ),
        figure=drawn,
    )


def _operators(report: Report, index: int) -> Chart:
    """The time of each operator of a step: predicted, or else its roofline bound."""
    step = report.steps[index]
    predicted = all(operator.predicted_s is not None for operator in step.operators)
    field = "predicted_s" if predicted else "floor_s"
    axis = Axis(quantity=STEP_QUANTITIES[f"operators.{field}"], prefix="u")
    times = [
        (operator.path, operator.count * getattr(operator, field)) for operator in step.operators
    ]
    figure = go.Figure(
        go.Bar(
            name=axis.quantity.label,
            orientation="h",
            y=[plain(path) for path, _ in times],
            x=[axis.scaled(seconds) for _, seconds in times],
            marker={"color": PREDICTED},
        )
    )
    figure.update_layout(yaxis={"autorange": "reversed", "type": "category"}, showlegend=False)
    heading = (
        f"{capitalised(axis.quantity.label)} by operator: {step.model},"
        f" {step_words(step.batch, step.context)}"
    )
    longest, longest_s = max(times, key=lambda time: time[1])
    return Chart(
        section="operators",
        title=heading,
        alt=f"{heading}: a bar for each operator, in microseconds. The longest is {longest},"
        f" {axis.scaled(longest_s):.{axis.quantity.digits}g} {axis.unit}.",
        figure=framed(
            figure,
            x_title=axis.title,
            y_title="",
            height=LEAST_HEIGHT + BAR_HEIGHT * len(times),
            digits=axis.quantity.digits,
        ),
    )


def _over_batch(report: Report, lines: Sequence[ComparedLine], what: str) -> Chart:
    """Bytes or time of each model over the batch, both axes logarithmic; measured points on it."""
    predicted = all(compared.predicted_s is not None for compared in lines)
    if what == "bytes":
        field, measured = "compulsory_bytes", "hbm_read_bytes"
    else:
        field = "predicted_s" if predicted else "floor_s"
        measured = "graph_s" if report.inputs.workload.phase == "decode" else "eager_s"
    axis = Axis(quantity=STEP_QUANTITIES[f"rows.{field}"], prefix="G" if what == "bytes" else "m")
    context = lines[0].context
    figure = go.Figure()
    names = [model.name for model in report.inputs.models]
    ends = []
    for index, name in enumerate(names):
        of_model = [compared for compared in lines if compared.model == name]
        if of_model:
            batches = [compared.batch for compared in of_model]
            values = [axis.scaled(getattr(compared, field)) for compared in of_model]
            figure.add_trace(figures.line(plain(name), batches, values, index, markers=True))
            digits = axis.quantity.digits
            ends.append(f"{name}: {values[0]:.{digits}g} to {values[-1]:.{digits}g}.")
    _add_measured(figure, report, context, names, measured, axis)
    heading = f"{capitalised(axis.quantity.label)} over the batch, context {context:,}"
    return Chart(
        section="comparison",
        title=heading,
        alt=f"{heading}: a line for each model, both axes logarithmic; {axis.title}, from the"
        f" smallest to the largest batch. " + " ".join(ends),
        figure=framed(
            figure,
            x_title="batch, sequences",
            y_title=axis.title,
            x_log=True,
            y_log=True,
            digits=axis.quantity.digits,
        ),
    )


def _add_measured(  # noqa: PLR0917 - one caller, above
    figure: go.Figure,
    report: Report,
    context: int,
    names: Sequence[str],
    quantity: str,
    axis: Axis,
) -> None:
    """What was measured of the steps: open marks of the model's own colour and shape.

    The lines are of the report's backend; marks of another one say so.
    """
    own = report.inputs.workload.backend
    backends = sorted({line.backend for line in report.measured}, key=lambda name: name != own)
    for (index, name), backend in product(enumerate(names), backends):
        points = [
            (line.batch, axis.scaled(line.measured))
            for line in report.measured
            if (line.quantity, line.path, line.model, line.context, line.backend)
            == (quantity, WHOLE_STEP, name, context, backend)
            and line.measured is not None
        ]
        if points:
            by = "" if backend == own else f" by {plain(backend)}"
            label = f"{plain(name)}, measured {quantity_words(quantity)}{by}"
            batches, values = zip(*points, strict=True)
            figure.add_trace(measured_marks(label, batches, values, index))


def _ratios(report: Report, lines: Sequence[MeasuredLine]) -> Chart:
    """Measured over predicted, a dot for each quantity and batch, the line at 1."""
    figure = go.Figure()
    for index, model in enumerate(report.inputs.models):
        of_model = [line for line in lines if line.model == model.name]
        figure.add_trace(
            go.Scatter(
                name=plain(model.name),
                x=[line.ratio for line in of_model],
                y=[_counterpart(line) for line in of_model],
                text=[step_words(line.batch, line.context) for line in of_model],
                mode="markers",
                marker={
                    "symbol": SYMBOLS[index % len(SYMBOLS)],
                    "color": colour(index),
                    "size": 9,
                    "opacity": 0.8,
                },
            )
        )
    figure.add_vline(x=1, line_dash="dash", line_color="#7F7F7F")
    heading = "Measured over predicted, step by step"
    return Chart(
        section="measured",
        title=heading,
        alt=f"{heading}: {len(lines)} dots on a logarithmic axis, by quantity and model. At the"
        " dashed line measured and predicted are equal, to its right more was measured.",
        figure=framed(figure, x_title="measured / predicted", y_title="", x_log=True),
    )


def _counterpart(line: MeasuredLine) -> str:
    return f"{quantity_words(line.quantity)},<br>against {plain(line.basis)}"


def _giga(value: object) -> float:
    """Bytes in GB; quantities of bytes are numbers, which `document` checks."""
    assert isinstance(value, int | float)
    return COMPULSORY.scaled(float(value))
