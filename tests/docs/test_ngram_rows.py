"""Counts and fits of docs/ngram_rows.json: a text counted by hand, and fits without the module."""

import json
from itertools import chain
from math import exp, lgamma, log
from typing import Any

import numpy as np
import pytest

from docs import ngram_rows
from docs.ngram_rows import FILE, KEPT, ORDERS, TOKENS, ngram_ratios

COUNTS: dict[str, Any] = json.loads(FILE.read_text())
TEXTS = list(COUNTS)
DEFAULT = {2: 3e8, 3: 1e9, 4: 1e9}


def log_ways(whole: int, tokens: int) -> float:
    return lgamma(whole + 1) - lgamma(tokens + 1) - lgamma(whole - tokens + 1)


def distinct_of_text(counts: list[list[int]], tokens: int) -> float:
    """Expected distinct n-grams of so many tokens of a text, by binomials."""
    whole = sum(accesses * ngrams for accesses, ngrams in counts)
    return sum(
        ngrams * (1 - exp(log_ways(whole - accesses, tokens) - log_ways(whole, tokens)))
        if accesses <= whole - tokens
        else ngrams
        for accesses, ngrams in counts
    )


def distinct_of_zipf(exponent: float, ngrams: float, tokens: int) -> float:
    """The same of Zipf's law, ranks past 10,000 by the midpoints of narrow bins."""
    edges = np.concatenate([np.arange(0.5, 10_000), np.geomspace(10_000.5, ngrams + 0.5, 4000)])
    items = np.diff(edges)
    weights = ((edges[1:] + edges[:-1]) / 2) ** -exponent
    probability = weights / (items * weights).sum()
    return float((items * -np.expm1(tokens * np.log1p(-probability))).sum())


def test_a_text_by_hand() -> None:
    """a b a b | a b a c: the first half has ab twice and ba once, the second ab, ba and ac."""
    tokens = ["a", "b", "a", "b", "a", "b", "a", "c"]
    first, second = tokens[:4], tokens[4:]
    assert ngram_rows._section(ngram_rows._ngrams(first, 2))["counts"] == [(1, 1), (2, 1)]
    assert ngram_rows._section(ngram_rows._ngrams(second, 2))["counts"] == [(1, 3)]
    hits = ngram_rows._hits(ngram_rows._ngrams(first, 2), ngram_rows._ngrams(second, 2))
    assert hits["100"] == [1, 0.6667]
    assert ngram_rows._tokens("It's **bold**, isn't it?") == [
        *("It", "'", "s", "**", "bold", "**", ",", "isn", "'", "t", "it", "?")
    ]
    pairs = ngram_rows._section([("a", "b")] * 12)
    assert pairs["runs"] == {"10": 1.0}


@pytest.mark.parametrize("name", TEXTS)
def test_the_counts_add_up(name: str) -> None:
    text = COUNTS[name]
    for order in ORDERS:
        of_order = text["orders"][str(order)]
        held = sum(
            accesses * ngrams
            for accesses, ngrams in chain(*(half["counts"] for half in of_order["halves"]))
        )
        assert held == text["tokens"] - 2 * (order - 1)
        for half in of_order["halves"]:
            runs = list(half["runs"].values())
            assert runs == sorted(runs)
            assert runs[-1] <= sum(ngrams for _, ngrams in half["counts"])
        for kept in KEPT:
            own, carried = of_order["hits"][str(kept)]
            assert carried < own < 1


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_fits_are_those_of_least_squares(name: str, order: int) -> None:
    """No exponent 0.02 away is nearer to the first half, by formulas of this file alone."""
    fitted = COUNTS[name]["orders"][str(order)]
    counts = fitted["halves"][0]["counts"]
    whole = sum(accesses * ngrams for accesses, ngrams in counts)
    asked = [tokens for tokens in TOKENS if tokens <= whole]
    text = [distinct_of_text(counts, tokens) for tokens in asked]

    def misfit(exponent: float, ngrams: float) -> float:
        law = (distinct_of_zipf(exponent, ngrams, tokens) for tokens in asked)
        return sum(log(one / other) ** 2 for one, other in zip(law, text, strict=True))

    for exponent, ngrams in ((fitted["exponent"], DEFAULT[order]), fitted["free"]):
        best = misfit(exponent, ngrams)
        assert best < misfit(exponent - 0.02, ngrams)
        assert best < misfit(exponent + 0.02, ngrams)
    exponent, ngrams = fitted["free"]
    assert misfit(exponent, ngrams) <= misfit(fitted["exponent"], DEFAULT[order]) + 1e-9


def test_ratios_of_the_page_without_the_module() -> None:
    """Bigrams of the Rust book, of 1,000 tokens drawn anywhere."""
    halves = COUNTS["rust"]["orders"]["2"]["halves"]
    shares = [distinct_of_text(half["counts"], 1000) / 1000 for half in halves]
    (line,) = (
        line for line in ngram_ratios().splitlines() if "Rust" in line and "| 2 | anywhere" in line
    )
    assert float(line.split("|")[6]) == pytest.approx(sum(shares) / 2, abs=0.006)
