"""How far the share of the roofline that one engine reaches differs between GPUs and formats.

It is the source of the width of transferred times (`costs/transfer.py`). A share is bound /
measured (`public_bounds.py`), so that a datasheet's ratio is taken off already. Two rows make a
pair if they agree in model, engine, layout, batch, lengths and what is timed, and either in
formats, on two GPUs, or on the GPU, in two formats of the weights. Versions of an engine differ, as
do the clocks and hosts of those who measured: a spread holds that too.

Rows of Hugging Face's transformers are left out: its experts run in a loop of Python, which says
nothing of a format.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from itertools import combinations
from math import log, sqrt
from statistics import mean

from costmodel.questions.published.public_bounds import RowBound

HOPPER = frozenset({"h100-sxm", "h100-pcie", "gh200-96gb", "h200"})
LOOPS = frozenset({"transformers"})  # engines that are no engines of kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareSpread:
    """The spread between two GPUs, or two formats."""

    between: tuple[str, str]
    pairs: int
    spread: float  # root mean square of ln(share of one / share of the other)


def between_gpus(bounds: Iterable[RowBound]) -> tuple[ShareSpread, ...]:
    """Of every Hopper GPU and another GPU that have equal rows."""
    spreads = _spreads(
        bounds,
        what=lambda one: one.point.setting.gpu,
        same=lambda one: (one.row.weights, one.point.setting.kv_dtype),
    )
    return tuple(one for one in spreads if HOPPER & set(one.between))


def between_formats(bounds: Iterable[RowBound]) -> tuple[ShareSpread, ...]:
    """Of every two formats of the weights that have equal rows on one GPU."""
    return _spreads(
        bounds, what=lambda one: one.row.weights, same=lambda one: (one.point.setting.gpu,)
    )


def combined(spreads: Iterable[ShareSpread]) -> float:
    """The root mean square of spreads, each counting alike however many pairs it has."""
    return sqrt(mean(one.spread**2 for one in spreads))


def _spreads(
    bounds: Iterable[RowBound],
    *,
    what: Callable[[RowBound], str],
    same: Callable[[RowBound], tuple[Hashable, ...]],
) -> tuple[ShareSpread, ...]:
    """By what differs; several rows of one side count as their mean."""
    groups: dict[Hashable, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in bounds:
        if one.row.engine not in LOOPS:
            groups[_key(one) + same(one)][what(one)].append(log(one.share))
    apart: dict[tuple[str, str], list[float]] = defaultdict(list)
    for of_key in groups.values():
        for a, b in combinations(sorted(of_key), 2):
            apart[a, b].append(mean(of_key[a]) - mean(of_key[b]))
    return tuple(
        ShareSpread(between=names, pairs=len(logs), spread=sqrt(mean(x**2 for x in logs)))
        for names, logs in sorted(apart.items())
    )


def _key(one: RowBound) -> tuple[Hashable, ...]:
    """What both rows of a pair agree in."""
    row, setting = one.row, one.point.setting
    layout = (row.gpus, row.tp, row.ep, row.dp)
    return (
        *(row.model, row.engine, *layout, row.batch, row.isl, row.osl),
        *(row.timed, setting.experts),
    )
