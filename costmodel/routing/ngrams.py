"""The popularity of n-grams: a Zipf law for each order, of a stated number of different n-grams.

A table addressed by n-grams (Engram, per-layer embeddings) reads few different rows where a text
repeats itself. How often it does depends on the order n: words repeat often, runs of four seldom.
"""

from dataclasses import dataclass

from costmodel.errors import InputError
from costmodel.routing.expectation import Expected, Trials, different_ngrams
from costmodel.routing.popularity import Zipf

MAX_ORDER = 8  # tokens of an n-gram; models use 2 to 4


@dataclass(frozen=True, slots=True)
class OrderLaw:
    """Zipf's law of the n-grams of one order."""

    law: Zipf
    ngrams: int | None = None  # different ones; None: `different_ngrams` of the order

    def count(self, order: int) -> int:
        """How many different n-grams there are, for a law of this order."""
        return different_ngrams(order) if self.ngrams is None else self.ngrams


@dataclass(frozen=True, slots=True)
class ZipfByOrder:
    """Zipf's law of n-grams with an exponent for each order, from 1 on.

    It says nothing of experts, nor of rows that scores choose.
    """

    laws: tuple[OrderLaw, ...]

    @property
    def label(self) -> str:
        """`zipf:` and the exponents, with the numbers that were stated: `zipf:1.0/0.9@1000`."""
        each = (
            f"{law.law.exponent}" + ("" if law.ngrams is None else f"@{law.ngrams}")
            for law in self.laws
        )
        return f"zipf:{'/'.join(each)}"

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """`Zipf.expected_distinct_hashed` of the law of this order."""
        law = self._of(order)
        return law.law.hashed_distinct(population, trials, order, law.count(order))

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> float:
        """`Zipf.hot_share_hashed` of the law of this order."""
        law = self._of(order)
        return law.law.hashed_hot_share(population, kept, order, law.count(order))

    def _of(self, order: int) -> OrderLaw:
        if not 1 <= order <= len(self.laws):
            raise InputError(
                f"routing=ngrams={self.label}: has exponents of the orders 1 to {len(self.laws)};"
                f" the model has n-grams of order {order}"
            )
        return self.laws[order - 1]
