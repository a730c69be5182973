"""The choices that a recording saw, as a routing: costs by the experts and rows that were touched.

Of each choice a recording keeps how many distinct experts or rows were touched. `RecordedRouting`
hands such a number to the cost formulas in place of an expectation. It has two uses: the mean of
the recorded numbers predicts a case whose model routed by its own scores; and since an operator's
bytes are linear in the number, 0 and 1 split them into what every step moves and what each touched
expert or row adds (`bounds.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import nan
from statistics import fmean

import numpy as np

from costmodel.costs.operators import build_operators
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator
from costmodel.recordings.measured import ExactColumn, SpreadColumn
from costmodel.recordings.recording import Recording, Run
from costmodel.routing.expectation import Expected, Floats, ItemKind, Trials
from costmodel.routing.popularity import Uniform


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRouting:
    """A routing under which every layer touches a given number of distinct experts or rows.

    None of a kind stands for the choice of a single token, the least that a step can touch.
    """

    experts: float | None
    rows: float | None

    @property
    def label(self) -> str:
        """Always `recorded`."""
        return "recorded"

    def expected_distinct(
        self,
        population: int,
        draws: int,
        trials: Trials,
        *,
        kind: ItemKind,
        copies: int = 1,
        hot: int = 0,
    ) -> Expected:
        """The recorded number, whatever the tokens of the step; `draws` of one token without it.

        Of `copies` of each item at least as many are touched as of the items: a lower bound.
        Which of them are hot was not recorded: with `hot` items the result is NaN.
        """
        del population, trials, copies
        if hot:
            return nan
        recorded = self.experts if kind == "experts" else self.rows
        return float(draws if recorded is None else recorded)

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> float:
        """NaN: how often each item was drawn is not known."""
        del population, draws, kept, kind
        return nan

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """NaN: which items were touched is not known."""
        del draws, trials, kind, copies
        return np.full(population, nan)

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """As `Uniform`: a profile draws its token ids at random, so that n-grams do not repeat."""
        return Uniform().expected_distinct_hashed(population, trials, order=order)

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> float:
        """As `Uniform`, for the same reason."""
        return Uniform().hot_share_hashed(population, kept, order=order)


def recorded_distinct(recording: Recording, run: Run) -> dict[str, float]:
    """Distinct experts or rows that a run touched, by the path of the router or selector.

    The quantity `distinct` comes first; a histogram of accesses serves where it is missing.
    """
    column = run.operators.get("distinct")
    values: tuple[float | None, ...] = ()
    if isinstance(column, ExactColumn):
        values = column.values
    elif isinstance(column, SpreadColumn):
        values = column.median
    by_histogram = {path: float(accesses.distinct) for path, accesses in run.accesses.items()}
    return by_histogram | {
        path: float(value)
        for path, value in zip(recording.paths, values, strict=False)  # no values if missing
        if value is not None
    }


def recorded_routing(
    recording: Recording, run: Run, kinds: Mapping[str, ItemKind] | None = None
) -> RecordedRouting | None:
    """A run's choices as a routing: means over layers; None if the run recorded no choices.

    `kinds` are the `chosen_kinds` of the recording's model, where a caller asks for many runs.
    """
    by_kind: dict[ItemKind, list[float]] = {"experts": [], "rows": []}
    kinds = chosen_kinds(recording.model) if kinds is None else kinds
    for path, distinct in recorded_distinct(recording, run).items():
        if path in kinds:
            by_kind[kinds[path]].append(distinct)
    means = {kind: fmean(counts) if counts else None for kind, counts in by_kind.items()}
    if means["experts"] is None and means["rows"] is None:
        return None
    return RecordedRouting(experts=means["experts"], rows=means["rows"])


def chosen_kinds(model: ModelConfig) -> dict[str, ItemKind]:
    """Whether each router or selector of a model chooses experts or rows, by its path."""
    return {
        f"{where}{touched.chosen_by}": touched.kind
        for operator in build_operators(model, Workload().step())
        if (touched := operator.touched) is not None
        for where in _prefixes(operator)
    }


def selectors_by_module(operators: Iterable[Operator]) -> dict[str, tuple[str, Number]]:
    """The router or selector of each module that holds experts or rows, by the module's path.

    Each comes as the path of its leaf, with the number of distinct items that it chooses.
    """
    return {
        f"{where}{operator.leaf.rpartition('.')[0]}": (
            f"{where}{touched.chosen_by}",
            touched.distinct,
        )
        for operator in operators
        if (touched := operator.touched) is not None
        for where in _prefixes(operator)
    }


def _prefixes(operator: Operator) -> tuple[str, ...]:
    """What stands before the leaves of each of its layers; beside the blocks, nothing."""
    return tuple(f"layers.{layer}." for layer in operator.layers) or ("",)
