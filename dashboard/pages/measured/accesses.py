"""How often a measured step chose each expert or row: a chart over ranks, and a row per layer."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate
from math import ceil, floor, log10

import plotly.graph_objects as go

from costmodel import units
from costmodel.recordings.measured import Accesses
from costmodel.recordings.recording import Case
from costmodel.validation.join import NO_RUN
from costmodel.validation.recorded_routing import chosen_kinds
from dashboard.app.figures import framed, measured_marks
from dashboard.app.widgets import not_measured
from dashboard.pages.measured.data import ComparedCase

MOST_MARKS = 60  # of one curve
FEW_DECADES = 2  # of an axis with ticks at 1, 2, 3 and 5 of each decade; a longer one has 1 alone
NOTE = (
    "Counted in the last step of the run `time`. An item is an expert, or a row of a memory layer's"
    " table. Ranks are means over the layers. Items that were never chosen are not drawn, so that a"
    " curve ends at the number of distinct items of a layer."
)


def layers(case: Case) -> Mapping[str, Accesses]:
    """The histograms of a case by the path of the router or selector; empty where none exist."""
    timed = case.runs.get("time")
    return {} if timed is None else timed.accesses


def why_none(case: Case) -> str:
    """Why a case has no histogram."""
    if "time" in case.runs:
        return "No expert or row was chosen: the model routes nothing."
    return not_measured(case.lacking.get("time", NO_RUN))


def ranked(
    histograms: Mapping[str, Accesses], kinds: Mapping[str, str]
) -> dict[str, list[tuple[float, int]]]:
    """A curve of (rank, times) for experts, and one for rows of memory tables.

    `rank` items of a layer, a mean over the layers, were chosen `times` times or more. `kinds` says
    by path whether a layer chooses experts or rows.
    """
    pooled: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    of_kind: dict[str, int] = defaultdict(int)
    for path, histogram in histograms.items():
        kind = kinds.get(path, "items")
        of_kind[kind] += 1
        for times, items in histogram.counts:
            if times and items:
                pooled[kind][times] += items
    curves = {}
    for kind, items_by_times in pooled.items():
        descending = sorted(items_by_times, reverse=True)
        ends = accumulate(items_by_times[times] for times in descending)
        curves[kind] = [
            (end / of_kind[kind], times) for end, times in zip(ends, descending, strict=True)
        ]
    return curves


def ranks(histograms: Mapping[str, Accesses], kinds: Mapping[str, str]) -> go.Figure:
    """Times chosen over rank, both axes logarithmic; a curve each for experts and rows."""
    figure, by_kind = go.Figure(), ranked(histograms, kinds)
    curves = by_kind.values()
    for index, (kind, curve) in enumerate(by_kind.items()):
        step = -(-len(curve) // MOST_MARKS)
        drawn = [*curve[::step], *([curve[-1]] if (len(curve) - 1) % step else [])]
        x, y = [rank for rank, _ in drawn], [float(times) for _, times in drawn]
        figure.add_trace(measured_marks(f"{kind}, measured", x, y, index))
    figure.update_layout(showlegend=True)
    framed(
        figure,
        x_title="Rank among the items of a layer, most chosen first",
        y_title="Times chosen in the step",
        x_log=True,
        y_log=True,
    )
    for update, values in (
        (figure.update_xaxes, [rank for curve in curves for rank, _ in curve]),
        (figure.update_yaxes, [times for curve in curves for _, times in curve]),
    ):
        at = ticks(min(values), max(values))
        update(tickvals=at, ticktext=[f"{tick:,.10g}" for tick in at])
    return figure


def ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis from `low` to `high`: 1, 2, 3, 5 of each decade, or 1 alone."""
    digits = (1, 2, 3, 5) if high <= low * 10**FEW_DECADES else (1,)
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    return [float(f"{digit}e{decade}") for decade in decades for digit in digits]


def in_words(histograms: Mapping[str, Accesses], kinds: Mapping[str, str]) -> str:
    """The chart in words."""
    curves = [
        f"of the {kind} of a layer {units.significant(curve[-1][0])} were chosen,"
        f" the most chosen {curve[0][1]:,} times"
        for kind, curve in ranked(histograms, kinds).items()
    ]
    return f"Times chosen against rank, both axes logarithmic: {'; '.join(curves)}."


def rows(case: ComparedCase) -> list[dict[str, object]]:
    """The choices of each layer: how many, how many distinct ones, and how many were expected."""
    expected = {row.path: row for row in case.leaves("distinct")}
    kinds = chosen_kinds(case.recording.model)
    cells: list[dict[str, object]] = []
    for path, histogram in layers(case.case).items():
        row = expected.get(path)
        cells.append(
            {
                "Router or selector": path,
                "Of": f"{histogram.population:,} {kinds.get(path, 'items')}",
                "Choices": units.count(histogram.trials * histogram.draws),
                "Distinct": histogram.distinct,
                "Expected distinct": None
                if row is None or row.predicted is None
                else float(row.predicted),
                "Never chosen": histogram.population - histogram.distinct,
                "Most chosen, times": max(times for times, items in histogram.counts if items),
            }
        )
    return cells
