"""What is changed and what is left alone, on small pieces of source."""

from pathlib import Path

import pytest

from tests.mutation.__main__ import COMPARES_ITSELF, FAST
from tests.mutation.changes import Signatures, signatures_of
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import draw, places

ROOT = Path(__file__).parents[2]
SIGNATURES: Signatures = {"f": {"a": "number", "b": "number", "c": "str"}}


def made(source: str) -> set[str]:
    """All mutants of a piece of source, each as the whole text."""
    mutants = [mutant for place in places("x.py", source, SIGNATURES) for mutant in place]
    return {mutant.applied(source) for mutant in mutants}


@pytest.mark.parametrize(
    ("source", "mutants"),
    [
        ("x + y", {"(x - y)", "(x)", "(y)"}),
        ("x // y", {"(x / y)", "(x)", "(y)"}),
        ("x <= y", {"(x < y)", "(x > y)"}),
        ("x is None", {"(x is not None)"}),
        ("x and y", {"(x or y)", "(x)", "(y)"}),
        ("not x", {"(x)"}),
        ("f(3)", {"f((4))", "f((2))"}),
        ("x = 0.5", {"x = (1.0)"}),
        ("x = True", {"x = (False)"}),
        ("min(x, y)", {"max(x, y)", "(x)", "(y)"}),
        ("smaller(x, y)", {"(-smaller(-x, -y))", "(x)", "(y)"}),
        ("sum(x)", {"(max(x, default=0))"}),
        ("x if y else z", {"(x)", "(z)"}),
        ("[x for x in y if x]", {"[x for x in y if (not x)]"}),
        ("x += y", {"x -= y", "x = y"}),
        ("f(x, b=y)", {"(f(y, b=x))"}),
        ("f(x, y, 'z')", {"(f(y, x, 'z'))"}),
        ("'\xfc', x + y", {"'\xfc', (x - y)", "'\xfc', (x)", "'\xfc', (y)"}),  # offsets are bytes
    ],
)
def test_what_a_piece_may_become(source: str, mutants: set[str]) -> None:
    renamed = {text.replace("(max)(", "max(") for text in made(source)}
    assert renamed == mutants


@pytest.mark.parametrize(
    "source",
    [
        "'text'",
        "x = f'{a + b}'",
        "'a' + x",
        "raise ValueError(1 + 2)",
        "assert 1 < 2",
        "x: int | None",
        "@cache(64)\ndef g(x: Literal[1]) -> int | str: ...",
        "def label(self): return 1 + 2",
        "zip(x, y, strict=True)",
        "X: TypeAlias = A | B",
        "if TYPE_CHECKING:\n    x = 1",
    ],
)
def test_what_is_no_formula_is_left_alone(source: str) -> None:
    assert made(source) == set()


def test_places_are_drawn_once_and_by_turns() -> None:
    folders = [places(name, "a + b\nc + d\ne + g", {}) for name in ("one.py", "two.py")]
    drawn = draw(folders, 5, seed=3)
    assert [mutant.path for mutant in drawn] == ["one.py", "two.py"] * 2 + ["one.py"]
    assert len({(mutant.path, mutant.line) for mutant in drawn}) == 5
    assert drawn == draw(folders, 5, seed=3) != draw(folders, 5, seed=4)


def test_every_equivalent_mutant_can_be_drawn() -> None:
    signatures = signatures_of(sorted((ROOT / "costmodel").rglob("*.py")))
    files = {path for path, *_ in EQUIVALENT}
    known = {
        (mutant.path, mutant.function, mutant.before, mutant.after)
        for path in files
        for place in places(path, (ROOT / path).read_text(), signatures)
        for mutant in place
    }
    assert set(EQUIVALENT) <= known


def test_mutants_meet_the_tests_of_make_check_but_for_those_that_are_named() -> None:
    assert f'pytest -n auto -m "{FAST}"' in (ROOT / "Makefile").read_text()
    for test in COMPARES_ITSELF:
        path, _, function = test.partition("::")
        assert (ROOT / path).exists()
        assert not function or f"def {function}(" in (ROOT / path).read_text()
