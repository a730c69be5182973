"""How often a measured step chose each expert or row: ranks, drawn, and a line for each layer."""

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
from dashboard.pages.measured.data import View

MOST_MARKS = 60  # of one curve
FEW_DECADES = 2  # up to so many, an axis names 1, 2, 3 and 5 of each; beyond, only the first
NOTE = (
    "Counted in the last step of the run `time`. An item is an expert, or a row of a memory layer's"
    " table. Ranks are means over the layers; items that were never chosen are not drawn, so that a"
    " curve ends at the distinct items of a layer."
)


def layers(case: Case) -> Mapping[str, Accesses]:
    """The histograms of a case, by the leaf that chose; empty where there are none."""
    timed = case.runs.get("time")
    return {} if timed is None else timed.accesses


def why_none(case: Case) -> str:
    """The reason why there is no histogram."""
    if "time" in case.runs:
        return "No expert or row was chosen: the model routes nothing."
    return not_measured(case.lacking.get("time", NO_RUN))


def ranked(
    found: Mapping[str, Accesses], kinds: Mapping[str, str]
) -> dict[str, list[tuple[float, int]]]:
    """By kind: the rank up to which items were chosen at least so often, and how often.

    Ranks count from the most chosen item and are means over the layers of the kind.
    `kinds` says by path whether a layer chooses experts or rows.
    """
    pooled: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    of_kind: dict[str, int] = defaultdict(int)
    for path, each in found.items():
        kind = kinds.get(path, "items")
        of_kind[kind] += 1
        for times, items in each.counts:
            if times and items:
                pooled[kind][times] += items
    curves = {}
    for kind, items_of in pooled.items():
        often = sorted(items_of, reverse=True)
        ends = accumulate(items_of[times] for times in often)
        curves[kind] = [
            (end / of_kind[kind], times) for end, times in zip(ends, often, strict=True)
        ]
    return curves


def ranks(found: Mapping[str, Accesses], kinds: Mapping[str, str]) -> go.Figure:
    """Times chosen against rank, both logarithmic; a curve of open marks for each kind."""
    figure, by_kind = go.Figure(), ranked(found, kinds)
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
    """Of a logarithmic axis: 1, 2, 3 and 5 of each decade from `low` to `high`, or 1 alone."""
    digits = (1, 2, 3, 5) if high <= low * 10**FEW_DECADES else (1,)
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    return [float(f"{digit}e{decade}") for decade in decades for digit in digits]


def in_words(found: Mapping[str, Accesses], kinds: Mapping[str, str]) -> str:
    """The chart in words."""
    said = [
        f"of the {kind} of a layer {units.significant(curve[-1][0])} were chosen,"
        f" the most chosen {curve[0][1]:,} times"
        for kind, curve in ranked(found, kinds).items()
    ]
    return f"Times chosen against rank, both axes logarithmic: {'; '.join(said)}."


def rows(view: View) -> list[dict[str, object]]:
    """Each layer's choices, the distinct ones beside what was expected."""
    expected = {row.path: row for row in view.leaves("distinct")}
    kinds = chosen_kinds(view.recording.model)
    found: list[dict[str, object]] = []
    for path, each in layers(view.case).items():
        row = expected.get(path)
        found.append(
            {
                "Leaf that chooses": path,
                "Of": f"{each.population:,} {kinds.get(path, 'items')}",
                "Choices": units.count(each.trials * each.draws),
                "Distinct": each.distinct,
                "Expected distinct": None
                if row is None or row.predicted is None
                else float(row.predicted),
                "Never chosen": each.population - each.distinct,
                "Most chosen, times": max(times for times, items in each.counts if items),
            }
        )
    return found
