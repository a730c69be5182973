"""Where predictions are worst: what `sparsecost validate` says of the shipped recordings.

All steps of a predicted quantity as points for a parity plot, the worst first, and the operators
whose kernel time is farthest off. Computed once in a process: it depends on nothing that is chosen.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape

import plotly.graph_objects as go

from costmodel import units
from costmodel.costs.quantities.quantity import DIGITS_OF_TIMES
from costmodel.recordings.folders import shipped_names
from costmodel.recordings.quantities import QUANTITIES
from costmodel.show.tables.validation_cells import at
from costmodel.show.text import capitalised
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.error_stats import BOTH_PHASES, Entry
from costmodel.validation.machines import Gpus
from costmodel.validation.validate import leaf_name, of_step, validate, worst_first, worst_leaves
from dashboard.app.figures import SYMBOLS, colour, framed
from dashboard.app.recordings import load

WORST_LEAVES = 20
MAX_ROWS = 100  # of a table
MARK = 7  # pixels
LINE = {"color": "#555555", "dash": "dash"}
OF_DEVELOPMENT = (
    "These are the development recordings: they were seen while the cost model was written, and"
    " chose its rules. How far off it is for models and GPUs that it never saw is not measured"
    " here."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Steps by the title of their quantity and leaves, the worst first."""

    steps: dict[str, tuple[Entry, ...]]
    leaves: tuple[Entry, ...]


@cache
def overview() -> Overview:
    """Every shipped recording beside its predictions; of all rows only these are kept."""
    loaded = [(name.removesuffix(".json"), load(name)) for name in shipped_names()]
    columns = validate(loaded, Gpus()).columns
    steps: dict[str, tuple[Entry, ...]] = {}
    for (name, _), of_quantity in columns.items():
        quantity = QUANTITIES[name]
        if quantity.exact or quantity.title in steps:
            continue
        entries = tuple(
            entry
            for entry in worst_first(of_step(of_quantity, BOTH_PHASES))
            if entry.row.ratio and entry.row.basis.startswith(PREDICTED)
        )
        if entries:
            steps[quantity.title] = entries
    kernels = columns.get(("kernel_s", "trace"), ())
    return Overview(steps=steps, leaves=tuple(worst_leaves(kernels, WORST_LEAVES)))


def sentence(title: str, entries: Sequence[Entry]) -> str:
    """The farthest of all steps of a quantity."""
    worst = entries[0]
    return (
        f"Worst of {len(entries):,} steps in {title}: {units.ratio(worst.row.ratio)} the"
        f" prediction, {at(worst.origin)}"
    )


def parity(entries: Sequence[Entry]) -> go.Figure:
    """Predicted over measured, both axes logarithmic, with a line where both agree."""
    by_model: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_model[entry.origin.model].append(entry)
    figure, ends = go.Figure(), []
    for index, (model, some) in enumerate(sorted(by_model.items())):
        measured = [float(entry.row.measured or 0) for entry in some]
        predicted = [float(entry.row.predicted or 0) for entry in some]
        ends += [*measured, *predicted]
        figure.add_trace(
            go.Scatter(
                name=escape(model),
                x=measured,
                y=predicted,
                text=[f"{escape(at(one.origin))}: {units.ratio(one.row.ratio)}" for one in some],
                mode="markers",
                marker={
                    "color": colour(index),
                    "symbol": SYMBOLS[index % len(SYMBOLS)],
                    "size": MARK,
                },
            )
        )
    figure.add_trace(
        go.Scatter(
            name="both agree",
            x=[min(ends), max(ends)],
            y=[min(ends), max(ends)],
            mode="lines",
            line=LINE,
            hoverinfo="skip",
        )
    )
    unit = QUANTITIES[entries[0].row.quantity].unit
    return framed(
        figure,
        x_title=f"Measured, {units.scale(unit)[0]}",
        y_title=f"Predicted, {units.scale(unit)[0]}",
        x_log=True,
        y_log=True,
        digits=DIGITS_OF_TIMES,
    )


def step_rows(entries: Sequence[Entry]) -> list[dict[str, str]]:
    """The worst steps of a quantity."""
    return [{"Step": at(one.origin), **_sides(one)} for one in entries[:MAX_ROWS]]


def leaf_rows() -> list[dict[str, str]]:
    """The operators that are farthest off in kernel time, each at its worst."""
    return [
        {"Operator": leaf_name(one.row.path or ""), **_sides(one), "At": at(one.origin)}
        for one in overview().leaves
    ]


def _sides(entry: Entry) -> dict[str, str]:
    row = entry.row
    unit = QUANTITIES[row.quantity].unit
    predicted = units.rounded(float(row.predicted or 0), DIGITS_OF_TIMES)
    return {
        "Predicted": units.formatted(predicted, unit),
        "Measured": units.formatted(row.measured, unit),
        capitalised("measured / predicted"): units.ratio(row.ratio),
        "Backend": entry.origin.backend,
        "Recording": entry.origin.recording,
    }
