"""A short fuzz test: 2,400 inputs, the same in each run. `make fuzz` is the long one."""

import warnings
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.runner import try_cases
from tests.fuzz.target import Case, Target
from tests.fuzz.targets import TARGETS, numbers_of

pytestmark = pytest.mark.slow

SEED, COUNT, AT_ONCE = 0, 2400, 100
PORTIONS = [
    (target, numbers_of(target, COUNT)[first : first + AT_ONCE])
    for target in TARGETS
    for first in range(0, len(numbers_of(target, COUNT)), AT_ONCE)
]


def test_at_least_2000_inputs_are_tried() -> None:
    assert sum(len(numbers) for _, numbers in PORTIONS) >= 2000
    for target in TARGETS:
        assert len(numbers_of(target, COUNT)) >= 100, target.name


@pytest.mark.parametrize(
    ("target", "numbers"),
    PORTIONS,
    ids=[f"{target.name} {numbers[0]}-{numbers[-1]}" for target, numbers in PORTIONS],
)
def test_no_input_breaks_anything(target: Target, numbers: range, tmp_path: Path) -> None:
    outcome = try_cases(target, SEED, numbers, tmp_path)
    assert not outcome.faults, "\n".join(map(str, outcome.faults))
    assert outcome.accepted, "all were refused, so no relation was tried"
    assert outcome.refused


@pytest.mark.parametrize("broken", ["raises", "warns", "lasts"])
def test_a_fault_names_its_input_and_how_to_try_it_again(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "lasts":
        monkeypatch.setattr("tests.fuzz.target.CPU_S", 0.05)

    def attempt() -> bool:
        if broken == "warns":
            warnings.warn("deprecated", stacklevel=1)
        while broken == "lasts":
            pass
        raise KeyError("gone")

    target = Target(
        name="made up", share=1, make=lambda rng, _: Case(text=f"{rng.random()}", attempt=attempt)
    )
    (fault,) = try_cases(target, 5, [7], tmp_path).faults
    text = f"{Random('5 made up 7').random()}"
    assert str(fault).startswith('python -m tests.fuzz --seed 5 --target "made up" --number 7\n')
    assert str(fault).endswith(f"input: {text!r}\n")
    what = {
        "raises": "KeyError: 'gone'",
        "warns": "UserWarning: deprecated",
        "lasts": "over 0.05 s",
    }
    assert what[broken] in str(fault)


def test_a_case_depends_on_its_number_alone(tmp_path: Path) -> None:
    for target in TARGETS:
        texts = [target.make(Random("1"), tmp_path).text for _ in range(2)]
        assert texts[0] == texts[1], target.name
