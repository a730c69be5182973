"""The choices that a recording saw, as a routing: costs by what was touched.

A routing that returns one number serves three questions: the mean of what was recorded (to predict
a case whose model routed by its own scores), and 0 and 1 (to split an operator's bytes into what
any step moves and what each touched expert or row adds, since they are linear in that number).
"""

from dataclasses import dataclass
from statistics import fmean

from costmodel.costs.operators import build_operators
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator
from costmodel.recordings.measured import ExactColumn, SpreadColumn
from costmodel.recordings.recording import Recording, Run
from costmodel.routing.popularity import Expected, ItemKind, Trials


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Every layer touches so many experts or rows; None: one token's choice, the least there is."""

    experts: float | None
    rows: float | None

    @property
    def label(self) -> str:
        """Always `recorded`."""
        return "recorded"

    def expected_distinct(
        self, population: int, draws: int, trials: Trials, *, kind: ItemKind, copies: int = 1
    ) -> Expected:
        """The number itself, of one step, whatever the draws.

        Of `copies` at least as many are touched as of the items they stand for: a lower bound.
        """
        del population, trials, copies
        given = self.experts if kind == "experts" else self.rows
        return float(draws if given is None else given)


def recorded_distinct(recording: Recording, run: Run) -> dict[str, float]:
    """Distinct experts or rows that a run saw touched, by the path of the leaf that chose them."""
    column = run.operators.get("distinct")
    values: tuple[float | None, ...] = ()
    if isinstance(column, ExactColumn):
        values = column.values
    elif isinstance(column, SpreadColumn):
        values = column.median
    found = {path: float(each.distinct) for path, each in run.accesses.items()}
    return found | {
        path: float(value)
        for path, value in zip(recording.paths, values, strict=False)  # none where it is missing
        if value is not None
    }


def recorded_routing(recording: Recording, run: Run) -> Observed | None:
    """The recorded choices, averaged over the layers of a kind; None where none are recorded."""
    values: dict[ItemKind, list[float]] = {"experts": [], "rows": []}
    kinds = chosen_kinds(recording.model)
    for path, distinct in recorded_distinct(recording, run).items():
        kind = kinds.get(path)
        if kind is not None:
            values[kind].append(distinct)
    means = {kind: fmean(counts) if counts else None for kind, counts in values.items()}
    if means["experts"] is None and means["rows"] is None:
        return None
    return Observed(experts=means["experts"], rows=means["rows"])


def chosen_kinds(model: ModelConfig) -> dict[str, ItemKind]:
    """By the path of each router or selector of a model: whether it chooses experts or rows."""
    return {
        f"layers.{layer}.{touched.chosen_by}": touched.kind
        for operator in build_operators(model, Workload().step())
        if (touched := operator.touched) is not None
        for layer in operator.layers
    }


def chosen_by(operators: tuple[Operator, ...]) -> dict[str, tuple[str, Number]]:
    """By module that holds chosen experts or rows: the leaf that chose, and the distinct items."""
    return {
        f"layers.{layer}.{operator.leaf.rpartition('.')[0]}": (
            f"layers.{layer}.{touched.chosen_by}",
            touched.distinct,
        )
        for operator in operators
        if (touched := operator.touched) is not None
        for layer in operator.layers
    }
