"""Where predictions are worst: what `sparsecost validate` says of the shipped recordings.

All steps of a predicted quantity as points for a parity plot, the worst first, and the operators
whose kernel time is farthest off. `python -m docs.worst_predictions` writes the rows: comparing all
recordings takes seconds, and nothing that is chosen changes them.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape

import plotly.graph_objects as go

from costmodel import units
from costmodel.costs.quantities.quantity import DIGITS_OF_TIMES
from costmodel.questions.claims.claim import FILE as CLAIMS
from costmodel.recordings.error_measures import DEVELOPMENT_SET, DEVELOPMENT_SET_MEANS
from costmodel.recordings.quantities import QUANTITIES
from costmodel.show.text import capitalised
from dashboard.app.figures import SYMBOLS, colour, framed

FILE = CLAIMS.with_name("worst.csv")
MAX_ROWS = 100  # of a table
MARK = 7  # pixels
LINE = {"color": "#555555", "dash": "dash"}
OF_DEVELOPMENT = f"This is the {DEVELOPMENT_SET}: {DEVELOPMENT_SET_MEANS}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A step, or a leaf of one (else empty): `at` says of which case of which recording."""

    quantity: str
    leaf: str
    at: str
    model: str
    backend: str
    recording: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured / self.predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Steps by the title of their quantity and leaves, the worst first."""

    steps: dict[str, list[Row]]
    leaves: list[Row]


@cache
def overview() -> Overview:
    """Every step of the shipped recordings beside its prediction, and the worst leaves."""
    steps: dict[str, list[Row]] = defaultdict(list)
    leaves: list[Row] = []
    for line in csv.DictReader(FILE.read_text(encoding="utf-8").splitlines()):
        predicted, measured = (float(line.pop(name)) for name in ("predicted", "measured"))
        row = Row(**line, predicted=predicted, measured=measured)
        of = leaves if row.leaf else steps[QUANTITIES[row.quantity].title]
        of.append(row)
    return Overview(steps=dict(steps), leaves=leaves)


def sentence(title: str, entries: Sequence[Row]) -> str:
    """The farthest of all steps of a quantity."""
    worst = entries[0]
    return (
        f"Worst of {len(entries):,} steps in {title}: {units.ratio(worst.ratio)} the"
        f" prediction, {worst.at}"
    )


def parity(entries: Sequence[Row]) -> go.Figure:
    """Predicted over measured, both axes logarithmic, with a line where both agree."""
    by_model: dict[str, list[Row]] = defaultdict(list)
    for entry in entries:
        by_model[entry.model].append(entry)
    figure, ends = go.Figure(), []
    for index, (model, some) in enumerate(sorted(by_model.items())):
        measured = [entry.measured for entry in some]
        predicted = [entry.predicted for entry in some]
        ends += [*measured, *predicted]
        figure.add_trace(
            go.Scatter(
                name=escape(model),
                x=measured,
                y=predicted,
                text=[f"{escape(one.at)}: {units.ratio(one.ratio)}" for one in some],
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
    unit = QUANTITIES[entries[0].quantity].unit
    return framed(
        figure,
        x_title=f"Measured, {units.scale(unit)[0]}",
        y_title=f"Predicted, {units.scale(unit)[0]}",
        x_log=True,
        y_log=True,
        digits=DIGITS_OF_TIMES,
    )


def step_rows(entries: Sequence[Row]) -> list[dict[str, str]]:
    """The worst steps of a quantity."""
    return [{"Step": one.at, **_sides(one)} for one in entries[:MAX_ROWS]]


def leaf_rows() -> list[dict[str, str]]:
    """The operators that are farthest off in kernel time, each at its worst."""
    return [{"Operator": one.leaf, **_sides(one), "At": one.at} for one in overview().leaves]


def _sides(row: Row) -> dict[str, str]:
    unit = QUANTITIES[row.quantity].unit
    return {
        "Predicted": units.formatted(units.rounded(row.predicted, DIGITS_OF_TIMES), unit),
        "Measured": units.formatted(row.measured, unit),
        capitalised("measured / predicted"): units.ratio(row.ratio),
        "Backend": row.backend,
        "Recording": row.recording,
    }
