"""One line of errors: how well a quantity is predicted, over all rows of a group."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.recordings.error_measures import log_error, mape
from costmodel.recordings.quantities import RunName
from costmodel.validation.counterparts import BOUND_BASES
from costmodel.validation.error_stats import Entry, ErrorStats, Group

TENTH, NINE_TENTHS = 0.1, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLine:
    """How well one quantity is predicted, at one level and in one phase.

    Statistics are of pairs: a measured and a predicted number of one step; or, of leaves, of one
    operator in one case, its layers being one pair (the mean of their ratios), since they have one
    prediction.

    Attributes:
        level: `step`, or `leaf` for all leaves, or an operator kind.
        phase: `decode`, `prefill`, or `both` of a quantity that does not differ between them.
        basis: what measured numbers are compared with: a prediction, or the bound in its place.
        backend: whose kernels were measured.
        compared: rows with both numbers. Of them `equal` are equal to the unit, `no_ratio` have a
            0 on one side alone, and `by_recorded_choices` are predicted by what the run chose.
        measured_only, predicted_only, neither: rows that lack one number, or both.
        pairs: with a ratio; what the statistics below are of.
        median_ratio, low_ratio, high_ratio: median, 10th and 90th percentile of measured over
            predicted.
        error: the log error (`recordings.error_measures.log_error`). None of a bound, which
            measured numbers are not expected to equal.
        mape: mean |predicted / measured - 1| (`recordings.error_measures.mape`). None of a bound.
        weighted_mape: the same, each pair weighted by what was measured of it, all layers together:
            of kernel times, by time. None of a bound.
        worst: the row whose numbers are farthest apart.
    """

    quantity: str
    run: RunName
    level: str
    phase: str
    basis: str
    backend: str
    compared: int
    equal: int
    no_ratio: int
    by_recorded_choices: int
    measured_only: int
    predicted_only: int
    neither: int
    pairs: int
    median_ratio: float | None
    low_ratio: float | None
    high_ratio: float | None
    error: float | None
    mape: float | None
    weighted_mape: float | None
    worst: Entry | None

    @property
    def rows(self) -> int:
        """All rows, whether compared or not."""
        return self.compared + self.measured_only + self.predicted_only + self.neither


def error_line(group: Group, parts: Sequence[ErrorStats]) -> ErrorLine:
    """The statistics of several groups of rows as one line, under the name of `group`."""
    ratios = np.array([ratio for stats in parts for ratio in stats.ratios])
    low = middle = high = error = of_pairs = weighted = None
    if len(ratios):
        low, middle, high = map(float, np.quantile(ratios, (TENTH, 0.5, NINE_TENTHS)))
        if not group.basis.startswith(BOUND_BASES):
            error, of_pairs = log_error(ratios), mape(ratios)
            weighted = mape(ratios, [amount for stats in parts for amount in stats.amounts])
    worst = max(parts, key=lambda stats: (stats.worst_factor, stats.worst is not None)).worst
    return ErrorLine(
        quantity=group.quantity,
        run=group.run,
        level=group.level,
        phase=group.phase,
        basis=group.basis,
        backend=group.backend,
        compared=sum(stats.compared for stats in parts),
        equal=sum(stats.equal for stats in parts),
        no_ratio=sum(stats.no_ratio for stats in parts),
        by_recorded_choices=sum(stats.by_recorded_choices for stats in parts),
        measured_only=sum(stats.measured_only for stats in parts),
        predicted_only=sum(stats.predicted_only for stats in parts),
        neither=sum(stats.neither for stats in parts),
        pairs=len(ratios),
        median_ratio=middle,
        low_ratio=low,
        high_ratio=high,
        error=error,
        mape=of_pairs,
        weighted_mape=weighted,
        worst=worst.entry() if worst else None,
    )
