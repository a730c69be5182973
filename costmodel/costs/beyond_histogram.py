"""Numbers that a measured histogram cannot give, since the step has more tokens than it holds.

Formulas carry such a number as NaN, which spreads to all that depends on it. Here NaN becomes None,
with the reason, before anything is shown.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np

from costmodel.costs.latency import Unknown
from costmodel.inputs.workload import Workload
from costmodel.layers.operator import Operator
from costmodel.layers.touched import Touched
from costmodel.routing.by_population import POPULATIONS, ngram_law_of, routing_of
from costmodel.routing.histogram import AccessCounts, Histogram
from costmodel.routing.popularity import Routing

FLOOR = "time.floor_s"
OF_ROWS = "draws of rows by a token's head"
NONE = np.array(None, dtype=object)
TOLD_BY_FLOOR = ("time.bound_by", "time.fits_l2")  # comparisons with bytes, which NaN makes false


def is_unknown(value: object) -> bool:
    """Whether a number is NaN."""
    return isinstance(value, float) and isnan(value)


def or_none(value: Any) -> Any:  # noqa: ANN401 - any number of a step or of a grid
    """A number, or None in place of NaN; an array of objects in place of one that holds NaN."""
    if not isinstance(value, np.ndarray):
        return None if is_unknown(value) else value
    unknown = value != value  # noqa: PLR0124 - true of NaN alone, in arrays of objects too
    return np.where(unknown, NONE, value.astype(object)) if np.any(unknown) else value


def without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a step or of a grid by name; None where a histogram cannot give them."""
    floor = values[FLOOR]
    unknown = np.isnan(np.asarray(floor, dtype=np.float64))
    if not unknown.any():  # the bound hangs on every number of experts and rows
        return dict(values)
    known = {name: or_none(value) for name, value in values.items()}
    for name in TOLD_BY_FLOOR:
        if name in known:
            told = np.where(unknown, NONE, np.asarray(known[name], dtype=object))
            known[name] = told if isinstance(floor, np.ndarray) else None
    return known


def beyond(operators: Iterable[Operator], workload: Workload) -> Unknown | None:
    """Why the distinct experts or rows of one step are not known; None if they are."""
    tokens = workload.batch * workload.new_tokens
    unknown = [
        operator.touched
        for operator in operators
        if operator.touched is not None and is_unknown(operator.touched.distinct)
    ]
    reasons = []
    for law, section, what in _sections(unknown, workload.routing):
        if section.trials < tokens or what == OF_ROWS:  # rows count the heads of a token too
            reasons.append(
                f"{law.label}: the histogram holds {section.trials:,} {what};"
                f" a step of {tokens:,} tokens is beyond it"
            )
    return Unknown(reason="; ".join(reasons)) if reasons else None


def _sections(
    unknown: Sequence[Touched], routing: Routing
) -> Iterator[tuple[Histogram, AccessCounts, str]]:
    """The sections of histograms that say what is touched, each with what its trials are."""
    kinds = {touched.kind for touched in unknown if not touched.orders}
    for kind in POPULATIONS:
        law = routing_of(routing, kind)
        if kind in kinds and isinstance(law, Histogram) and (section := law.section(kind)):
            yield law, section, "tokens" if kind == "experts" else OF_ROWS
    orders = {order for touched in unknown for order in touched.orders}
    ngram_law = ngram_law_of(routing)
    if isinstance(ngram_law, Histogram):
        for order, section in ngram_law.ngrams:
            if order in orders:
                yield ngram_law, section, f"n-grams of order {order}"
