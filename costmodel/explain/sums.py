"""A number of a step that is to be explained, and how sums over operators and parts are."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.quantity import Quantity
from costmodel.explain.explanation import Column, Derivation, Equation, Terms, Value
from costmodel.explain.letters import step_letters
from costmodel.layers.letters import Letter
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A number of one step, with the value that the prediction has."""

    quantity: Quantity
    prediction: Prediction
    value: Value

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The operators of the step."""
        return self.prediction.costs.operators

    @property
    def runs(self) -> Number:
        """How often each operator runs: on several GPUs, by all of them, for each microbatch."""
        of = self.prediction.parallel
        return 1 if of is None else of.step.runs

    @property
    def of_runs(self) -> str:
        """What a sum over operators is multiplied by, in words; empty on one GPU."""
        return "" if self.prediction.gpus == 1 else f" x {self.runs:,} GPUs and microbatches"

    @property
    def letters(self) -> tuple[Letter, ...]:
        """The letters of the step and the model."""
        return step_letters(self.prediction.model, self.prediction.workload.step())

    @property
    def total(self) -> Number:
        """The value of a number that is a sum."""
        assert isinstance(self.value, int | float)
        return self.value

    def equation(self, formula: str, *letters: Letter) -> Equation:
        """The number's equation, in these letters and those of the step."""
        quantity = self.quantity
        return Equation.of(quantity.label, formula, (*letters, *self.letters), quantity.unit)

    def sum_of(self, *terms: Letter) -> Equation:
        """The number's equation where it is a sum of letters."""
        return Equation.sum_of(self.quantity.label, terms, self.quantity.unit)

    def in_words(self, words: str, values: str = "") -> Equation:
        """The number's equation where it is no formula: the sum of a table, or a verdict."""
        quantity = self.quantity
        return Equation(
            name=quantity.label, formula=words, values=values, result=self.value, unit=quantity.unit
        )


Builder: TypeAlias = Callable[[Case], Derivation]


def byte_letters(total: Callable[[str], Number]) -> tuple[Letter, ...]:
    """The categories of compulsory bytes; `total` gives the sum of a field of `Part`."""
    return (
        Letter("weights", total("weight_bytes"), "bytes of weights that are touched"),
        Letter("kv_read", total("kv_read_bytes"), "bytes read from the KV cache"),
        Letter("kv_written", total("kv_written_bytes"), "bytes written to the KV cache"),
        Letter("state", total("state_bytes"), "bytes of recurrent states, read and written"),
        Letter(
            "rows",
            total("row_bytes"),
            "bytes of distinct rows of memory tables, of a shared one the share",
        ),
        Letter("indices", total("index_bytes"), "bytes of entries of permutations"),
        Letter("io", total("io_bytes"), "bytes of the step's own input and output"),
    )


def operator_terms(case: Case, of: Callable[[Operator], Number]) -> Terms:
    """What each operator adds to the number; those that add nothing are left out.

    Of several GPUs it adds what all of them do together; its one layer is of one GPU.
    """
    unit = case.quantity.unit
    values = [(operator, of(operator)) for operator in case.operators]
    return Terms(
        title=f"{case.quantity.label} by operator",
        columns=(
            Column(header="operator", unit="text"),
            Column(header="layers", unit="count"),
            Column(header="one layer", unit=unit),
            Column(header=f"all layers{case.of_runs}", unit=unit, total=case.total),
        ),
        rows=tuple(
            (op.path, op.count, one, op.count * one * case.runs) for op, one in values if one
        ),
    )


def over_operators(of: Callable[[Operator], Number]) -> Builder:
    """A sum over operators of layers x what one layer has."""

    def build(case: Case) -> Derivation:
        return Derivation(
            equations=(case.in_words(f"sum over operators of layers x one layer{case.of_runs}"),),
            terms=operator_terms(case, of),
        )

    return build


def over_parts(
    of: Callable[[Operator, int], Number],
    where: Callable[[Part], bool],
    *,
    of_all_gpus: bool = True,
) -> Builder:
    """A sum over parts of layers x what one layer has; `of` takes the place of a part.

    Of several GPUs that of all of them; or, if `of_all_gpus` is false, of one and a microbatch.
    """

    def build(case: Case) -> Derivation:
        unit = case.quantity.unit
        runs, words = (case.runs, case.of_runs) if of_all_gpus else (1, "")
        values = [
            (operator, part, of(operator, place))
            for operator in case.operators
            for place, part in enumerate(operator.parts)
            if where(part)
        ]
        return Derivation(
            equations=(case.in_words(f"sum over parts of operators of layers x one layer{words}"),),
            terms=Terms(
                title=f"{case.quantity.label} by part",
                columns=(
                    Column(header="operator", unit="text"),
                    Column(header="part", unit="text"),
                    Column(header="layers", unit="count"),
                    Column(header="one layer", unit=unit),
                    Column(header=f"all layers{words}", unit=unit, total=case.total),
                ),
                rows=tuple(
                    (operator.path, part.name, operator.count, one, operator.count * one * runs)
                    for operator, part, one in values
                    if one
                ),
            ),
        )

    return build
