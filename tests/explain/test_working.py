"""Formulas are read by their grammar alone: values by hand, and texts that must not run."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.explain.working import FormulaError, letters_of, number_text, worked

VALUES = {"N": 64, "D": 2048, "H": 16, "K": 4, "d": 128, "Dk": 512, "x": 0.25}


@pytest.mark.parametrize(
    ("formula", "values", "result"),
    [
        ("2 N D (H + 2 K) d", "2 * 64 * 2048 * (16 + 2 * 4) * 128", 805_306_368),
        ("N (H + K)(d - 1)", "64 * (16 + 4) * (128 - 1)", 162_560),
        ("K (K + 1) / 2", "4 * (4 + 1) / 2", 10),
        ("1 / 3 * 3", "1 / 3 * 3", 1),
        ("H / K / 2", "16 / 4 / 2", 2),
        ("H - K - 2", "16 - 4 - 2", 10),
        ("2 K^2 Dk/H", "2 * 4^2 * 512 / 16", 1024),
        ("2^3^2", "2^3^2", 512),
        ("-K + H", "-4 + 16", 12),
        ("max(H, K d)", "max(16, 4 * 128)", 512),
        ("min(H / K, x)", "min(16 / 4, 0.25)", 0.25),
        ("floor(7 / 2) x", "floor(7 / 2) * 0.25", 0.75),
        ("0", "0", 0),
    ],
)
def test_a_formula_is_computed_and_written_with_its_values(
    formula: str, values: str, result: float
) -> None:
    found = worked(formula, VALUES)
    assert found.values == values
    assert found.result == result
    assert type(found.result) is type(result)


def test_whole_numbers_stay_exact_beyond_the_digits_of_a_float() -> None:
    big = 2**62 + 1
    assert worked("n (n + 1) / 2", {"n": big}).result == big * (big + 1) // 2


def test_letters_come_in_the_order_of_their_first_use() -> None:
    assert letters_of("2 N D (H + 2 K) N + max(Dk, x)") == ("N", "D", "H", "K", "Dk", "x")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (64, "64"),
        (4.8e12, "4800000000000"),
        (1 / 3, "0.333333"),
        (2.5e-9, "2.5e-09"),
        (65417.596, "65417.60"),
        (1e20, "1e+20"),
    ],
)
def test_a_value_is_written_in_full_or_to_six_digits(value: float, text: str) -> None:
    assert number_text(value) == text
    assert worked(text, {}).result == pytest.approx(value, rel=1e-5)


HOSTILE = (
    "__import__('os').system('true')",
    "().__class__",
    "N.real",
    "open(N)",
    "lambda: N",
    "N if N else D",
    "[N for N in D]",
    "N; D",
    "N == D",
    "exec",
    "max.__self__",
    "N\n\x00",
    "f'{N}'",
    "9**9",
    "N^D",
    "2^-1",
    "2^(1/2)",
    "N / 0",
    "N +",
    "(N",
    "N)",
    "max(N)",
    "floor(N, D)",
    "max N",
    "^ N",
    ",",
    "",
    "\N{ARABIC-INDIC DIGIT TWO} N",
)


@pytest.mark.parametrize("formula", HOSTILE)
def test_a_text_that_is_no_formula_is_refused(formula: str) -> None:
    with pytest.raises(FormulaError):
        worked(formula, VALUES)


@pytest.mark.parametrize(
    "formula",
    [
        "((((9^64)^64)^64)^64)",
        "1e99999",
        "1.5e308 1e999 x",
        "(" * 500 + "1" + ")" * 500,
        "-" * 5000 + "1",
        "2^" * 500 + "1",
        "1+" * 50_000 + "1",
    ],
)
def test_a_text_that_would_exhaust_the_reader_is_refused(formula: str) -> None:
    with pytest.raises(FormulaError):
        worked(formula, VALUES)


@given(st.text(max_size=40))
def test_any_text_is_a_formula_or_refused(text: str) -> None:
    with contextlib.suppress(FormulaError):
        assert isinstance(worked(text, VALUES).result, int | float)


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(1, 1000))
def test_values_put_in_give_the_same_result_again(a: int, b: int, c: int) -> None:
    found = worked("2 a (b - c) + a^2 / c", {"a": a, "b": b, "c": c})
    assert found.result == pytest.approx(2 * a * (b - c) + a**2 / c, rel=1e-12, abs=1e-9)
