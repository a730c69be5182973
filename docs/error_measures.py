"""How far ratios of measured to predicted values are from 1, in the two usual measures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Statistics of the ratios measured / predicted.

    Attributes:
        count: number of ratios.
        median: their median.
        least: the smallest.
        most: the largest.
        log_error: exp(mean |ln ratio|) - 1, as `sparsecost validate` prints it; it is the same
            whether a prediction is too long or too short by a factor.
        mape: mean absolute percentage error, mean |predicted / measured - 1|, as a share.
    """

    count: int
    median: float
    least: float
    most: float
    log_error: float
    mape: float


def errors_of(ratios: Sequence[float]) -> Errors:
    """The statistics of at least one ratio, all positive."""
    return Errors(
        count=len(ratios),
        median=median(ratios),
        least=min(ratios),
        most=max(ratios),
        log_error=math.exp(fmean(abs(math.log(ratio)) for ratio in ratios)) - 1,
        mape=fmean(abs(1 / ratio - 1) for ratio in ratios),
    )
