"""The formula of every operator, with the values of its letters, gives exactly its FLOPs."""

import pytest
from hypothesis import given

from costmodel.costs.operators import build_operators
from costmodel.explain.letters import clauses, operator_letters
from costmodel.explain.working import letters_of, worked
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Operator, Step
from tests.strategies import PRESETS, models, steps

STEPS = {
    "decode": Workload(batch=64, context=2048),
    "decode within every window": Workload(batch=3, context=5),
    "prefill": Workload(phase="prefill", batch=3, context=100, new_tokens=70),
    "prefill past every window": Workload(phase="prefill", batch=2, context=0, new_tokens=9000),
    "prefill after a long context": Workload(phase="prefill", context=8000, new_tokens=300),
    "all logits": Workload(phase="prefill", batch=2, context=0, new_tokens=5, logits="all"),
    "the whole square": Workload(
        phase="prefill", batch=2, context=300, new_tokens=200, attention_flops="full"
    ),
    "decode, MLA expanded": Workload(batch=7, context=300, mla="expanded"),
    "decode, MLA cache expanded": Workload(batch=7, context=300, mla_cache="expanded"),
    "prefill, MLA absorbed": Workload(phase="prefill", context=30, new_tokens=20, mla="absorbed"),
}


def assert_exact(model: ModelConfig, step: Step, operator: Operator) -> None:
    """Both formulas of an operator, evaluated, are the sums of its parts."""
    values = {letter.name: letter.value for letter in operator_letters(model, step, operator)}
    formulas = clauses(operator.formula)
    flops = worked(formulas["flops"], values).result
    assert type(flops) is int
    assert flops == operator.total("flops"), operator.formula
    compares = worked(formulas.get("compares", "0"), values).result
    assert compares == operator.total("compares"), operator.formula
    assert set(formulas) <= {"flops", "compares", "bytes"}


@pytest.mark.parametrize("workload", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("name", PRESETS)
def test_a_formula_of_a_preset_gives_the_operators_flops(name: str, workload: Workload) -> None:
    model, step = PRESETS[name], workload.step()
    for operator in build_operators(model, step):
        assert_exact(model, step, operator)


@given(models(), steps())
def test_a_formula_of_any_configuration_gives_the_operators_flops(
    model: ModelConfig, step: Step
) -> None:
    for operator in build_operators(model, step):
        assert_exact(model, step, operator)


@pytest.mark.parametrize("name", PRESETS)
def test_every_operator_says_what_it_does_and_names_its_source(name: str) -> None:
    for operator in build_operators(PRESETS[name], Workload().step()):
        assert operator.summary, operator.path
        assert not operator.summary.endswith(".")
        assert operator.source


@pytest.mark.parametrize("name", PRESETS)
def test_a_layer_kind_names_each_of_its_letters_once(name: str) -> None:
    model, step = PRESETS[name], Workload().step()
    for operator in build_operators(model, step):
        letters = operator_letters(model, step, operator)
        assert len({letter.name for letter in letters}) == len(letters)
        assert all(letters_of(letter.name) == (letter.name,) for letter in letters)
        assert all(letter.meaning for letter in letters)
