"""A cache in HBM of the most popular rows of tables elsewhere: what is left to be read there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from costmodel.costs.storage import kind_operators
from costmodel.costs.table_rows import touched_rows
from costmodel.layers.base import MemoryKind
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Step
from costmodel.layers.touched import Touched
from costmodel.routing.cold import Cold, hot_shares
from costmodel.routing.expectation import along_first

ALL = 1  # the share of rows that are read from outside HBM where nothing is cached


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """What a cache of the most popular rows leaves to be read from elsewhere: shares."""

    distinct: Number = ALL  # of a layer's distinct rows
    reads: Number = ALL  # of its reads, popular rows counted as often as they are read


def missed_shares(  # noqa: PLR0917 - of one kind
    whole: Touched,
    memory: MemoryKind,
    layers: Sequence[int],
    hidden_size: int,
    step: Step,
    cached_share: float,
) -> Missed:
    """What the cache does not hold of what a layer touches, which is `whole`.

    Formula: of distinct rows, those that the kind touches under a routing without the cached rows,
    over those that it touches in all; of reads, 1 less the share of `_hits`; both less what the
    cache holds by chance.
    Source: `hot_shares` of costmodel/routing/cold.py; linearity of expectation.
    """
    own, by_chance = hot_shares(cached_share, whole.table_rows, whole.windows)
    outside = replace(step, routing=Cold(step.routing, own))
    operators = kind_operators(memory, layers, hidden_size, outside)
    cold = touched_rows(operators)
    assert cold is not None
    reads = max(
        weight.active_rows or 0
        for operator in operators
        for weight in operator.weights
        if weight.group == "memory_values"
    )
    hits = _hits(step, whole, reads, own)
    return Missed(
        distinct=cold.distinct / whole.distinct * (1 - by_chance),
        reads=(1 - hits) * (1 - by_chance),
    )


def _hits(step: Step, whole: Touched, reads: int, cached: float) -> Number:
    """The share of a token's reads that find their row among the cached share of all rows.

    Formula: of rows that scores choose, the accesses to the most popular ones; of hashed n-grams
    the mean of that over their orders, whose columns are as many and as long.
    """
    if not whole.orders:
        kept = int(cached * whole.population)
        share = step.routing.hot_share(whole.population, reads, kept, kind="rows")
        return along_first(share, whole.distinct)
    column = whole.population // reads
    kept = int(cached * column)
    shares: Number = 0.0
    for order in whole.orders:
        shares = shares + step.routing.hot_share_hashed(column, kept, order=order)
    return along_first(shares / len(whole.orders), whole.distinct)
