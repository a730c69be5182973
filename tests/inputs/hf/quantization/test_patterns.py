"""Patterns of untrusted files: Python's own `re` and `fnmatch` are the oracles; nothing hangs."""

import fnmatch
import random
import re
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.inputs.hf.quantization.automaton import Automaton
from costmodel.inputs.hf.quantization.patterns import glob, regex

ATOMS = st.sampled_from(
    ["a", "b", "1", r"\.", ".", "[ab]", "[^a]", "[0-9]", r"\d", r"\w", r"\D", "^", "$", r"[\d.]"]
)
REPEATS = st.sampled_from(["*", "+", "?", "{1,2}", "{2}", "{0,}", "*?"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})")
        | st.tuples(inner, REPEATS).map(lambda two: f"(?:{two[0]}){two[1]}")
    ),
    max_leaves=8,
)
NAMES = st.text(alphabet="ab1.", min_size=1, max_size=8)
LONG = "model.layers.31.self_attn." + 60 * "a"


def automaton(*expressions: str) -> Automaton:
    made = Automaton("ignore")
    for expression in expressions:
        made.add(regex(expression, field="ignore"))
    return made


@settings(max_examples=300)
@given(expression=EXPRESSIONS, names=st.lists(NAMES, min_size=1, max_size=5))
def test_an_expression_matches_as_in_python(expression: str, names: list[str]) -> None:
    mine, pythons = automaton(expression), re.compile(expression)
    assert [mine.match(name) for name in names] == [bool(pythons.match(name)) for name in names]


@given(pattern=st.text(alphabet="ab1.*?", max_size=8), name=NAMES)
def test_a_glob_matches_as_in_python(pattern: str, name: str) -> None:
    made = Automaton("ignore")
    made.add(glob(pattern, field="ignore"))
    assert made.match(name) == fnmatch.fnmatchcase(name, pattern)


def test_several_patterns_are_alternatives() -> None:
    made = automaton(r".*lm_head", r"model\.layers\.[0-2]\..*")
    names = ("lm_head", "model.layers.1.mlp.gate", "model.layers.12.mlp.gate")
    assert [made.match(name) for name in names] == [True, True, False]


@pytest.mark.parametrize(
    "expression",
    ["(a+)+$", "(a|a)*$", "(a*)*b", "(.*)*(.*)*(.*)*x", "(a?){100}a{100}$", ".*.*.*.*.*.*.*=.*"],
)
def test_what_makes_a_backtracker_hang_is_answered(expression: str) -> None:
    made = automaton(expression)
    assert not any(made.match(f"{LONG}.{i}") for i in range(200))


@pytest.mark.parametrize(
    ("expression", "rule"),
    [
        ("(?=a)", r"holds \(\?...\), and only"),
        ("(?i)a", r"holds \(\?...\), and only"),
        (r"(a)\1", r"holds \\1, which is not read"),
        (r"\bgate", r"holds \\b, which is not read"),
        ("a**", "repeats a repeat"),
        ("*a", "repeats nothing"),
        ("a{", "holds a brace"),
        ("a{x}", "holds a brace"),
        ("a{2,1}", "repeats more than 200 times, or from more to fewer"),
        ("a{201}", "repeats more than 200 times"),
        ("(a", "leaves a group open"),
        ("a)", "closes a group that is not open"),
        ("[a", "ends too early"),
        ("[b-a]", "holds a range from more to less"),
        ("a\\", "ends too early"),
        ("(" * 17 + ")" * 17, "is nested deeper than 16 groups"),
        ("a" * 1001, "holds more than 1,000 characters"),
    ],
)
def test_what_is_not_read_is_refused(expression: str, rule: str) -> None:
    with pytest.raises(InputError, match=rf"^ignore=.*{rule}"):
        regex(expression, field="ignore")


def test_states_and_work_are_bounded() -> None:
    with pytest.raises(InputError, match="need more than 100,000 states"):
        automaton("(((a{200}){200}){200})")
    wide = automaton(*(f".*{'b.' + '[ab].' * 20}{i}" for i in range(100)))
    letters = random.Random(0)  # noqa: S311 - no secret
    names = ("".join(letters.choices("ab", k=64)) for _ in range(10**5))
    with pytest.raises(InputError, match="take too long to match"):
        deque(map(wide.match, names), maxlen=0)
