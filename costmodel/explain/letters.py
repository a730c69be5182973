"""The letters of a formula with their values: of the step and the model, and of the layer kind."""

from collections.abc import Iterable

from costmodel.explain.working import letters_of
from costmodel.inputs.model import ModelConfig
from costmodel.layers.letters import Letter
from costmodel.layers.operator import Operator, Step


def step_letters(model: ModelConfig, step: Step) -> tuple[Letter, ...]:
    """B, T, S and N of the step, D and V of the model."""
    return (
        Letter("B", step.batch, "sequences"),
        Letter("T", step.new_tokens, "new tokens of a sequence"),
        Letter("S", step.cached, "cached tokens of a sequence"),
        Letter("N", step.tokens, "new tokens of all sequences, B T"),
        Letter("D", model.hidden_size, "hidden size"),
        Letter("V", model.vocab_size, "vocabulary"),
    )


def operator_letters(model: ModelConfig, step: Step, operator: Operator) -> tuple[Letter, ...]:
    """All letters that formulas of the operator may use; those of its layer kind go first."""
    kind = operator.layer_kind
    own = () if kind is None else kind.letters(operator, step)
    names = {letter.name for letter in own}
    return (*own, *(letter for letter in step_letters(model, step) if letter.name not in names))


def used(formula: str, letters: Iterable[Letter]) -> tuple[Letter, ...]:
    """Those letters that a formula uses, in the order in which it uses them."""
    by_name = {letter.name: letter for letter in letters}
    return tuple(by_name[name] for name in letters_of(formula) if name in by_name)


def clauses(formula: str) -> dict[str, str]:
    """The formulas and sentences of an operator by what they are of: flops, compares, bytes."""
    first, *others = formula.split("; ")
    named = {name: text for name, _, text in (clause.partition(": ") for clause in others)}
    return {"flops": first, **named}
