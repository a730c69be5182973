"""How many different n-grams two English texts hold: counts, fitted laws, and tables of the page.

`python -m docs.ngram_rows BOOK.html` counts anew and writes `ngram_rows.json` beside this file; no
text is kept. The texts are the topics of Python's own help, and a page of HTML: the print version
of "The Rust Programming Language", which a Rust toolchain brings along (share/doc/rust/html/book).
"""

import html
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import exp, log
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np

from costmodel.routing.expectation import different_ngrams
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.ngrams import OrderLaw, ZipfByOrder
from costmodel.routing.popularity import NgramLaw, Uniform, Zipf
from docs.markdown import markdown
from docs.wording import span

FILE = Path(__file__).with_name("ngram_rows.json")
TITLES = {"python": "Python's help", "rust": "the Rust book"}
ORDERS = (2, 3, 4)
TOKENS = (10, 100, 1000, 10_000, 100_000)
RUNS = 64  # runs of consecutive tokens whose distinct n-grams are averaged
KEPT = (100, 1000, 10_000)
ROWS = 16_000_000  # of a column, about as many as those of DeepSeek-V4.1-Flash have
TOKEN = re.compile(r"\w+|([^\w\s])\1*")  # a word, or a mark as often as it stands in a row
POPULATIONS = tuple(int(float(f"{10 ** (p / 4):.1e}")) for p in range(12, 37))  # 1e3 to 1e9


def main() -> None:
    """Count both texts and write the file."""
    book = Path(sys.argv[1]).read_text(encoding="utf-8")
    prose = book[book.index("<main>") : book.index("</main>")]
    texts = {
        "python": "\n".join(topics[name] for name in sorted(topics)),
        "rust": html.unescape(re.sub(r"<[^>]+>", " ", prose)),
    }
    counted = {name: _counted(_tokens(text)) for name, text in texts.items()}
    FILE.write_text(json.dumps(counted, separators=(",", ":")) + "\n", encoding="utf-8")


def _tokens(text: str) -> list[str]:
    return [match[0] for match in TOKEN.finditer(text)]


def _counted(tokens: Sequence[str]) -> dict[str, Any]:
    """The two halves of a text by order: access counts and mean distinct n-grams of runs."""
    middle = len(tokens) // 2
    halves = tokens[:middle], tokens[middle:]
    orders: dict[str, Any] = {}
    for order in ORDERS:
        first, second = (_ngrams(half, order) for half in halves)
        sections = [_section(first), _section(second)]
        curve = _law(sections[0], order)
        orders[str(order)] = {
            "halves": sections,
            "hits": _hits(first, second),
            "exponent": _exponent(curve, order, different_ngrams(order))[1],
            "free": min((*_exponent(curve, order, n), n) for n in POPULATIONS)[1:],
        }
    return {"tokens": len(tokens), "orders": orders}


def _ngrams(tokens: Sequence[str], order: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[start:] for start in range(order)), strict=False))


def _section(ngrams: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """How many n-grams come how often, and how many different ones runs of T tokens hold."""
    by_ngram = Counter(ngrams)
    runs = {}
    for length in TOKENS:
        if length <= len(ngrams):
            starts = np.linspace(0, len(ngrams) - length, RUNS).astype(int).tolist()
            distinct = [len(set(ngrams[start : start + length])) for start in starts]
            runs[str(length)] = round(float(np.mean(distinct)), 2)
    return {"counts": sorted(Counter(by_ngram.values()).items()), "runs": runs}


def _hits(
    first: Sequence[tuple[str, ...]], second: Sequence[tuple[str, ...]]
) -> dict[str, list[float]]:
    """Of the second half, the share that the k commonest n-grams take: its own, and the first's."""
    own, other = Counter(second), Counter(first)
    shares = {}
    for kept in KEPT:
        hits = (
            sum(own[ngram] for ngram, _ in by_ngram.most_common(kept)) for by_ngram in (own, other)
        )
        shares[str(kept)] = [round(taken / len(second), 4) for taken in hits]
    return shares


def _law(section: Mapping[str, Any], order: int) -> Histogram:
    """The counts of one half as a routing."""
    counts = tuple((accesses, items) for accesses, items in section["counts"])
    measured = AccessCounts(
        population=sum(items for _, items in counts),
        trials=sum(accesses * items for accesses, items in counts),
        draws=1,
        counts=counts,
    )
    return Histogram(label="histogram:text", source=FILE.name, ngrams=((order, measured),))


def _zipf(exponent: float, ngrams: int, order: int) -> ZipfByOrder:
    """A law that is asked for one order."""
    return ZipfByOrder((OrderLaw(Zipf(exponent), ngrams),) * order)


def _ratio(law: NgramLaw, tokens: int, order: int) -> float:
    """Distinct rows of a column under a law over those under uniform hashing."""
    rows, uniform = (
        each.expected_distinct_hashed(ROWS, tokens, order=order) for each in (law, Uniform())
    )
    return float(rows / uniform)


def _distances(law: NgramLaw, text: Histogram, order: int) -> list[float]:
    """Logarithms of a law's distinct rows over the text's, at each number of tokens it holds."""
    ((_, section),) = text.ngrams
    return [
        log(_ratio(law, tokens, order) / _ratio(text, tokens, order))
        for tokens in TOKENS
        if tokens <= section.trials
    ]


def _exponent(text: Histogram, order: int, ngrams: int) -> tuple[float, float]:
    """Least squares of the logarithms: the sum of squares, and the exponent in steps of 0.01."""

    def misfit(hundredths: int) -> float:
        law = _zipf(hundredths / 100, ngrams, order)
        return sum(distance**2 for distance in _distances(law, text, order))

    low, high = 0, 200
    while high - low > 2:  # noqa: PLR2004 - the misfit has one minimum
        third = (high - low) // 3 or 1
        left, right = low + third, high - third
        low, high = (low, right) if misfit(left) < misfit(right) else (left, high)
    return min((misfit(each), each / 100) for each in range(low, high + 1))


@cache
def _read() -> Mapping[str, Any]:
    counts: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return counts


def _halves(name: str, order: int) -> list[Histogram]:
    sections = _read()[name]["orders"][str(order)]["halves"]
    return [_law(section, order) for section in sections]


def ngram_ratios() -> str:
    """Distinct rows over those of uniform hashing: tokens drawn anywhere, and runs of tokens."""
    rows = []
    for name, title in TITLES.items():
        for order in ORDERS:
            halves = _halves(name, order)
            sections = _read()[name]["orders"][str(order)]["halves"]
            fits = [count for count in TOKENS if str(count) in sections[0]["runs"]]
            for how in ("anywhere", "in a row"):
                cells = []
                for count in fits:
                    shares = [
                        _ratio(half, count, order)
                        if how == "anywhere"
                        else section["runs"][str(count)] / count
                        for half, section in zip(halves, sections, strict=True)
                    ]
                    cells.append(f"{sum(shares) / 2:.2f}")
                dashes = ["-"] * (len(TOKENS) - len(cells))
                rows.append((title, f"{order}", how, *cells, *dashes))
    head = ("text", "order", "tokens", *(f"{count:,}" for count in TOKENS))
    return markdown(head, rows, text=3)


def ngram_fits() -> str:
    """Laws fitted to the first half of a text: how far from it, the second half, the other text."""
    rows = []
    for (name, title), other in zip(TITLES.items(), reversed(TITLES), strict=True):
        for order in ORDERS:
            fitted = _read()[name]["orders"][str(order)]
            first, second = _halves(name, order)
            for exponent, ngrams in (
                (fitted["exponent"], different_ngrams(order)),
                tuple(fitted["free"]),
            ):
                law = _zipf(exponent, ngrams, order)
                far = (
                    max(map(abs, _distances(law, text, order)))
                    for text in (first, second, _halves(other, order)[0])
                )
                cells = (f"{100 * (exp(distance) - 1):.0f} %" for distance in far)
                rows.append((title, f"{order}", f"{exponent:.2f}", f"{ngrams:,}", *cells))
    head = (
        *("fitted to the first half of", "order", "exponent", "different n-grams"),
        *("furthest: there", "second half", "other text"),
    )
    return markdown(head, rows)


def ngram_hits() -> str:
    """The share of a second half that the commonest n-grams take, known or carried over."""
    rows = []
    for name, title in TITLES.items():
        for order in ORDERS:
            hits = _read()[name]["orders"][str(order)]["hits"]
            cells = [f"{100 * share:.0f} %" for kept in KEPT for share in hits[str(kept)]]
            rows.append((title, f"{order}", *cells))
    head = ("text", "order", *(f"{kept:,} {of}" for kept in KEPT for of in ("own", "carried")))
    return markdown(head, rows)


def ngram_values() -> dict[str, str]:
    """Numbers that stand in sentences of the page, by name."""
    values = {f"ngram_{name}_tokens": f"{text['tokens']:,}" for name, text in _read().items()}
    for order in ORDERS:
        shares = [
            _ratio(half, count, order)
            for count in (1000, 10_000)
            for name in TITLES
            for half in _halves(name, order)
        ]
        values[f"ngram_uniform_over_{order}"] = span((1 / share for share in shares), ".2f")
    return values


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make for make in (ngram_ratios, ngram_fits, ngram_hits)
}

if __name__ == "__main__":
    main()
