"""How far measured and predicted numbers are apart: the two usual measures, each defined once.

Both are means over ratios, measured over predicted, all positive. Which measure is meant always
stands beside the figure: of predictions that are too short, MAPE says less than the log error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

MAPE, LOG_ERROR = "MAPE", "log error"  # what tables and pages call them
MAPE_MEANS = "mean |predicted / measured - 1|"
LOG_ERROR_MEANS = "exp(mean |ln(measured / predicted)|) - 1"
DEVELOPMENT_SET = "development set"
DEVELOPMENT_SET_MEANS = (
    "the recordings that ship. They were seen while the cost model was written: an error over them"
    " is no accuracy on models that were never measured"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Statistics of the ratios measured / predicted.

    Attributes:
        count: number of ratios.
        median: their median.
        least: the smallest.
        most: the largest.
        log_error: see `log_error`.
        mape: see `mape`.
    """

    count: int
    median: float
    least: float
    most: float
    log_error: float
    mape: float


def mape(ratios: ArrayLike, weights: Sequence[float] | None = None) -> float:
    """Mean absolute percentage error, mean |predicted / measured - 1|, as a share.

    A prediction that is too short is at most 100 % off by it, one that is too long has no limit.
    Source: the usual definition, for example Hyndman and Koehler, Int. J. Forecasting 22(4), 2006.

    Args:
        ratios: Measured over predicted, at least one, all positive.
        weights: Of each ratio. With the measured amounts as weights the mean is the sum of
            |predicted - measured| over the sum of measured: the error that a sum may have.
    """
    return float(np.average(np.abs(1 / np.asarray(ratios) - 1), weights=weights))


def log_error(ratios: ArrayLike) -> float:
    """exp(mean |ln(measured / predicted)|) - 1, as a share: twice and half are both 100 % off.

    It is the same whether a prediction is too long or too short by a factor.
    """
    return float(np.expm1(np.abs(np.log(ratios)).mean()))


def errors_of(ratios: Sequence[float]) -> Errors:
    """The statistics of at least one ratio, all positive."""
    return Errors(
        count=len(ratios),
        median=float(np.median(ratios)),
        least=min(ratios),
        most=max(ratios),
        log_error=log_error(ratios),
        mape=mape(ratios),
    )
